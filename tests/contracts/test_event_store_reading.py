"""The contract of ``events.store.EventStore``, over each backend: reading, waiting, tailing, and the end of it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from events import codec
from events.catalogue import (
    ApiKeyRevoked,
    ContainerRemoved,
    SessionReady,
    SessionRequested,
    SessionStopped,
    TokenRevealed,
)
from events.envelope import (
    KEYS,
    EventData,
    RecordedEvent,
)
from events.errors import StoreClosed
from events.ids import uuid7
from events.memory import MemoryEventStore
from events.store import Appended, EventStore
from events.tail import follow
from tests.contracts.stores import appended, head_of
from tests.event_fixtures import Backend, LogDatabase, open_store
from tests.factories import CAUSE, FRONTEND, MOMENT, event, events, new_stream, raw, write


async def test_empty_log_has_position_0_and_no_time(empty_event_store: EventStore) -> None:
    head = await empty_event_store.head()
    assert (head.position, head.recorded_at) == (0, None)
    assert await empty_event_store.read_log() == []


async def test_what_is_read_is_what_was_written(event_store: EventStore) -> None:
    """Every field of the envelope comes back, the payload byte for byte."""
    written = event(SessionRequested, actor=FRONTEND, cause=CAUSE)
    stream = new_stream()
    outcome = await appended(event_store, write(stream, written))
    [read] = await event_store.read_stream(stream)
    fields = msgspec.structs.asdict(read)
    assert {name: fields[name] for name in EventData.__struct_fields__} == msgspec.structs.asdict(written)
    assert (read.log_id, read.stream_id) == (event_store.log_id, stream)
    assert (read.position, read.version) == (outcome.position, 1)
    assert read.recorded_at.utcoffset() == read.occurred_at.utcoffset() == timedelta(0)


async def test_stream_reads_forwards_backwards_and_in_ranges(event_store: EventStore) -> None:
    stream = new_stream()
    for _ in range(4):
        await appended(event_store, write(stream, *events(2)), write(new_stream()))

    async def versions(**how: Any) -> list[int]:
        return [one.version for one in await event_store.read_stream(stream, **how)]

    assert await versions() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert await versions(backwards=True) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert await versions(after=3) == [4, 5, 6, 7, 8]
    assert await versions(after=3, limit=2) == [4, 5]
    assert await versions(after=3, limit=2, backwards=True) == [8, 7]
    assert await versions(limit=0) == await versions(after=8) == await versions(after=99) == []
    assert await event_store.read_stream(new_stream()) == []


async def test_log_reads_by_position_type_family_and_stream(event_store: EventStore) -> None:
    base, one, two = await head_of(event_store), new_stream(), new_stream()
    await appended(event_store, write(one, SessionRequested, SessionReady), write(two, ContainerRemoved))
    await appended(event_store, write(KEYS, ApiKeyRevoked), write(one, TokenRevealed, SessionStopped))

    async def offsets(**how: Any) -> list[int]:
        how.setdefault("after", base)
        return [found.position - base for found in await event_store.read_log(**how)]

    assert await offsets() == [1, 2, 3, 4, 5, 6]
    assert await offsets(after=base + 2, limit=3) == [3, 4, 5]
    assert await offsets(types=["session.ready"]) == [2]
    assert await offsets(types=["session.*"]) == [1, 2, 6]
    assert await offsets(types=["session.*", "api_key.revoked"], limit=3) == [1, 2, 4]
    assert await offsets(types=["api_key.*"]) == [4]
    assert await offsets(stream_id=one) == [1, 2, 5, 6]
    assert await offsets(stream_id=one, after=base + 1, limit=2) == [2, 5]
    assert await offsets(stream_id=one, types=["session.*"], after=base + 1) == [2, 6]
    assert await offsets(stream_id=new_stream()) == await offsets(limit=0) == []


@pytest.mark.parametrize("wanted", ["session", "sess%", "session._eady", "%", "session.read", "ession.*", "\\"])
async def test_types_are_tags_and_families_and_no_patterns(event_store: EventStore, wanted: str) -> None:
    """What a reader asks for reaches the database as a pattern: nothing in it may act as one."""
    base = await head_of(event_store)
    await appended(event_store, write(new_stream(), SessionReady))
    assert await event_store.read_log(after=base, types=[wanted]) == []


async def test_reads_beyond_any_number_answer_nothing(event_store: EventStore) -> None:
    """Numbers come from callers' query strings; one too large for a column is still only a place with no events."""
    stream = new_stream()
    await appended(event_store, write(stream))
    huge = 10**30
    assert await event_store.read_log(after=huge) == await event_store.read_log(after=huge, stream_id=stream) == []
    assert await event_store.read_stream(stream, after=huge) == []
    assert len(await event_store.read_stream(stream, limit=huge)) == 1
    assert await event_store.read_log(after=await head_of(event_store), limit=huge) == []


async def test_event_is_found_by_its_id(event_store: EventStore) -> None:
    wanted = event()
    outcome = await appended(event_store, write(new_stream(), event(), wanted, event()))
    found = await event_store.find(wanted.event_id)
    assert found is not None and (found.event_id, found.position) == (wanted.event_id, outcome.position - 1)
    assert await event_store.find(uuid7()) is None


async def test_position_at_equals_a_walk_over_the_log(empty_event_store: EventStore) -> None:
    """ "As of 14:02" is a prefix of the log: at each recorded time, a microsecond before and after it."""
    for size in (1, 3, 1, 2, 5, 1):
        await appended(empty_event_store, write(new_stream(), *events(size)))
    log = await empty_event_store.read_log()
    for moment in {one.recorded_at + timedelta(microseconds=step) for one in log for step in (-1, 0, 1)}:
        walked = max((one.position for one in log if one.recorded_at <= moment), default=0)
        assert await empty_event_store.position_at(moment) == walked
    assert await empty_event_store.position_at(log[0].recorded_at - timedelta(days=1)) == 0
    assert await empty_event_store.position_at(log[-1].recorded_at + timedelta(days=1)) == len(log)


async def test_log_in_memory_does_not_follow_a_clock_that_goes_back() -> None:
    """The case for Postgres, whose clock cannot be turned, is beside its store."""
    clock = iter([MOMENT, MOMENT - timedelta(hours=1), MOMENT + timedelta(hours=1)])
    store = MemoryEventStore(now=lambda: next(clock))
    for _ in range(3):
        await appended(store, write(new_stream()))
    times = [one.recorded_at for one in await store.read_log()]
    assert times == [MOMENT, MOMENT, MOMENT + timedelta(hours=1)]


async def test_recorded_at_never_goes_back(event_store: EventStore) -> None:
    base = await head_of(event_store)
    await asyncio.gather(*(event_store.append(write(new_stream())) for _ in range(50)))
    times = [one.recorded_at for one in await event_store.read_log(after=base)]
    assert len(times) == 50 and times == sorted(times)


async def test_type_of_a_later_release_is_kept_as_it_is(event_store: EventStore) -> None:
    """A replayed spool may hold what a newer release wrote; the codec is who refuses to write unknown types."""
    stream, later = new_stream(), raw(type="session.teleported", schema_version=3, payload=b'{"to":"mars"}')
    await appended(event_store, write(stream, later))
    [read] = await event_store.read_stream(stream)
    assert codec.decode(read) == codec.Unknown("session.teleported", b'{"to":"mars"}')


async def test_waiting_beyond_a_position_that_is_passed_returns_at_once(event_store: EventStore) -> None:
    outcome = await appended(event_store, write(new_stream()))
    async with asyncio.timeout(5):
        await event_store.wait_beyond(outcome.position - 1, 60)


async def test_append_wakes_who_waits(event_store: EventStore) -> None:
    outcome = await appended(event_store, write(new_stream()))
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(event_store.wait_beyond(outcome.position, 60))
        await asyncio.sleep(0)
        await appended(event_store, write(new_stream()))


async def test_waiting_ends_by_itself(event_store: EventStore) -> None:
    """The poll is the truth: a reader that is never woken looks again by itself."""
    async with asyncio.timeout(5):
        await event_store.wait_beyond(await head_of(event_store) + 1000, 0.01)


async def test_closed_store_says_so(event_store: EventStore) -> None:
    await event_store.close()
    await event_store.close()
    calls: list[Callable[[], Any]] = [
        lambda: event_store.append(write(new_stream())),
        event_store.head,
        event_store.read_log,
        lambda: event_store.read_stream("system"),
        lambda: event_store.find(uuid7()),
        lambda: event_store.position_at(event().occurred_at),
    ]
    for call in calls:
        with pytest.raises(StoreClosed):
            await call()


async def test_close_wakes_who_waits(event_store: EventStore) -> None:
    waiting = asyncio.create_task(event_store.wait_beyond(await head_of(event_store) + 1000, 60))
    await asyncio.sleep(0)
    await event_store.close()
    async with asyncio.timeout(5):
        await waiting


@pytest.mark.postgres
async def test_log_id_is_the_same_for_every_store_of_a_log(shared_log: LogDatabase) -> None:
    async with open_store(shared_log.app_dsn) as one, open_store(shared_log.app_dsn) as two:
        assert one.log_id == two.log_id


async def test_tail_begins_at_any_position(empty_event_store: EventStore) -> None:
    for size in (1, 5, 2, 4):
        await appended(empty_event_store, write(new_stream(), *events(size)))
    whole = await empty_event_store.read_log()
    for after in range(len(whole)):
        assert await _read(empty_event_store, after, len(whole) - after, page=3) == whole[after:]


WRITERS = 8
PRODUCERS = 20  # of each writer
UNITS = (1, 2, 3, 4, 5, 8, 16, 32, 24, 16, 8, 4, 2)  # of each producer
STARTS = (0, 1, 9_999, 19_000)  # positions beyond the head, which only the writers will reach


async def test_tail_beside_eight_writers_sees_each_event_once_in_order(
    backend: Backend, event_store: EventStore
) -> None:
    """The reason for gapless, commit-ordered positions: a naive identity column lost 2.2 % of events to such a reader.

    Each writer has a store of its own where the backend has processes to share it with.
    """
    base, count = await head_of(event_store), WRITERS * PRODUCERS * sum(UNITS)
    assert count == 20_000
    async with AsyncExitStack() as stack:
        stores = [event_store] * WRITERS
        if backend.several:
            stores = [await stack.enter_async_context(backend.opened()) for _ in range(WRITERS)]
        began = time.perf_counter()
        async with asyncio.timeout(100), asyncio.TaskGroup() as group:
            reading = {
                start: group.create_task(_read(store, base + start, count - start))
                for start, store in zip(STARTS, (event_store, *stores), strict=False)
            }
            writing = [group.create_task(_produce(store)) for store in stores for _ in range(PRODUCERS)]
        seconds = time.perf_counter() - began
    written = [event_id for task in writing for event_id in task.result()]
    print(f"{backend.name}: {len(written)} events of {WRITERS} writers, {len(STARTS)} tails, {count / seconds:.0f}/s")
    seen = reading[0].result()
    assert [one.position for one in seen] == list(range(base + 1, base + 1 + count))
    assert len(written) == count and {one.event_id for one in seen} == set(written)
    for start, task in reading.items():
        assert [one.event_id for one in task.result()] == [one.event_id for one in seen[start:]]


async def _produce(store: EventStore) -> list[UUID]:
    stream, done = new_stream(), list[UUID]()
    for size in UNITS:
        unit = events(size)
        assert isinstance(await store.append(write(stream, *unit, expected=len(done))), Appended)
        done += [one.event_id for one in unit]
    return done


async def _read(store: EventStore, after: int, count: int, page: int = 97) -> list[RecordedEvent]:
    seen: list[RecordedEvent] = []
    async for events_of_page in follow(store, after, page=page):
        seen += events_of_page
        if len(seen) >= count:
            break
    return seen
