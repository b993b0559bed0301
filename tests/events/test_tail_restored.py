"""The tail on real clusters: a backup that is restored under a reader names the first position that differs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from events.errors import LogForked, StoreUnavailable
from events.mark import Marks
from events.postgres import PostgresEventStore
from events.store import Appended
from events.tail import follow
from tests.event_fixtures import open_store, until
from tests.factories import events, new_stream, write
from tests.restored_cluster import Cluster, cluster_of

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path) as made:
        yield made


async def append(store: PostgresEventStore, count: int) -> int:
    outcome = await store.append(write(new_stream(), *events(count)))
    assert isinstance(outcome, Appended)
    return outcome.position


async def append_beside(cluster: Cluster, count: int) -> None:
    """As another process does."""
    async with open_store(cluster.log.app_dsn) as other:
        await append(other, count)


async def read_until(store: PostgresEventStore, marks: Marks, position: int) -> None:
    async for _ in follow(store, marks, poll_seconds=0.01):
        if marks.position >= position:
            return


async def read_on(store: PostgresEventStore, marks: Marks) -> None:
    """For ever, over every loss of contact."""
    while True:
        try:
            await read_until(store, marks, 10**9)
        except StoreUnavailable:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def reader_at(cluster: Cluster, *, backup: int, read: int) -> AsyncIterator[tuple[PostgresEventStore, Marks]]:
    """A store and the place of a reader of ``read`` events; a backup was made when there were ``backup``."""
    await append_beside(cluster, backup)
    await cluster.back_up()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(cluster.log.app_dsn))
        while await append(store, 10) < read:
            pass
        marks = Marks(store.log_id)
        await read_until(store, marks, read)
        yield store, marks


async def test_restored_backup_is_noticed_by_a_reader_that_runs(cluster: Cluster) -> None:
    """The log is shorter than what was read; the reader saw the server go and come back."""
    async with reader_at(cluster, backup=20, read=50) as (store, marks):
        reading = asyncio.create_task(read_on(store, marks))
        await cluster.restore()
        with pytest.raises(LogForked, match=r"forked at position 21: .* up to position 50 ") as caught:
            await asyncio.wait_for(reading, 30)
    assert (caught.value.same_until, caught.value.differs_from, caught.value.known_until) == (20, 21, 50)


@pytest.mark.parametrize("grown", [30, 45])
async def test_restored_backup_that_has_grown_past_the_reader_is_noticed(cluster: Cluster, grown: int) -> None:
    """Others have written as much, or more, before the reader looks again: its position is there, its event is not."""
    async with reader_at(cluster, backup=20, read=50) as (store, marks):
        await cluster.restore()
        await append_beside(cluster, grown)
        with pytest.raises(LogForked, match="forked at position 21:"):
            await asyncio.wait_for(read_on(store, marks), 30)


async def test_restart_that_lost_nothing_is_none(cluster: Cluster) -> None:
    async with reader_at(cluster, backup=5, read=25) as (store, marks):
        await cluster.back_up()  # stopped, and started as it was
        await append_beside(cluster, 5)
        reading = asyncio.create_task(read_on(store, marks))

        async def reached() -> bool:
            return marks.position == 30 or reading.done()

        await until(reached)
        assert not reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
