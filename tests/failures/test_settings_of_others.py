"""Whatever somebody set for the database or for a session: what was answered outlives a crash of the server.

Each test lets the server write by itself only after ten seconds, so that nothing is on the disk by chance.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from events.keyring_postgres import PostgresKeyring
from events.lease import PostgresLeases
from events.schema_roles import AUDITOR_ROLE
from events.store import Appended
from tests.event_fixtures import as_user, connection, ensure_role, open_store
from tests.factories import events, new_stream, write
from tests.failures.server import OwnServer

pytestmark = pytest.mark.postgres
SECRET = b"a sealing secret of the tests, of 32 bytes"


@pytest_asyncio.fixture
async def lazy_server(own_server: OwnServer) -> AsyncIterator[OwnServer]:
    await _configure(own_server, "set wal_writer_delay = 10000")
    yield own_server
    await _configure(own_server, "reset wal_writer_delay")


async def _configure(server: OwnServer, what: str) -> None:
    await server.revive()
    async with connection(server.database.admin_dsn) as admin:
        await admin.execute(f"alter system {what}")
        await admin.execute("select pg_reload_conf()")


async def _crash(server: OwnServer) -> None:
    server.kill()
    await server.restart()


async def _set_for_database(server: OwnServer, mode: str) -> None:
    async with connection(server.database.admin_dsn) as admin:
        name = await admin.fetchval("select quote_ident(current_database())")
        await admin.execute(f"alter database {name} set synchronous_commit = {mode}")


async def test_acknowledged_events_outlive_a_crash_without_synchronous_commit(lazy_server: OwnServer) -> None:
    """A usual tuning: 50 of 50 acknowledged events were lost."""
    await _set_for_database(lazy_server, "off")
    async with open_store(lazy_server.database.app_dsn) as store:
        for _ in range(20):
            assert isinstance(await store.append(write(new_stream())), Appended)
        await _crash(lazy_server)
    async with open_store(lazy_server.database.app_dsn) as store:
        assert len(await store.read_log()) == 20


async def test_leases_and_keys_outlive_a_crash_without_synchronous_commit(lazy_server: OwnServer) -> None:
    """An epoch given twice fences nobody; an erased subject's key that comes back erases nothing."""
    await _set_for_database(lazy_server, "off")
    async with open_store(lazy_server.database.app_dsn) as store:
        keyring = PostgresKeyring(store.pool, SECRET)
        kept, gone = await keyring.key_for("kept"), await keyring.key_for("gone")
        assert await keyring.erase("gone") == (gone.id,)
        assert await PostgresLeases(store.pool).claim("job", "one") == 1
        await PostgresLeases(store.pool).release("job", "one")
        assert await PostgresLeases(store.pool).claim("job", "another") == 2
        await _crash(lazy_server)
    async with open_store(lazy_server.database.app_dsn) as store:
        assert set(await PostgresKeyring(store.pool, SECRET).keys([kept.id, gone.id])) == {kept.id}
        assert await store.pool.fetchval("select epoch from view.lease where name = 'job'") == 2


@pytest.mark.parametrize(
    "announcing",
    [
        ["set synchronous_commit = off", "select log.announce_read()"],
        ["begin", "select log.announce_read()", "set local synchronous_commit = off", "commit"],
    ],
    ids=["session", "transaction"],
)
async def test_reading_outlives_a_crash_whatever_the_auditor_set(lazy_server: OwnServer, announcing: list[str]) -> None:
    """Who has the rows is named in the log, also when the server went down in the moment after."""
    async with open_store(lazy_server.database.app_dsn) as store:
        await store.append(write(new_stream(), *events(3)))
    await ensure_role(lazy_server.database.admin_dsn, "hasty_auditor")
    async with connection(lazy_server.database.admin_dsn) as admin:
        await admin.execute(f"grant {AUDITOR_ROLE} to hasty_auditor")
    async with connection(as_user(lazy_server.database.admin_dsn, "hasty_auditor")) as auditor:
        tickets = [await auditor.fetchval(statement) for statement in announcing]
        [ticket] = filter(None, tickets)
        assert len(await auditor.fetch("select * from log.read_announced($1)", ticket)) == 3
        await _crash(lazy_server)
    async with connection(lazy_server.database.admin_dsn) as admin:
        assert await admin.fetchval("select count(*) from log.events where type = 'log.read'") == 1


@pytest.mark.parametrize(("asked", "used"), [("local", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")])
async def test_no_transaction_of_the_log_waits_for_less_than_it_promises(
    own_server: OwnServer, asked: str, used: str
) -> None:
    """``local`` would lose acknowledged events at a fail-over to a synchronous standby; who waits for more may."""
    async with connection(own_server.database.app_dsn) as app, app.transaction():
        await app.execute(f"set synchronous_commit = {asked}")
        await app.fetchval("select view.claim_lease('job', 'one', 5)")
        assert await app.fetchval("show synchronous_commit") == used
