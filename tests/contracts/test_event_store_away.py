"""The contract while the log is away: which units are ``Spooled``, which are refused, and what a status says.

Only a store with a spool can answer the first; how it comes back is in ``tests/events/test_fallback``.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from events.envelope import ANY, KEYS, MAX_UNIT_EVENTS, NEW, SYSTEM, Fence, StreamWrite
from events.errors import BadEvent, EventTooLarge, StoreUnavailable
from events.store import Appended, EventStore, Spooled, StoreStatus
from tests.events.wavering import Changes, WaveringStore, spooling
from tests.factories import event, events, new_stream, raw, write


class Away(msgspec.Struct, frozen=True):
    """A store whose log was there and is away now."""

    store: EventStore
    log: WaveringStore
    changes: Changes


@pytest_asyncio.fixture
async def away(tmp_path: Path) -> AsyncIterator[Away]:
    log = WaveringStore()
    async with spooling(log, tmp_path) as store:
        await store.append(write(KEYS))
        log.away = True
        yield Away(store, log, Changes(store))


FACTS: dict[str, tuple[StreamWrite, ...]] = {
    "one event": (write("session-a"),),
    "several streams": (write("container-c", *events(2)), write(SYSTEM), write("session-a")),
    "the largest unit": (write("session-a", *events(MAX_UNIT_EVENTS)),),
    "a type of a later release": (write("session-a", raw(type="session.sung")),),
}
DECISIONS: dict[str, tuple[StreamWrite, ...]] = {
    "a new stream": (write("session-b", expected=NEW),),
    "a version that is true": (write(KEYS, expected=1),),
    "a version that is false": (write(KEYS, expected=7),),
    "a fact beside a decision": (write("session-a"), write("session-b", expected=NEW)),
}


@pytest.mark.parametrize("fact", FACTS)
async def test_what_expects_nothing_is_spooled_and_is_in_the_log_when_it_is_back(away: Away, fact: str) -> None:
    assert await away.store.append(*FACTS[fact]) == Spooled()
    assert await away.store.append(*FACTS[fact]) == Spooled()  # the same again: one unit in the log
    away.log.away = False
    await away.changes.until(True)
    written = [one.event_id for one in (await away.store.read_log())[1:]]
    assert written == [one.event_id for unit in FACTS[fact] for one in unit.events]
    again = await away.store.append(*FACTS[fact])
    assert isinstance(again, Appended) and again.duplicate


@pytest.mark.parametrize("decision", DECISIONS)
async def test_what_expects_a_version_is_unavailable(away: Away, decision: str) -> None:
    """Nothing of it is kept: the caller decides again when the log can say what is true."""
    with pytest.raises(StoreUnavailable):
        await away.store.append(*DECISIONS[decision])
    with pytest.raises(StoreUnavailable):
        await away.store.append(*DECISIONS[decision])
    away.log.away = False
    await away.changes.until(True)
    assert len(await away.store.read_log()) == 1


async def test_what_is_fenced_is_unavailable(away: Away) -> None:
    """Whether the lease is still held is for the log to say."""
    with pytest.raises(StoreUnavailable):
        await away.store.append(write(new_stream()), fence=Fence("job", 1))
    assert away.store.status.spooled_units == 0


async def test_what_may_not_be_written_is_refused_as_ever(away: Away) -> None:
    with pytest.raises(BadEvent):
        await away.store.append(StreamWrite("nobody", ANY, (event(),)))
    with pytest.raises(EventTooLarge):
        await away.store.append(write(new_stream(), *events(MAX_UNIT_EVENTS + 1)))
    assert away.store.status.spooled_units == 0


async def test_reads_are_unavailable(away: Away) -> None:
    await away.store.append(write(new_stream()))
    with pytest.raises(StoreUnavailable):
        await away.store.head()
    with pytest.raises(StoreUnavailable):
        await away.store.read_stream(KEYS)


async def test_status_tells_since_when_and_how_much_waits(away: Away) -> None:
    assert away.store.status == StoreStatus()
    for _ in range(3):
        await away.store.append(write(new_stream(), *events(2)))
    status = away.store.status
    assert not status.available and status.away_since is not None
    assert status.spooled_units == 3 and status.spooled_bytes > 6 * 100


async def test_a_store_that_is_well_holds_nothing_back(event_store: EventStore) -> None:
    await event_store.append(write(new_stream()))
    assert event_store.status == StoreStatus()
