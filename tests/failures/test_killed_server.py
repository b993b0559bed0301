"""kill -9 of Postgres under load: of the whole server and of the backend that appends.

Shown: what was acknowledged is in the log once, in order, and the store goes on by itself when the server is back.
"""

import pytest

from tests.counts import Tell
from tests.event_fixtures import open_store
from tests.failures.load import loaded
from tests.failures.server import OwnServer
from tests.failures.verdict import judge

pytestmark = pytest.mark.postgres


async def test_killed_postmaster_costs_nothing_that_was_acknowledged(own_server: OwnServer, tell: Tell) -> None:
    """Twice, since the second recovery begins where the first one ended. Who restarts it is not the store."""
    async with open_store(own_server.database.app_dsn) as store:
        async with loaded(store) as load:
            for _ in range(2):
                await load.progress(150)
                own_server.kill()
                await own_server.restart()
            await load.progress(150)
        assert store.status.available
    tell(f"postmaster killed twice: {await judge(own_server.database, load.ledger)}")


async def test_killed_backend_costs_nothing_that_was_acknowledged(own_server: OwnServer, tell: Tell) -> None:
    """The writer's own, in the middle of its batches; Postgres ends all others with it and recovers."""
    killed = 0
    async with open_store(own_server.database.app_dsn) as store, loaded(store) as load:
        for _ in range(4):
            await load.progress(80)
            killed += await own_server.kill_writers()
        await load.progress(80)
    assert killed >= 4
    tell(f"writer's backend killed {killed} times: {await judge(own_server.database, load.ledger)}")
