"""What every test of failures has: a server that it may break."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.failures import server, small_disk
from tests.failures.server import OwnServer
from tests.failures.small_disk import SmallDisk

# Small, so that a load crosses several and the keeper's work is done under it.
PARTITION_SIZE = 1_000
MEGABYTES = 600


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mortal_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OwnServer]:
    """One for all tests here, since they come one after the other; the suite's own must live.

    In memory where that can be: a killed process takes nothing of what it wrote with it, wherever that lies, and each
    recovery syncs a thousand files first (3 s on a busy disk).
    """
    parent = tmp_path_factory.getbasetemp().parent
    for runs in (parent, parent.parent):  # a worker of pytest-xdist stands one lower
        for former in (*runs.glob("pytest-*/mortal-server*"), *runs.glob("pytest-*/*/mortal-server*")):
            await server.bury(former)
    data_dir = tmp_path_factory.mktemp("mortal-server")
    with small_disk.mounted_if_possible(MEGABYTES) as disk:
        where = disk.path if isinstance(disk, SmallDisk) else None
        async with server.started(data_dir, disk=where) as own:
            yield own


@pytest_asyncio.fixture
async def own_server(mortal_server: OwnServer) -> AsyncIterator[OwnServer]:
    """A Postgres that only this test uses now, with an empty log."""
    async with mortal_server.with_log(partition_size=PARTITION_SIZE) as own:
        yield own
