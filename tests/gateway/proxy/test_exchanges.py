"""The records of what was proxied: behind the answer, bounded, and none of them lost or told twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import ExchangeClosed, ExchangeCompleted, ExchangeOpened, ExchangeSummarized
from events.codec import decode, decode_actor
from events.envelope import ActorKind, container_stream
from events.errors import UnreadableEvent
from events.ids import uuid7
from events.keyring import MemoryKeyring
from events.sealing import Place, SubjectKey, unseal
from gateway.proxy import errors as proxy_errors
from gateway.proxy.errors import ContainerBroke, ProxyError
from gateway.proxy.exchanges import BATCH, MOST_PATH, RETRY_SECONDS, Exchange, ExchangeLog, error_word
from gateway.proxy.result import EndedBy, ExchangeResult, Opened
from gateway.recorder import Recorder, Who, session_subject
from tests.event_fixtures import until
from tests.factories import CAUSE
from tests.gateway.faulty import FaultyStore

OPENED = Opened(200, True, 5_000)


class Keyring(MemoryKeyring):
    """``broken``: the ids of keys that cannot be unwrapped, as after a change of the sealing secret."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()

    async def keys(self, ids: Any) -> dict[str, SubjectKey]:
        wanted = set(ids)
        if wanted & self.broken:
            raise UnreadableEvent("wrapped under another sealing secret")
        return await super().keys(wanted)


class Written:
    """An ExchangeLog that writes, and what it wrote."""

    def __init__(self, capacity: int) -> None:
        self.store = FaultyStore()
        self.keyring = Keyring()
        self.log = ExchangeLog(Recorder(self.store, self.keyring), capacity=capacity)

    async def payloads(self) -> list[Any]:
        assert await self.log.flush(10)
        return [decode(event) for event in await self.store.read_log(limit=10_000)]


@contextlib.asynccontextmanager
async def writing(capacity: int = 10_000) -> AsyncIterator[Written]:
    it = Written(capacity)
    task = asyncio.create_task(it.log.run())
    try:
        yield it
        assert not task.done(), "it died of what it was given"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def exchange(container: str = "c1", *, owner_key: str | None = None, path: str = "/x") -> Exchange:
    return Exchange(
        exchange_id=uuid7(),
        session_id="s1",
        container=container,
        owner_key=owner_key,
        kind="http",
        method="POST",
        path=path,
        client="192.0.2.7",
        who=Who(kind=ActorKind.SESSION, id="s1"),
        cause=CAUSE,
    )


def result(bytes_out: int = 7, error: ProxyError | None = None, **more: Any) -> ExchangeResult:
    return ExchangeResult(
        status=200,
        started=True,
        bytes_in=3,
        bytes_out=bytes_out,
        first_byte_ns=2_500,
        duration_ns=9_999_000,
        ended_by=EndedBy.CONTAINER,
        reason="complete",
        error=error,
        **more,
    )


async def test_a_record_says_what_happened_and_nothing_of_whom() -> None:
    """The envelope names request, trace and actor; path and client can be opened with the session's key alone."""
    async with writing() as it:
        ended = exchange(path="/letters/bob")
        it.log.ended(ended, result(error=ContainerBroke("it broke")), 200, was_stream=False)
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
        it.log.ended(lasting, result(is_stream=True, close_code=4001), 101, was_stream=True)
        opened, closed = await it.payloads()
    assert isinstance(opened, ExchangeOpened) and isinstance(closed, ExchangeClosed)
    assert opened.exchange_id == closed.exchange_id == str(lasting.exchange_id)
    assert closed.status == 4001


async def test_a_long_path_is_kept_in_part() -> None:
    """An event has room for 64 KiB; a request line may have more, and its record must not fail for it."""
    async with writing() as it:
        it.log.ended(exchange(path="/" + "a" * 200_000), result(), 200, was_stream=False)
        (told,) = await it.payloads()
        key = await it.keyring.key_for(session_subject("s1"))
    assert unseal(key, told.path, Place("container-c1", "exchange.completed", "path")) == "/" + "a" * (MOST_PATH - 1)


async def test_after_an_erasure_nobody_keeps_the_key() -> None:
    """A session may outlive its owner's erasure: what it does then is sealed too, and for nobody to open."""
    async with writing() as it:
        owner = await it.keyring.key_for("ada")
        await it.keyring.erase("ada")
        it.log.ended(exchange(owner_key=owner.id), result(), 200, was_stream=False)
        (told,) = await it.payloads()
        assert told.path.k != owner.id
        assert await it.keyring.keys([told.path.k]) == {}


async def test_nothing_is_lost_when_the_log_comes_back() -> None:
    """Records wait in their order, with their ids, for as long as it takes."""
    async with writing() as it:
        it.store.away = True
        for size in range(3 * BATCH):
            it.log.ended(exchange(), result(size), 200, was_stream=False)
        await until(lambda: _refused(it, 2))
        assert it.log.waiting == 3 * BATCH
        assert not await it.log.flush(0.01)
        it.store.away = False
        told = await it.payloads()
    assert [record.bytes_out for record in told] == list(range(3 * BATCH))
    assert it.log.waiting == 0


async def _refused(it: Written, times: int) -> bool:
    return it.store.refused >= times


async def test_a_full_queue_folds_into_a_sum() -> None:
    """Past the queue's end nothing vanishes silently: one sum a container, with figures that add up."""
    async with writing(capacity=10) as it:
        it.store.away = True
        it.log.ended(exchange(), result(), 200, was_stream=False)
        await until(lambda: _refused(it, 1))
        for number in range(100):
            error = ContainerBroke("it broke") if number % 4 == 0 else None
            it.log.ended(exchange(f"c{number % 2}"), result(10, error), 200, was_stream=False)
        assert it.log.waiting == 101
        it.store.away = False
        told = await it.payloads()
    sums = [each for each in told if isinstance(each, ExchangeSummarized)]
    whole = [each for each in told if isinstance(each, ExchangeCompleted)]
    assert sorted(each.container for each in sums) == ["c0", "c1"]
    assert {each.reason for each in sums} == {"queue_full"}
    assert len(whole) + sum(each.exchanges for each in sums) == 101
    assert sum(each.bytes_out for each in whole) + sum(each.bytes_out for each in sums) == 7 + 1000
    assert sum(each.error is not None for each in whole) + sum(each.failed for each in sums) == 25


async def test_a_stream_that_finds_no_room_is_one_exchange() -> None:
    """Its beginning was not told, so its end is told whole; counted once, whether in a sum or by itself."""
    async with writing(capacity=1) as it:
        it.store.away = True
        it.log.ended(exchange(), result(), 200, was_stream=False)
        await until(lambda: _refused(it, 1))
        it.log.ended(exchange(), result(), 200, was_stream=False)
        lasting = exchange()
        assert not it.log.opened(lasting, OPENED)
        it.store.away = False
        await it.payloads()
        it.log.ended(lasting, result(is_stream=True), 200, was_stream=False)
        told = await it.payloads()
    (whole,) = [each for each in told if getattr(each, "exchange_id", "") == str(lasting.exchange_id)]
    assert isinstance(whole, ExchangeCompleted)
    count = sum(each.exchanges if isinstance(each, ExchangeSummarized) else 1 for each in told)
    assert count == 3


async def test_a_sum_waits_for_the_log_without_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the records written and only a sum left, a log that goes away again must not be asked in a loop."""
    async with writing(capacity=1) as it:
        it.store.away = True
        for _ in range(3):
            it.log.ended(exchange(), result(), 200, was_stream=False)
        await until(lambda: _refused(it, 1))
        it.store.away, append = False, it.store.append

        async def only_records(*writes: Any, fence: Any = None) -> Any:
            if any(event.type == "exchange.summarized" for write in writes for event in write.events):
                it.store.away = True
            return await append(*writes, fence=fence)

        monkeypatch.setattr(it.store, "append", only_records)  # away again just before the sum
        await until(lambda: _refused(it, 2))
        before = it.store.refused
        await asyncio.sleep(2 * RETRY_SECONDS)
        assert it.store.refused - before <= 3
        monkeypatch.undo()
        it.store.away = False
        told = await it.payloads()
    assert sum(each.exchanges if isinstance(each, ExchangeSummarized) else 1 for each in told) == 3


async def test_what_was_written_without_an_answer_is_told_once() -> None:
    """The log took it and the answer was lost: asked again with the same ids, records and sums are duplicates."""
    async with writing(capacity=2) as it:
        it.store.away = True
        it.log.ended(exchange(), result(1), 200, was_stream=False)
        await until(lambda: _refused(it, 1))
        for _ in range(5):
            it.log.ended(exchange(), result(1), 200, was_stream=False)
        it.store.lost_answers, it.store.away = 4, False
        told = await it.payloads()
    assert it.store.lost_answers == 0
    assert sum(each.exchanges if isinstance(each, ExchangeSummarized) else 1 for each in told) == 6
    assert sum(each.bytes_out for each in told) == 6


async def test_one_record_that_cannot_be_made_ends_no_other() -> None:
    """A sealing secret that was changed under a session: its own record is a sum, its neighbours stand as they are."""
    async with writing() as it:
        it.keyring.broken.add("sk_lost")
        for number in range(9):
            broken = "sk_lost" if number in (0, 4) else None
            it.log.ended(exchange(owner_key=broken), result(1), 200, was_stream=False)
        told = await it.payloads()
        it.log.ended(exchange(), result(1), 200, was_stream=False)
        assert len(await it.payloads()) == len(told) + 1
    (summary,) = [each for each in told if isinstance(each, ExchangeSummarized)]
    assert (summary.reason, summary.exchanges, summary.bytes_out) == ("unwritable", 2, 2)
    assert len([each for each in told if isinstance(each, ExchangeCompleted)]) == 7


@pytest.mark.parametrize("error", [kind for kind in vars(proxy_errors).values() if isinstance(kind, type)])
def test_errors_have_a_word_each(error: type[ProxyError]) -> None:
    """What the log can be searched for: lower case, one word a class."""
    word = error_word(result(error=error("x")))
    assert word is not None and word.replace("_", "").isalpha() and word == word.lower()
    assert "".join(part.capitalize() for part in word.split("_")) == error.__name__


def test_no_error_has_no_word() -> None:
    assert error_word(result()) is None


@given(st.lists(st.sampled_from(["ended", "stream", "away", "back", "lost"]), max_size=60))
def test_every_exchange_is_counted_once(steps: list[str]) -> None:
    """Whatever comes, and whenever the log is away or its answers get lost: as many are told as there were."""

    async def play() -> None:
        async with writing(capacity=4) as it:
            happened, lasting = 0, list[tuple[Exchange, bool]]()
            for step in steps:
                match step:
                    case "away" | "back":
                        it.store.away = step == "away"
                    case "lost":
                        it.store.lost_answers += 1
                    case "ended":
                        happened += 1
                        it.log.ended(exchange(), result(1), 200, was_stream=False)
                    case _ if lasting:
                        one, was_stream = lasting.pop()
                        it.log.ended(one, result(1), 200, was_stream=was_stream)
                    case _:
                        happened += 1
                        one = exchange()
                        lasting.append((one, it.log.opened(one, OPENED)))
                await asyncio.sleep(0)
            it.store.away = False
            for one, was_stream in lasting:
                it.log.ended(one, result(1), 200, was_stream=was_stream)
            told = await it.payloads()
        begun = [each.exchange_id for each in told if isinstance(each, ExchangeOpened)]
        closed = [each.exchange_id for each in told if isinstance(each, ExchangeClosed)]
        assert set(closed) <= set(begun) and len(closed) == len(set(closed))
        folded_ends = len(begun) - len(closed)  # a stream whose end alone found no room is in a sum
        whole = sum(isinstance(each, ExchangeCompleted) for each in told)
        sums = sum(each.exchanges for each in told if isinstance(each, ExchangeSummarized))
        assert whole + len(begun) + sums - folded_ends == happened
        assert sum(getattr(each, "bytes_out", 0) for each in told) == happened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.proxy.exchanges.RETRY_SECONDS", 0.001)  # many plays
        asyncio.run(play())
