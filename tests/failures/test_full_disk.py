"""Postgres's disk is full: no append is acknowledged that is not written, and freed room is all that is needed.

The cluster lies on a disk of its own. First the tables cannot grow, which Postgres survives; then there is no room for
the next segment of its own log either, which it does not.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from events import postgres, writer
from tests.counts import Tell
from tests.event_fixtures import connection, open_store, until
from tests.failures import server, small_disk
from tests.failures.load import PRODUCERS, loaded
from tests.failures.server import OwnServer
from tests.failures.small_disk import SmallDisk
from tests.failures.verdict import judge

pytestmark = pytest.mark.postgres

NO_ROOM = "No space left on device"
MEGABYTES = 300  # binaries 33, cluster 55; the launcher wants 200 to be free


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk.mounted(MEGABYTES) as mounted:
        yield mounted


@pytest_asyncio.fixture
async def cramped_server(disk: SmallDisk, tmp_path: Path) -> AsyncIterator[OwnServer]:
    async with server.started(tmp_path / "mortal-server", disk=disk.path) as own, own.with_log():
        assert own.cluster.is_relative_to(disk.path)
        yield own


async def test_full_disk_refuses_and_loses_nothing(
    disk: SmallDisk, cramped_server: OwnServer, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Postgres does when it has no room for its own log is its own affair; what we told of it is not."""
    monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", 0.5)
    async with open_store(cramped_server.database.app_dsn) as store:
        async with loaded(store) as load:
            await load.progress(100)
            disk.fill()
            await load.refusals(PRODUCERS)
            survived = cramped_server.said(NO_ROOM)
            disk.free()
            await load.progress(100)
            disk.fill()
            await _begin_next_segment(cramped_server)
            await load.refusals(PRODUCERS)
            await until(lambda: _panicked(cramped_server))
            disk.free()
            how = await cramped_server.revive()
            await load.progress(100)
        assert store.status.available
    assert survived["ERROR"] and not survived["PANIC"]
    tell(
        f"disk full: Postgres said {dict(survived)} and went on, then {dict(cramped_server.said(NO_ROOM))} "
        f"and {'ended' if how == 'started' else 'recovered'}: {await judge(cramped_server.database, load.ledger)}"
    )


async def _begin_next_segment(own: OwnServer) -> None:
    """Segments are made 16 MB long, so a full disk is noticed when the next one is needed."""
    try:
        async with connection(own.database.admin_dsn) as admin:
            await admin.execute("select pg_switch_wal()")
    except postgres.UNSURE:
        pass  # it has noticed, and takes us with it


async def _panicked(own: OwnServer) -> bool:
    return own.said(NO_ROOM)["PANIC"] > 0
