"""A store whose database turns into another log: nothing of its own enters that, and nothing of that is its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from events import schema, writer
from events.breaker import PROBE_SECONDS
from events.embedded import EmbeddedPostgres
from events.errors import StoreUnavailable
from events.lease import PostgresLeases
from events.store import Appended, EventStore, Spooled
from tests.event_fixtures import (
    APP_USER,
    LogDatabase,
    connection,
    open_fallback,
    open_store,
    until,
)
from tests.factories import event, new_stream, write

pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", 0.1)


@asynccontextmanager
async def _made_anew(server: EmbeddedPostgres, database: LogDatabase) -> AsyncIterator[None]:
    """The same name, another log: as after a restore of the wrong dump. Put back afterwards."""
    name = urlsplit(database.admin_dsn).path[1:]
    async with connection(server.admin_dsn) as admin:
        await _rename(admin, name, f"{name}_kept")
        await admin.execute(f"create database {name}")
        await schema.apply(database.admin_dsn, APP_USER)
        yield
        await admin.execute(f"drop database {name} with (force)")
        await _rename(admin, f"{name}_kept", name)


async def _rename(admin: "asyncpg.Connection[asyncpg.Record]", name: str, to: str) -> None:
    """Whoever comes back at once is sent away until nobody was quicker."""

    async def renamed() -> bool:
        await admin.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
        try:
            await admin.execute(f"alter database {name} rename to {to}")
        except asyncpg.ObjectInUseError:
            return False
        return True

    await until(renamed)


async def _count(dsn: str) -> int:
    async with connection(dsn) as admin:
        return int(await admin.fetchval("select count(*) from log.events"))


async def test_log_made_anew_under_a_running_store_takes_and_answers_nothing(
    postgres_server: EmbeddedPostgres, empty_log: LogDatabase
) -> None:
    """Its events would be told as this log's, and ours would stand in a log that nobody meant."""
    async with open_store(empty_log.app_dsn) as store:
        await store.append(write(new_stream()))
        async with _made_anew(postgres_server, empty_log):
            leases = PostgresLeases(store.pool)
            await until(lambda: _refused(lambda: store.append(write(new_stream()))))
            await until(lambda: _refused(store.head))
            await until(lambda: _refused(store.read_log))
            await until(lambda: _refused(lambda: leases.claim("job", "one")))
            assert not store.status.available
            assert await _count(empty_log.admin_dsn) == 0
        await until(lambda: _works(store))
        assert [one.log_id for one in await store.read_log()] == [store.log_id] * 2


async def _refused(ask: Callable[[], Awaitable[object]]) -> bool:
    """For this reason; at first the former connections are found to be cut."""
    with pytest.raises(StoreUnavailable) as refused:
        await ask()
    return "it holds the log" in str(refused.value)


async def _works(store: EventStore) -> bool:
    try:
        return isinstance(await store.append(write(new_stream())), Appended)
    except StoreUnavailable:
        return False


async def test_log_that_changes_behind_an_open_connection_takes_and_answers_nothing(empty_log: LogDatabase) -> None:
    """A pooler keeps our connections while it leads them elsewhere."""
    fact = event()
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.admin_dsn) as admin:
        await store.append(write("session-a", fact))
        await admin.execute("alter table log.identity disable trigger all")
        await admin.execute("update log.identity set log_id = gen_random_uuid()")
        for ask in (
            lambda: store.append(write("session-a")),
            store.head,
            store.read_log,
            lambda: store.read_log(stream_id="session-a"),
            lambda: store.read_stream("session-a"),
            lambda: store.find(fact.event_id),
            lambda: store.position_at(fact.occurred_at),
        ):
            assert await _refused(ask)
        assert await _count(empty_log.admin_dsn) == 1


async def _spooled(store: EventStore, stream: str) -> bool:
    return await store.append(write(stream)) == Spooled()


async def _back(store: EventStore) -> bool:
    return store.status.available


async def test_spool_is_not_replayed_into_a_log_made_anew(
    postgres_server: EmbeddedPostgres, empty_log: LogDatabase, tmp_path: Path
) -> None:
    """What waits, waits on: nothing enters, nothing is put aside, and it is in its own log when that is back."""
    fact, stream = event(), new_stream()
    async with open_fallback(empty_log.app_dsn, tmp_path) as store:
        async with _made_anew(postgres_server, empty_log):
            await until(lambda: _spooled(store, stream))
            assert await store.append(write(stream, fact)) == Spooled()
            await asyncio.sleep(2 * PROBE_SECONDS)  # looks at the log, each of which must change nothing
            assert await _count(empty_log.admin_dsn) == 0
            assert not store.status.available and store.status.spooled_units >= 1
        await until(lambda: _back(store))
        assert await store.find(fact.event_id)
        assert store.status.rejected_units == 0
