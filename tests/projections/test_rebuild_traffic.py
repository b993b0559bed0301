"""Rebuilds under traffic: writers, the projector and readers go on, and nobody sees half a table."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import pytest_asyncio

from events.ids import short
from events.lease import PostgresLeases
from projections.proof import Prover
from projections.rebuild import Rebuilder
from projections.table_store import TableStore
from projections.tables import ADMISSION, SESSIONS, TABLES
from tests.event_fixtures import LogDatabase, connection, open_store, until
from tests.projections.lives import lives
from tests.projections.rebuilding import Ground, ground

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def on(empty_log: LogDatabase) -> AsyncIterator[Ground]:
    async with ground(empty_log) as made:
        yield made


@contextlib.asynccontextmanager
async def going_on(*jobs: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Each job again and again beside the block; its first error ends the test."""

    async def again(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await job()

    tasks = [asyncio.create_task(again(job)) for job in jobs]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_rebuilt_while_writers_and_the_projector_go_on(on: Ground) -> None:
    """Every table at the position of the one in use, equal to it; and afterwards to a fold of the log."""
    written = wanted = 0

    async def further() -> bool:
        return written >= wanted

    async def append() -> None:
        nonlocal written
        await on.live(short(), sessions=1, exchanges=3)
        written += 1

    async def verified(event: Any) -> None:
        pass

    async with going_on(append, on.carry):
        for table in TABLES:
            wanted = written + 1
            assert (await on.rebuild(table)).differing == 0
            await until(further)
    await on.carry()
    await on.carry()
    for table in TABLES:
        proof = await Prover(on.store, on.store.pool, tell=verified).prove(table)
        assert (proof.differing, proof.position) == (0, (await on.store.head()).position)


async def test_readers_never_fail_and_never_see_half_a_table(on: Ground) -> None:
    """Plans that are kept by a connection, and a process that starts, outlive the exchange."""
    sessions, reads, starts = len(await on.rows(SESSIONS)), 0, 0
    async with connection(on.database.app_dsn) as kept, open_store(on.database.app_dsn) as other:
        prepared = await kept.prepare("select session_id, status, state from view.sessions where session_id = $1")

        async def read_prepared() -> None:
            nonlocal reads
            (row,) = await prepared.fetch("a-1")
            assert row["status"] == "stopped"
            assert await kept.fetchval("select count(*) from view.sessions") == sessions
            async with kept.transaction():
                assert len(await kept.fetch("select * from view.sessions")) == sessions
            reads += 1

        async def read_pooled() -> None:
            assert await other.pool.fetchval("select count(*) from view.sessions where status = 'stopped'") == sessions

        async def start() -> None:
            nonlocal starts
            async with TableStore(other.pool).snapshot((SESSIONS, ADMISSION)) as then:
                assert len(await then.checkpoints()) == len(TABLES)
                assert len([key async for key, _ in then.states(SESSIONS)]) == sessions
            starts += 1

        async with going_on(read_prepared, read_pooled, start):
            for _ in range(8):
                assert (await on.rebuild(SESSIONS)).differing == 0
    assert reads > 8 and starts > 8


@pytest.mark.slow
async def test_rebuilt_and_proved_behind_a_pooler(pooled_empty_log: LogDatabase) -> None:
    """Every transaction may meet another server connection: nothing lives in a session, the temporary table neither."""

    async def told(*_: Any) -> None:
        pass

    async with open_store(pooled_empty_log.app_dsn) as store:
        for unit in lives("a", 12, 5):
            await store.append(*unit)
        rebuilder = Rebuilder(store, store.pool, PostgresLeases(store.pool), holder="r1", tell=told)
        for _ in range(2):
            done = [await rebuilder.rebuild(table) for table in (SESSIONS, ADMISSION)]
        assert [each.differing for each in done] == [0, 0]
        proofs = [await Prover(store, store.pool, tell=told).prove(table) for table in (SESSIONS, ADMISSION)]
        assert [(proof.rows, proof.differing) for proof in proofs] == [(12, 0), (1, 0)]
