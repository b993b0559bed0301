"""Cursors: only ours go on, in the log they are of, where they were, for what was asked; nowhere else."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import SYSTEM, RecordedEvent
from events.filter import EventFilter
from events.mark import Mark
from events.memory import MemoryEventStore
from gateway.access.tokens import Secret, Tokens
from gateway.api import cursor as cursors
from gateway.api.cursor import Cursor
from gateway.errors import Refused
from gateway.names import MAX_ACTOR, MAX_TYPES
from tests.factories import event, write
from tests.forks import restored

WANTED = EventFilter(types=("session.*",), session_id="ses_1", trace_id=bytes(range(16)), correlation_id=UUID(int=7))
TOKENS = Tokens(Secret.of(b"s" * 32), 43)
CURSOR = Cursor(
    log_id=UUID(int=1),
    position=9,
    mark=Mark(9, UUID(int=2), datetime(2026, 1, 18, 22, 29, 4, 123456, UTC)),
    until=12,
    wanted=WANTED,
)


def text_of(cursor: msgspec.Struct, of: str = "events", tokens: Tokens = TOKENS) -> str:
    return cursors.encode(tokens, cursor, of=of)


async def of_place(store: MemoryEventStore, position: int, seen: Sequence[RecordedEvent] = ()) -> str:
    return await cursors.at(TOKENS, store, position, of="events", wanted=WANTED, seen=seen)


def read(text: str) -> Cursor:
    return cursors.decode(TOKENS, text, Cursor, of="events")


async def log(count: int = 3) -> MemoryEventStore:
    store = MemoryEventStore()
    for _ in range(count):
        await store.append(write(SYSTEM, event()))
    return store


def refusal(text: str, of: str = "events") -> str:
    with pytest.raises(Refused) as refused:
        cursors.decode(TOKENS, text, Cursor, of=of)
    assert refused.value.slug == "bad-cursor"
    return refused.value.detail


def test_a_cursor_comes_back_as_it_was() -> None:
    text = text_of(CURSOR)
    assert cursors.decode(TOKENS, text, Cursor, of="events") == CURSOR
    assert text.replace("-", "").replace("_", "").isalnum() and len(text) < 400


@given(st.data())
def test_a_cursor_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    text = text_of(CURSOR)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda each: each != text[at]))
    refusal(text[:at] + letter + text[at + 1 :])


@pytest.mark.parametrize("text", ["", "x", "a" * 17, "a" * 9000, "=", "\u0661", "a b", "%00", text_of(CURSOR) + "="])
def test_garbage_is_refused(text: str) -> None:
    refusal(text)


def test_a_cursor_that_was_made_by_hand_is_refused() -> None:
    """Its reader knows how one is made, all but the secret: the place in it would be one of their choice."""
    body = msgspec.msgpack.encode(CURSOR)
    for seal in (hashlib.sha256(body).digest()[:16], bytes(16), Tokens(Secret.of(b""), 43).seal_of("events", body)):
        refusal(base64.urlsafe_b64encode(seal + body).rstrip(b"=").decode())
    refusal(text_of(CURSOR, tokens=Tokens(Secret.of(b"t" * 32), 43)))


def test_a_cursor_of_another_shape_is_refused() -> None:
    """Of a release in which it was forgotten to say so: the seal is right, and nothing in it is understood."""

    class Other(msgspec.Struct, array_like=True):
        word: str

    assert "release" in refusal(text_of(Other("x")))


def test_a_cursor_of_another_reading_is_refused() -> None:
    assert "another reading" in refusal(text_of(CURSOR), of="access-history/ses_1")


async def test_it_goes_on_where_the_log_holds_its_event() -> None:
    store = await log()
    for position in (0, 1, 3):
        found = read(await of_place(store, position))
        assert (found.position, found.wanted) == (position, WANTED)
        await cursors.verify(store, found)


async def test_an_event_that_was_just_read_is_not_looked_up_again() -> None:
    store = await log()
    seen = await store.read_log()
    assert await of_place(store, 3, seen=seen) == await of_place(store, 3)
    assert read(await of_place(store, 2, seen=seen)).mark == Mark.of(seen[1])


@pytest.mark.parametrize(
    "wrong", [{"position": -1}, {"position": 10**9}, {"position": 2}, {"until": 2}, {"mark": None}, {"position": 2**63}]
)
async def test_a_place_that_no_reading_can_have_is_refused(wrong: dict[str, object]) -> None:
    """Ours are places; one that is not says of itself that something is wrong, before a store is asked for it."""
    store = await log()
    found = msgspec.structs.replace(read(await of_place(store, 3)), **wrong)
    with pytest.raises(Refused, match="no place") as refused:
        await cursors.verify(store, found)
    assert refused.value.slug == "bad-cursor"


async def test_it_is_refused_by_another_log() -> None:
    found = read(await of_place(await log(), 2))
    with pytest.raises(Refused, match="is of the log"):
        await cursors.verify(await log(), found)


@pytest.mark.parametrize("grown", [0, 1, 3])
async def test_it_is_refused_by_a_log_that_has_lost_its_event(grown: int) -> None:
    """Restored, and perhaps grown beyond the place since: another event stands there."""
    store = await log()
    found = read(await of_place(store, 3))
    backup = restored(store, 2)
    for _ in range(grown):
        await backup.append(write(SYSTEM, event()))
    with pytest.raises(Refused, match="at position 3"):
        await cursors.verify(backup, found)


def test_the_longest_filter_fits() -> None:
    """What can be asked for page by page must be able to go on."""
    longest = EventFilter(
        types=tuple(f"{'x' * 50}.{'y' * 46}_{n:03}" for n in range(MAX_TYPES)),
        stream_id="container-" + "c" * 100,
        session_id="s" * 100,
        actor="container:" + "\U00010348" * MAX_ACTOR,
        trace_id=bytes(16),
        correlation_id=UUID(int=7),
    )
    text = text_of(msgspec.structs.replace(CURSOR, wanted=longest, position=2**62, until=2**62))
    assert read(text).wanted == longest
