"""The contract of ``events.store.EventStore``, over each backend: what is appended and what is refused.

Reading it back is in ``test_event_store_reading``. New behaviour is first a case here.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from events.envelope import (
    ADMISSION,
    ANY,
    KEYS,
    MAX_PAYLOAD_BYTES,
    MAX_UNIT_EVENTS,
    NEW,
    SYSTEM,
    EventData,
    Fence,
    StreamWrite,
)
from events.errors import BadEvent, EventTooLarge
from events.fallback import FallbackEventStore
from events.ids import uuid7
from events.lease import PostgresLeases
from events.memory import MemoryEventStore
from events.postgres import PostgresEventStore
from events.store import Appended, Conflict, EventStore, Fenced, Mismatch
from tests.contracts.stores import appended, head_of
from tests.factories import event, events, new_stream, raw, write


async def test_events_stand_in_order_without_gaps(event_store: EventStore) -> None:
    """Positions run on from the head, versions from 1, and the outcome names both."""
    base, stream = await head_of(event_store), new_stream()
    outcome = await appended(event_store, write(stream, *events(3), expected=NEW))
    assert outcome == Appended(base + 1, base + 3, (1, 2, 3))
    assert await head_of(event_store) == base + 3


async def test_unit_over_several_streams_is_in_the_order_of_its_writes(event_store: EventStore) -> None:
    base, first, second = await head_of(event_store), new_stream(), new_stream()
    await appended(event_store, write(second, event()))
    outcome = await appended(event_store, write(first, *events(2), expected=NEW), write(second, event(), expected=1))
    assert outcome == Appended(base + 2, base + 4, (1, 2, 2))
    unit = await event_store.read_log(after=base + 1)
    assert [(one.stream_id, one.version) for one in unit] == [(first, 1), (first, 2), (second, 2)]
    assert len({one.recorded_at for one in unit}) == 1


async def test_unit_with_one_false_expectation_writes_nothing(event_store: EventStore) -> None:
    """All or nothing: the stream whose expectation held is untouched too."""
    base, held, wrong = await head_of(event_store), new_stream(), new_stream()
    outcome = await event_store.append(write(held, event(), expected=NEW), write(wrong, event(), expected=3))
    assert outcome == Conflict(wrong, 0)
    assert await head_of(event_store) == base
    assert await event_store.read_stream(held) == []


@pytest.mark.parametrize(("expected", "head"), [(NEW, 2), (1, 2), (3, 2), (-1, 2)])
async def test_false_expectation_is_a_conflict_with_the_head(event_store: EventStore, expected: int, head: int) -> None:
    stream = new_stream()
    await appended(event_store, write(stream, *events(2)))
    assert await event_store.append(write(stream, event(), expected=expected)) == Conflict(stream, head)


async def test_true_expectations_are_appended(event_store: EventStore) -> None:
    stream = new_stream()
    for expected, versions in ((NEW, (1,)), (1, (2,)), (ANY, (3,)), (3, (4,))):
        assert (await appended(event_store, write(stream, event(), expected=expected))).versions == versions


async def test_repeated_unit_is_a_duplicate_with_its_first_positions(event_store: EventStore) -> None:
    """Also when its expectation is false by now: the first telling made it so."""
    stream, other = new_stream(), new_stream()
    unit = (write(stream, *events(2), expected=NEW), write(other, event(), expected=NEW))
    first = await appended(event_store, *unit)
    await appended(event_store, write(stream, event()))
    head = await head_of(event_store)
    again = await event_store.append(*unit)
    assert again == msgspec.structs.replace(first, duplicate=True)
    assert await head_of(event_store) == head


MIXTURES: dict[str, Callable[[list[EventData], EventData], list[EventData]]] = {
    "half of a unit": lambda known, new: known[:1],
    "the other half": lambda known, new: known[1:2],
    "known and new": lambda known, new: [known[0], new],
    "new and known": lambda known, new: [new, known[0]],
    "another order": lambda known, new: [known[1], known[0]],
    "two neighbours of two units": lambda known, new: [known[1], known[2]],
    "two units in one": lambda known, new: known,
    "a unit and something new": lambda known, new: [known[0], known[1], new],
}


@pytest.mark.parametrize("mixture", MIXTURES)
async def test_known_ids_in_another_unit_are_a_mismatch(event_store: EventStore, mixture: str) -> None:
    """Else half of a unit, or parts of two, would pass as a success that never was."""
    stream, known = new_stream(), list(events(3))
    await appended(event_store, write(stream, *known[:2]))
    await appended(event_store, write(stream, known[2]))
    base = await head_of(event_store)
    mixed = MIXTURES[mixture](known, event())
    outcome = await event_store.append(write(stream, *mixed))
    assert isinstance(outcome, Mismatch)
    assert outcome.event_id in {one.event_id for one in mixed}
    assert await head_of(event_store) == base


async def test_mismatch_is_told_before_conflict_and_fence(event_store: EventStore) -> None:
    """A known id answers the same whatever else is wrong, so that a retry is never misread."""
    stream, known = new_stream(), event()
    await appended(event_store, write(stream, known))
    mixed = write(stream, known, event(), expected=NEW)
    assert isinstance(await event_store.append(mixed, fence=Fence("nobody", 1)), Mismatch)


@asynccontextmanager
async def fencing(store: EventStore, lease: str) -> AsyncIterator[Callable[[], Any]]:
    """What hands the lease to its next holder, and answers the epoch."""
    epochs = itertools.count(1)
    if isinstance(store, FallbackEventStore):
        store = store.inner

    async def next_holder() -> int:
        if isinstance(store, MemoryEventStore):
            store.set_epoch(lease, epoch := next(epochs))
            return epoch
        assert isinstance(store, PostgresEventStore)
        leases, holder = PostgresLeases(store.pool), str(next(epochs))
        claimed = await leases.claim(lease, holder)
        assert claimed is not None
        await leases.release(lease, holder)
        return claimed

    yield next_holder


async def test_unit_under_a_stale_epoch_is_fenced(event_store: EventStore) -> None:
    """A holder that lost its lease must not act, however late its append arrives."""
    stream, lease = new_stream(), f"job-{uuid7()}"
    async with fencing(event_store, lease) as next_holder:
        old = await next_holder()
        assert isinstance(await event_store.append(write(stream), fence=Fence(lease, old)), Appended)
        new = await next_holder()
        assert new > old
        late = write(stream)
        assert await event_store.append(late, fence=Fence(lease, old)) == Fenced(lease)
        assert len(await event_store.read_stream(stream)) == 1
        assert isinstance(await event_store.append(late, fence=Fence(lease, new)), Appended)


async def test_fence_of_a_lease_that_nobody_ever_held_refuses(event_store: EventStore) -> None:
    lease = f"job-{uuid7()}"
    assert await event_store.append(write(new_stream()), fence=Fence(lease, 1)) == Fenced(lease)


async def test_repeat_of_a_fenced_unit_that_was_written_is_a_duplicate(event_store: EventStore) -> None:
    """The answer was lost, then the lease: what was written stays written, and the writer must learn it."""
    lease, unit = f"job-{uuid7()}", write(new_stream())
    async with fencing(event_store, lease) as next_holder:
        fence = Fence(lease, await next_holder())
        first = await event_store.append(unit, fence=fence)
        await next_holder()
        assert isinstance(first, Appended)
        assert await event_store.append(unit, fence=fence) == msgspec.structs.replace(first, duplicate=True)


async def test_same_id_in_two_units_at_once_is_written_once(event_store: EventStore) -> None:
    """Two observers of one fact tell it in the same moment, so both units are in one batch."""
    stream, fact = new_stream(), event()
    first, second = await asyncio.gather(
        event_store.append(write(stream, fact)), event_store.append(write(stream, fact))
    )
    assert isinstance(first, Appended) and not first.duplicate
    assert second == msgspec.structs.replace(first, duplicate=True)
    assert len(await event_store.read_stream(stream)) == 1


async def test_same_id_after_a_refused_unit_is_written_once(event_store: EventStore) -> None:
    """The first unit with the id was refused, so the second is the first telling and the third its repeat."""
    stream, fact = new_stream(), event()
    refused, first, second = await asyncio.gather(
        event_store.append(write(stream, fact, expected=7)),
        event_store.append(write(stream, fact)),
        event_store.append(write(stream, fact)),
    )
    assert refused == Conflict(stream, 0)
    assert isinstance(first, Appended) and not first.duplicate
    assert second == msgspec.structs.replace(first, duplicate=True)


async def test_same_id_in_two_different_units_at_once_is_a_mismatch(event_store: EventStore) -> None:
    stream, fact = new_stream(), event()
    first, second = await asyncio.gather(
        event_store.append(write(stream, fact)), event_store.append(write(stream, fact, event()))
    )
    assert isinstance(first, Appended)
    assert isinstance(second, Mismatch)


async def test_one_conflict_among_255_good_units_stands_alone(event_store: EventStore) -> None:
    streams = [new_stream() for _ in range(256)]
    units = [write(name, expected=NEW if nth != 100 else 1) for nth, name in enumerate(streams)]
    outcomes = await asyncio.gather(*(event_store.append(unit) for unit in units))
    assert outcomes.pop(100) == Conflict(streams[100], 0)
    assert all(isinstance(one, Appended) and one.versions == (1,) for one in outcomes)
    positions = [one.position for one in outcomes if isinstance(one, Appended)]
    assert positions == list(range(positions[0], positions[0] + 255))


BAD_UNITS: dict[str, Callable[[str, EventData], StreamWrite]] = {
    "malformed": lambda stream, known: write(stream, raw(schema_version=0)),
    "too large": lambda stream, known: write(stream, raw(payload=b"x" * (MAX_PAYLOAD_BYTES + 1))),
    "conflict": lambda stream, known: write(stream, expected=99),
    "mismatch": lambda stream, known: write(stream, known, event()),
    "fenced": lambda stream, known: write(stream),
}


@pytest.mark.parametrize("fault", BAD_UNITS)
async def test_one_bad_unit_among_255_good_ones_fails_alone(event_store: EventStore, fault: str) -> None:
    """They are sent together; the writers of the others know nothing of the guilty one, and their order is kept."""
    known, streams = event(), [new_stream() for _ in range(5)]
    await appended(event_store, write(new_stream(), known))
    base = await head_of(event_store)
    calls = [event_store.append(write(streams[nth % 5], *events(1 + nth % 3))) for nth in range(255)]
    fence = Fence(f"job-{uuid7()}", 1) if fault == "fenced" else None
    calls.insert(100, event_store.append(BAD_UNITS[fault](new_stream(), known), fence=fence))
    outcomes: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    bad = outcomes.pop(100)
    assert isinstance(bad, BadEvent | EventTooLarge | Conflict | Mismatch | Fenced), bad
    position = base
    for nth, outcome in enumerate(outcomes):
        assert isinstance(outcome, Appended) and outcome.first_position == position + 1, (nth, outcome)
        position = outcome.position
    assert await head_of(event_store) == position == base + 510


async def test_units_stand_in_the_order_of_their_calls(event_store: EventStore) -> None:
    """What one task tells first is first, though it does not wait for the answer."""
    stream, told = new_stream(), events(300)
    outcomes = await asyncio.gather(*(event_store.append(write(stream, one)) for one in told))
    assert [one.versions for one in outcomes if isinstance(one, Appended)] == [(nth,) for nth in range(1, 301)]
    assert [one.event_id for one in await event_store.read_stream(stream)] == [one.event_id for one in told]


async def test_racing_writers_with_one_expectation_have_one_winner(event_store: EventStore) -> None:
    """The optimistic version makes a limit exact (the seats): of many who saw the same head, one may act on it."""
    stream = new_stream()
    outcomes = await asyncio.gather(*(event_store.append(write(stream, expected=NEW)) for _ in range(40)))
    assert [type(one) for one in outcomes].count(Appended) == 1
    assert [one for one in outcomes if not isinstance(one, Appended)] == [Conflict(stream, 1)] * 39


@pytest.mark.parametrize("stream_id", [ADMISSION, KEYS, SYSTEM, "session-a", "gateway-g.1_x", "container-" + "c" * 100])
async def test_names_of_streams_are_accepted(event_store: EventStore, stream_id: str) -> None:
    await appended(event_store, write(stream_id))


@pytest.mark.parametrize(
    "stream_id",
    [
        "",
        "session-",
        "session-a b",
        "session-é",
        "session-a\n",
        "other-a",
        "admission ",
        "container-" + "c" * 101,
        "a'--",
    ],
)
async def test_other_names_are_refused_and_write_nothing(event_store: EventStore, stream_id: str) -> None:
    """Names of streams stand in URLs, headers and logs: nothing that needs quoting, nothing that names a person."""
    base = await head_of(event_store)
    with pytest.raises(BadEvent):
        await event_store.append(write(new_stream()), write(stream_id))
    assert await head_of(event_store) == base


async def test_units_without_events_are_refused(event_store: EventStore) -> None:
    with pytest.raises(BadEvent):
        await event_store.append()
    with pytest.raises(BadEvent):
        await event_store.append(write(new_stream()), StreamWrite(new_stream(), ANY, ()))


async def test_same_stream_or_id_twice_in_one_unit_is_refused(event_store: EventStore) -> None:
    stream, twice = new_stream(), event()
    with pytest.raises(BadEvent):
        await event_store.append(write(stream), write(stream))
    with pytest.raises(BadEvent):
        await event_store.append(write(stream, twice, twice))


async def test_largest_unit_is_appended_and_a_larger_one_refused(event_store: EventStore) -> None:
    stream = new_stream()
    outcome = await appended(event_store, write(stream, *events(MAX_UNIT_EVENTS)))
    assert outcome.versions == tuple(range(1, MAX_UNIT_EVENTS + 1))
    with pytest.raises(EventTooLarge):
        await event_store.append(write(stream, *events(MAX_UNIT_EVENTS)), write(new_stream()))
    assert len(await event_store.read_stream(stream)) == MAX_UNIT_EVENTS


async def test_payload_of_64_kib_is_the_largest(event_store: EventStore) -> None:
    """Of a type that nobody folds: the log may be one that other tests fold too."""
    stream = new_stream()
    await appended(event_store, write(stream, raw(type="session.sung", payload=b"x" * MAX_PAYLOAD_BYTES)))
    with pytest.raises(EventTooLarge):
        await event_store.append(write(stream, raw(payload=b"x" * (MAX_PAYLOAD_BYTES + 1))))
    assert len(await event_store.read_stream(stream)) == 1


BAD_FIELDS: dict[str, dict[str, Any]] = {
    "trace id of 15 bytes": {"trace_id": bytes(15)},
    "span id of 9 bytes": {"span_id": bytes(9)},
    "version 0": {"schema_version": 0},
    "version beyond the column": {"schema_version": 40_000},
    "actor that is no text": {"actor": b"\xff"},
    "actor with a NUL": {"actor": b"\0"},
    "time without a zone": {"occurred_at": datetime(2026, 1, 1)},
    "time before the first year in UTC": {"occurred_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
}


@pytest.mark.parametrize("fault", BAD_FIELDS)
async def test_malformed_event_is_refused_before_it_is_sent(event_store: EventStore, fault: str) -> None:
    """In a batch it would take the units of others down with it."""
    base = await head_of(event_store)
    with pytest.raises(BadEvent):
        await event_store.append(write(new_stream(), raw(**BAD_FIELDS[fault])))
    assert await head_of(event_store) == base
