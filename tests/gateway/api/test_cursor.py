"""Cursors: they go on in the log they are of, where they were, for what was asked; nowhere else."""

import base64
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import SYSTEM
from events.filter import EventFilter
from events.mark import Mark
from events.memory import MemoryEventStore
from gateway.api import cursor as cursors
from gateway.api.cursor import Cursor
from gateway.errors import Refused
from tests.factories import event, write
from tests.forks import restored

WANTED = EventFilter(types=("session.*",), session_id="ses_1", trace_id=bytes(range(16)), correlation_id=UUID(int=7))
CURSOR = Cursor(
    of="events",
    log_id=UUID(int=1),
    position=9,
    mark=Mark(9, UUID(int=2), datetime(2026, 1, 18, 22, 29, 4, 123456, UTC)),
    until=12,
    wanted=WANTED,
)


async def log(count: int = 3) -> MemoryEventStore:
    store = MemoryEventStore()
    for _ in range(count):
        await store.append(write(SYSTEM, event()))
    return store


def refusal(text: str, of: str = "events") -> str:
    with pytest.raises(Refused) as refused:
        cursors.decode(text, of=of)
    assert refused.value.slug == "bad-cursor"
    return refused.value.detail


def test_a_cursor_comes_back_as_it_was() -> None:
    text = cursors.encode(CURSOR)
    assert cursors.decode(text, of="events") == CURSOR
    assert text.replace("-", "").replace("_", "").isalnum() and len(text) < 400


@given(st.data())
def test_a_cursor_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    text = cursors.encode(CURSOR)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda each: each != text[at]))
    refusal(text[:at] + letter + text[at + 1 :])


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 17, "a" * 5000, "=", "\u0661", "a b", "%00", cursors.encode(CURSOR) + "="]
)
def test_garbage_is_refused(text: str) -> None:
    refusal(text)


def test_a_cursor_of_another_release_is_refused_as_damaged() -> None:
    """Its shape may change: then its hash is right, and nothing in it is understood."""
    body = msgspec.msgpack.encode(["events", "x"])
    text = base64.urlsafe_b64encode(cursors._hash(body) + body).rstrip(b"=").decode()
    assert "another release" in refusal(text)


def test_a_cursor_of_another_reading_is_refused() -> None:
    assert "another reading" in refusal(cursors.encode(CURSOR), of="access-history/ses_1")


async def test_it_goes_on_where_the_log_holds_its_event() -> None:
    store = await log()
    for position in (0, 1, 3):
        text = await cursors.at(store, position, of="events", wanted=WANTED)
        found = cursors.decode(text, of="events")
        assert (found.position, found.wanted) == (position, WANTED)
        await cursors.verify(store, found)


async def test_an_event_that_was_just_read_is_not_looked_up_again() -> None:
    store = await log()
    seen = await store.read_log()
    assert await cursors.at(store, 3, of="events", wanted=WANTED, seen=seen) == await cursors.at(
        store, 3, of="events", wanted=WANTED
    )
    assert cursors.decode(
        await cursors.at(store, 2, of="events", wanted=WANTED, seen=seen), of="events"
    ).mark == Mark.of(seen[1])


async def test_it_is_refused_by_another_log() -> None:
    found = cursors.decode(await cursors.at(await log(), 2, of="events", wanted=WANTED), of="events")
    with pytest.raises(Refused, match="is of the log"):
        await cursors.verify(await log(), found)


@pytest.mark.parametrize("grown", [0, 1, 3])
async def test_it_is_refused_by_a_log_that_has_lost_its_event(grown: int) -> None:
    """Restored, and perhaps grown beyond the place since: another event stands there."""
    store = await log()
    found = cursors.decode(await cursors.at(store, 3, of="events", wanted=WANTED), of="events")
    backup = restored(store, 2)
    for _ in range(grown):
        await backup.append(write(SYSTEM, event()))
    with pytest.raises(Refused, match="at position 3"):
        await cursors.verify(backup, found)
