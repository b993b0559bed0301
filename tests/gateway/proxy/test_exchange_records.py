"""What an exchange's events say, and of whom they say nothing."""

import pytest

from events.catalogue import ExchangeClosed, ExchangeCompleted, ExchangeOpened
from events.codec import decode_actor
from events.envelope import ActorKind, container_stream
from events.sealing import Place, unseal
from gateway.proxy import errors as proxy_errors
from gateway.proxy.errors import ContainerBroke, ProxyError
from gateway.proxy.exchange_records import MOST_PATH, error_word
from gateway.recorder import session_subject
from tests.factories import CAUSE
from tests.gateway.proxy.recording import OPENED, exchange, result, writing


async def test_a_record_says_what_happened_and_nothing_of_whom() -> None:
    """The envelope names request, trace and actor; path and client can be opened with the session's key alone."""
    async with writing() as it:
        ended = exchange(path="/letters/bob")
        it.log.ended(ended, result(error=ContainerBroke("it broke")), 200, was_opened=False)
        (told,) = await it.payloads()
        (event,) = await it.store.read_log()
    assert told == ExchangeCompleted(
        session_id="s1",
        container="c1",
        exchange_id=str(ended.exchange_id),
        method="POST",
        path=told.path,
        client=told.client,
        status=200,
        bytes_in=3,
        bytes_out=7,
        first_byte_us=2,
        duration_us=9_999,
        ended_by="container",
        error="container_broke",
    )
    assert (event.stream_id, event.correlation_id, event.trace_id, event.span_id) == (
        container_stream("c1"),
        CAUSE.correlation_id,
        CAUSE.trace_id,
        CAUSE.span_id,
    )
    actor = decode_actor(event)
    assert (actor.kind, actor.id) == (ActorKind.SESSION, "s1")
    assert b"bob" not in event.payload and b"192.0.2.7" not in event.payload
    key = await it.keyring.key_for(session_subject("s1"))
    assert unseal(key, told.path, Place(event.stream_id, event.type, "path")) == "/letters/bob"
    assert unseal(key, told.client, Place(event.stream_id, event.type, "client")) == "192.0.2.7"


async def test_a_stream_has_a_beginning_and_an_end() -> None:
    async with writing() as it:
        lasting = exchange()
        assert it.log.opened(lasting, OPENED)
        it.log.ended(lasting, result(is_stream=True, close_code=4001), 101, was_opened=True)
        opened, closed = await it.payloads()
    assert isinstance(opened, ExchangeOpened) and isinstance(closed, ExchangeClosed)
    assert opened.exchange_id == closed.exchange_id == str(lasting.exchange_id)
    assert closed.status == 4001


async def test_a_long_path_is_kept_in_part() -> None:
    """An event has room for 64 KiB; a request line may have more, and its record must not fail for it."""
    async with writing() as it:
        it.log.ended(exchange(path="/" + "a" * 200_000), result(), 200, was_opened=False)
        (told,) = await it.payloads()
        key = await it.keyring.key_for(session_subject("s1"))
    assert unseal(key, told.path, Place("container-c1", "exchange.completed", "path")) == "/" + "a" * (MOST_PATH - 1)


async def test_after_an_erasure_nobody_keeps_the_key() -> None:
    """A session may outlive its owner's erasure: what it does then is sealed too, and for nobody to open."""
    async with writing() as it:
        owner = await it.keyring.key_for("ada")
        await it.keyring.erase("ada")
        it.log.ended(exchange(owner_key=owner.id), result(), 200, was_opened=False)
        (told,) = await it.payloads()
        assert told.path.k != owner.id
        assert await it.keyring.keys([told.path.k]) == {}


async def test_a_session_of_nobody_can_be_erased_while_it_lives() -> None:
    async with writing() as it:
        (gone,) = await it.keyring.erase(session_subject("s1"))
        it.log.opened(exchange(), OPENED)
        it.log.ended(exchange(), result(), 200, was_opened=False)
        told = await it.payloads()
        keys = {field.k for each in told for field in (each.path, each.client)}
        assert len(told) == 2 and gone not in keys
        assert await it.keyring.keys(keys) == {}
        assert await it.keyring.key_of(session_subject("s1")) is None, "the erasure is not undone"


@pytest.mark.parametrize("error", [kind for kind in vars(proxy_errors).values() if isinstance(kind, type)])
def test_errors_have_a_word_each(error: type[ProxyError]) -> None:
    """What the log can be searched for: lower case, one word a class."""
    word = error_word(result(error=error("x")))
    assert word is not None and word.replace("_", "").isalpha() and word == word.lower()
    assert "".join(part.capitalize() for part in word.split("_")) == error.__name__


def test_no_error_has_no_word() -> None:
    assert error_word(result()) is None
