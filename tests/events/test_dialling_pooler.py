"""A real PgBouncer in transaction mode: what goes through it, what needs the way past it. The contract runs there too.

``tests/contracts/test_event_store*.py`` take the pooler as one more backend.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest

from events import schema
from events.database_url import parse
from events.dialling import Dialler
from events.errors import StoreUnavailable
from events.keyring_postgres import PostgresKeyring
from events.lease import PostgresLeases
from events.postgres import PostgresEventStore
from events.schema import Applied
from events.settings import DatabaseSettings
from events.store import Appended, Conflict
from gateway.settings import load
from gateway.storage import POLLING_ALONE, open_storage
from tests.debian_fixtures import DebianLog, pooled
from tests.debian_postgres import PASSWORD
from tests.event_fixtures import APP_USER, SMALL, LogDatabase, connection, open_store, until
from tests.factories import event, new_stream, write
from tests.pgbouncer import SERVER_CONNECTIONS

pytestmark = [pytest.mark.slow, pytest.mark.postgres]
WAKE_SECONDS = 0.05


@asynccontextmanager
async def store_of(log: DebianLog, pooler: str, *, direct: str = "") -> AsyncIterator[PostgresEventStore]:
    settings = msgspec.structs.replace(SMALL, database_url=log.url(pooler), db_direct_url=direct)
    store = await PostgresEventStore.connect(settings.dsn(), settings)
    try:
        yield store
    finally:
        await store.close()


async def test_a_pooler_is_noticed_and_nothing_is_prepared(debian_log: DebianLog, pooler: str) -> None:
    """PgBouncer 1.18 loses statements that are kept by name; without a pooler they are kept."""
    for place, is_pooled in ((pooler, True), (f"127.0.0.1:{debian_log.server.port}", False)):
        dialler = Dialler(parse(debian_log.url(place)))
        opened = await dialler.dial("test")
        try:
            kept = "select count(*) from pg_prepared_statements where name like '\\_\\_asyncpg%'"
            assert await opened.fetchval("select 1 + $1::int", 1) == 2
            assert (dialler.pooled, await opened.fetchval(kept) > 0) == (is_pooled, not is_pooled)
        finally:
            opened.terminate()


async def test_kept_statements_break_behind_it(debian_log: DebianLog, pooler: str) -> None:
    """Why the default is what it is: this PgBouncer with DB_STATEMENT_CACHE=100, more clients than connections."""
    dialler = Dialler(parse(debian_log.url(pooler)), statement_cache=100)
    opened = [await dialler.dial("test") for _ in range(3 * SERVER_CONNECTIONS)]

    async def ask(one: "asyncpg.Connection[asyncpg.Record]") -> int:
        failed = 0
        for number in range(20):
            try:
                await one.fetchval("select $1::int", number)
            except asyncpg.PostgresError:
                failed += 1
        return failed

    try:
        assert sum(await asyncio.gather(*map(ask, opened))) > 0
    finally:
        for one in opened:
            one.terminate()


async def test_schema_is_applied_through_it(debian_log: DebianLog, pooler: str) -> None:
    """One transaction under a transaction's lock. DB_ADMIN_URL may lead through the pooler, or past it."""
    async with connection(debian_log.server.socket_url()) as admin:
        await admin.execute("create database fresh")
    try:
        url = msgspec.structs.replace(debian_log, name="fresh").url(pooler, user="postgres")
        first = await asyncio.gather(*(schema.apply(url, APP_USER) for _ in range(4)))
        assert sorted(len(applied.files) > 0 for applied in first) == [False, False, False, True]
        assert await schema.apply(url, APP_USER) == Applied((), rights_separated=True)
    finally:
        async with connection(debian_log.server.socket_url()) as admin:
            await admin.execute("drop database fresh with (force)")


async def test_two_writers_on_few_connections_keep_every_promise(debian_log: DebianLog, pooler: str) -> None:
    """More clients than server connections: each transaction meets another one."""
    async with store_of(debian_log, pooler) as one, store_of(debian_log, pooler) as other:
        streams = [new_stream() for _ in range(8)]

        async def produce(number: int) -> None:
            store = (one, other)[number % 2]
            for version in range(25):
                outcome = await store.append(write(streams[number], event(), expected=version))
                assert isinstance(outcome, Appended) and outcome.versions == (version + 1,)
                assert len(await store.read_stream(streams[number])) == version + 1

        await asyncio.gather(*map(produce, range(8)))
        assert isinstance(await other.append(write(streams[0], event(), expected=3)), Conflict)
        assert [each.position for each in await one.read_log()] == list(range(1, 201))


async def test_leases_and_keys_work_through_it(debian_log: DebianLog, pooler: str) -> None:
    """Rows on the database's clock, not locks of a session, which a pooler hands to the next client."""
    async with store_of(debian_log, pooler) as store:
        leases = PostgresLeases(store.pool)
        epochs = await asyncio.gather(*(leases.claim("seal", f"gateway-{number}") for number in range(6)))
        assert sorted(epoch is not None for epoch in epochs) == [False] * 5 + [True]
        keyring = PostgresKeyring(store.pool, b"x" * 32)
        key = await keyring.key_for("ada")
        assert await PostgresKeyring(store.pool, b"x" * 32).keys([key.id]) == {key.id: key}


async def test_direct_url_wakes_who_waits(debian_log: DebianLog, pooler: str) -> None:
    """LISTEN past the pooler: another process's append is known within 50 ms. The poll would need its interval."""
    async with (
        store_of(debian_log, pooler, direct=debian_log.url()) as here,
        store_of(debian_log, pooler) as there,
    ):
        assert here.listens
        async with connection(debian_log.admin_url) as admin:
            await until(lambda: admin.fetchval(f"select count(*) = 1 from ({LISTENING}) l"))
        waits = []
        for position in range(10):
            waiting = asyncio.create_task(here.wait_beyond(position, 10))
            await there.append(write(new_stream()))
            began = time.monotonic()
            await waiting
            waits.append(time.monotonic() - began)
        assert sorted(waits)[5] < WAKE_SECONDS, waits


LISTENING = "select from pg_stat_activity where application_name = 'session-gateway listener' and query like 'LISTEN%'"


async def test_without_a_direct_url_it_polls_and_says_so_once(
    debian_log: DebianLog, pooler: str, tmp_path: object
) -> None:
    """LISTEN through the pooler would be taken and never answered: 0 of 10 arrived."""
    given = {"GATEWAY_DATA_DIR": str(tmp_path), "DATABASE_URL": debian_log.url(pooler), "DB_MAX_CONNECTIONS": "5"}
    async with open_storage(load(given)) as storage:
        assert storage.notes == (POLLING_ALONE,)
        async with connection(debian_log.admin_url) as admin:
            assert await admin.fetchval(f"select count(*) from ({LISTENING}) l") == 0
        async with open_store(debian_log.url()) as elsewhere:
            await elsewhere.append(write(new_stream()))
        began = time.monotonic()
        await storage.store.wait_beyond(0, 0.3)
        assert time.monotonic() - began >= 0.3, "it was woken"
        assert (await storage.store.head()).position == 1
    async with open_storage(load({**given, "DB_DIRECT_URL": debian_log.url()})) as storage:
        assert storage.notes == ()


async def test_both_roles_may_come_through_it(debian_log: DebianLog, pooler: str) -> None:
    """A gateway that is given nothing but the pooler."""
    log = pooled(debian_log, pooler)
    assert isinstance(log, LogDatabase) and PASSWORD not in log.app_dsn
    settings = DatabaseSettings(database_url=log.app_dsn, db_admin_url=log.admin_dsn)
    assert await schema.apply(settings.admin_dsn(), settings.app_user) == Applied((), rights_separated=True)
    async with open_store(settings.dsn()) as store:
        assert isinstance(await store.append(write(new_stream())), Appended)


async def test_isolation_that_cannot_be_set_behind_it_is_told(debian_log: DebianLog, pooler: str) -> None:
    async with connection(debian_log.admin_url) as admin:
        name = await admin.fetchval("select quote_ident(current_database())")
        await admin.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    async with store_of(debian_log, pooler) as store:
        with pytest.raises(StoreUnavailable, match="default_transaction_isolation is 'repeatable read'"):
            await store.append(write(new_stream()))
