"""A Postgres that stands still (SIGSTOP): every call is answered in bounded time, and nothing is lost or doubled."""

import asyncio
import time

import pytest

from events.errors import StoreUnavailable
from events.postgres import COMMAND_SECONDS
from tests.counts import Tell
from tests.event_fixtures import open_store, until
from tests.failures.load import PRODUCERS, loaded
from tests.failures.server import OwnServer
from tests.failures.verdict import judge

pytestmark = pytest.mark.postgres

FROZEN_SECONDS = 10.0
PATIENCE = 2.0  # a busy machine's, beside the bound itself


async def test_frozen_server_is_unavailable_in_time_and_loses_nothing(own_server: OwnServer, tell: Tell) -> None:
    """Callers of appends and reads have their answer before it moves again; asyncpg alone would wait for ever.

    What it took before it stood still, it does when it wakes, beside the new connection: the ids tell.
    """
    async with open_store(own_server.database.app_dsn) as store:
        async with loaded(store) as load:
            await load.progress(150)
            [suspect] = await own_server.writers()
            with own_server.frozen():
                thaw = asyncio.create_task(asyncio.sleep(FROZEN_SECONDS))
                begun = time.monotonic()
                reads = [store.head() for _ in range(12)]  # three times as many as there are connections
                heads = await asyncio.gather(*reads, return_exceptions=True)
                read_seconds = time.monotonic() - begun
                await load.refusals(PRODUCERS)
                assert not thaw.done(), "producers waited for the server to move"
                known = store.status
                await thaw
            await load.progress(150)
            await until(lambda: _replaced(own_server, suspect))
        assert store.status.available and not known.available
    assert {type(head) for head in heads} == {StoreUnavailable}
    assert read_seconds < COMMAND_SECONDS + PATIENCE
    longest = max(one.seconds for one in load.ledger.tried)
    tell(
        f"server frozen {FROZEN_SECONDS:.0f} s: {await judge(own_server.database, load.ledger)}; "
        f"append refused after {longest:.1f} s at most, reads after {read_seconds:.1f} s"
    )


async def _replaced(own: OwnServer, suspect: int) -> bool:
    """Whether one backend appends, and it is not the one whose answer was not waited for."""
    writers = await own.writers()
    return len(writers) == 1 and suspect not in writers
