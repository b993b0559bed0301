"""Laws of the log, for any sequence of batches: Postgres and memory agree, and what is read obeys the contract.

Each example goes on with the log that the former ones left: whatever they did, both backends must still agree.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.catalogue import SessionReady, SessionStopped, TokenRevealed
from events.embedded import EmbeddedPostgres
from events.envelope import ANY, NEW, EventData, ExpectedVersion, Fence, RecordedEvent, StreamWrite
from events.ids import uuid7
from events.lease import PostgresLeases
from events.memory import MemoryEventStore
from events.postgres import PostgresEventStore
from events.store import EventStore, Outcome
from tests.event_fixtures import LogDatabase, connection, log_database, open_store
from tests.factories import raw, write

STREAMS = ("session-a", "session-b", "admission")
LEASE = "job"
EPOCHS = 3
law = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

Unit = tuple[tuple[StreamWrite, ...], Fence | None]


class Backends(msgspec.Struct, frozen=True):
    """The two logs that must agree, and the ids that were used so far."""

    memory: MemoryEventStore
    postgres: PostgresEventStore
    used: list[UUID]


@pytest_asyncio.fixture
async def small_log(postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    """A log whose batches cross from one partition to the next all the time."""
    async with log_database(postgres_server, partition_size=40) as database:
        yield database


@pytest_asyncio.fixture
async def backends(small_log: LogDatabase) -> AsyncIterator[Backends]:
    async with open_store(small_log.app_dsn) as store:
        leases, memory = PostgresLeases(store.pool), MemoryEventStore()
        for epoch in range(1, EPOCHS + 1):
            assert await leases.claim(LEASE, str(epoch), 0) == epoch
            memory.set_epoch(LEASE, epoch)
        yield Backends(memory, store, [])


expectations: st.SearchStrategy[ExpectedVersion] = st.sampled_from([ANY, ANY, NEW]) | st.integers(0, 6)
# Number n is the nth id from the newest one: small numbers meet within a batch, larger ones what is in the log.
ids = st.integers(0, 8)
writes = st.lists(
    st.tuples(st.sampled_from(STREAMS), expectations, st.lists(ids, min_size=1, max_size=3)),
    min_size=1,
    max_size=2,
    unique_by=lambda written: written[0],
).filter(lambda unit: len({nth for _, _, names in unit for nth in names}) == sum(len(names) for _, _, names in unit))
fences = st.none() | st.builds(Fence, st.sampled_from([LEASE, "nobody's"]), st.integers(1, EPOCHS + 1))
batches = st.lists(st.lists(st.tuples(writes, fences), min_size=1, max_size=6), min_size=1, max_size=5)


def built(unit: tuple[list[tuple[str, ExpectedVersion, list[int]]], Fence | None], used: list[UUID]) -> Unit:
    return (
        tuple(
            StreamWrite(stream, expected, tuple(_event(used[-1 - nth]) for nth in names))
            for stream, expected, names in unit[0]
        ),
        unit[1],
    )


def _event(event_id: UUID) -> EventData:
    return raw(event_id=event_id)


@pytest.mark.postgres
@settings(law, max_examples=40)
@given(plan=batches)
async def test_memory_and_postgres_answer_alike(backends: Backends, plan: list[Any]) -> None:
    """Any mixture of new and known ids, true and false expectations, live and stale leases, batched as it comes."""
    await backends.postgres.pool.execute("select log.ensure_partitions()")
    for batch in plan:
        backends.used.extend(uuid7() for _ in range(9 if not backends.used else 3))
        units = [built(unit, backends.used) for unit in batch]
        assert await _all_at_once(backends.postgres, units) == await _all_at_once(backends.memory, units)
    assert _comparable(await backends.postgres.read_log(limit=10**6)) == _comparable(
        await backends.memory.read_log(limit=10**6)
    )


@pytest.mark.postgres
@settings(law, max_examples=80)
@given(data=st.data())
async def test_memory_and_postgres_read_alike(read_logs: list[EventStore], data: st.DataObject) -> None:
    """Wherever a page begins, however long it is, whatever it asks for."""
    stream, backwards = data.draw(st.sampled_from([*STREAMS, "session-none"])), data.draw(st.booleans())
    after, limit = data.draw(st.integers(0, READ + 5)), data.draw(st.integers(0, 30))
    types = data.draw(st.sampled_from([(), ("session.*",), ("token.revealed",), ("session.ready", "token.*")]))
    pages = []
    for store in read_logs:
        pages.append(
            [
                await store.read_stream(stream, after=after // 3, limit=limit, backwards=backwards),
                await store.read_log(after=after, limit=limit, types=types),
                await store.read_log(after=after, limit=limit, types=types, stream_id=stream),
            ]
        )
    assert [_comparable(page) for page in pages[0]] == [_comparable(page) for page in pages[1]]


READ = 200


@pytest_asyncio.fixture
async def read_logs(small_log: LogDatabase) -> AsyncIterator[list[EventStore]]:
    """The same 200 events in memory and in Postgres, streams and types mixed by chance that is always the same."""
    chance, kinds = Random(7), (SessionReady, SessionStopped, TokenRevealed)
    memory = MemoryEventStore()
    async with open_store(small_log.app_dsn) as store:
        for _ in range(READ):
            unit = write(chance.choice(STREAMS), chance.choice(kinds))
            await memory.append(unit)
            await store.append(unit)
        yield [memory, store]


async def _all_at_once(store: EventStore, units: list[Unit]) -> list[Outcome]:
    return await asyncio.gather(*(store.append(*of, fence=fence) for of, fence in units))


def _comparable(log: list[RecordedEvent]) -> list[dict[str, Any]]:
    """Everything but whose log it is and what its clock said."""
    unlike = ("log_id", "recorded_at")
    return [{k: v for k, v in msgspec.structs.asdict(one).items() if k not in unlike} for one in log]


@pytest.mark.postgres
@settings(law, max_examples=15)
@given(plan=batches)
async def test_log_obeys_its_promises(small_log: LogDatabase, backends: Backends, plan: list[Any]) -> None:
    """Gapless positions, contiguous versions, one event an id, time that never goes back, heads equal to the events."""
    await backends.postgres.pool.execute("select log.ensure_partitions()")
    for batch in plan:
        backends.used.extend(uuid7() for _ in range(9 if not backends.used else 3))
        await _all_at_once(backends.postgres, [built(unit, backends.used) for unit in batch])
    log = await backends.postgres.read_log(limit=10**6)
    assert [one.position for one in log] == list(range(1, len(log) + 1))
    assert len({one.event_id for one in log}) == len(log)
    assert all(former.recorded_at <= later.recorded_at for former, later in pairwise(log))
    heads = {}
    for stream in {one.stream_id for one in log}:
        events = [one for one in log if one.stream_id == stream]
        assert [one.version for one in events] == list(range(1, len(events) + 1))
        heads[stream] = (len(events), events[0].position, events[-1].position)
    async with connection(small_log.app_dsn) as app:
        rows = await app.fetch("select * from log.streams")
        assert {row[0]: (row[1], row[2], row[3]) for row in rows} == heads and len(rows) == len(heads)
        assert [row["position"] for row in await app.fetch("select * from log.tip")] == [len(log)]
        keys = await app.fetch("select event_id, position from log.event_key order by position")
    assert [(row["event_id"], row["position"]) for row in keys] == [(one.event_id, one.position) for one in log]
