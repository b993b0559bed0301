"""Who may do what to the log, shown by trying: the gateway writes through functions alone, nobody rewrites."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest
import pytest_asyncio

from events.catalogue import SessionFailed
from events.embedded import EmbeddedPostgres
from events.lease import PostgresLeases
from events.schema_roles import OWNER_ROLE
from events.store import Appended
from tests.event_fixtures import LogDatabase, connection, log_database, open_store
from tests.factories import event, events, new_stream, raw, write

pytestmark = pytest.mark.postgres
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TABLES = """
select c.oid::regclass::text as name from pg_class c
 where c.relnamespace = 'log'::regnamespace and c.relkind in ('r', 'p')
 order by 1
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def written_log(postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    """A log with events in two of its partitions and a lease; every statement below is refused or rolled back."""
    async with log_database(postgres_server, partition_size=10) as database:
        async with open_store(database.app_dsn) as store:
            strange = event(SessionFailed, detail="\0\0 \\u0000 \\\0 \U0001f600")
            for first in (event(), strange, event()):
                assert isinstance(await store.append(write(new_stream(), first, *events(4))), Appended)
            await PostgresLeases(store.pool).claim("job", "a")
            await store.pool.execute("select log.ensure_partitions()")
        yield database


async def tables(admin: Connection) -> list[str]:
    """Every table of the log, its partitions too."""
    found = [str(row["name"]) for row in await admin.fetch(TABLES)]
    assert len(found) >= 9 and sum(name.startswith("log.events_") for name in found) >= 3
    return found


async def one_column(admin: Connection, table: str) -> str:
    return str(
        await admin.fetchval(
            "select attname from pg_attribute where attrelid = $1::text::regclass and attnum = 1", table
        )
    )


async def test_gateway_cannot_write_a_table_of_the_log(written_log: LogDatabase) -> None:
    """Not even a partition by its own name."""
    async with connection(written_log.admin_dsn) as admin, connection(written_log.app_dsn) as app:
        for table in await tables(admin):
            column = await one_column(admin, table)
            for statement in (
                f"insert into {table} select * from {table}",
                f"insert into {table} default values",
                f"update {table} set {column} = {column}",
                f"delete from {table}",
                f"truncate {table}",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await app.execute(statement)


async def test_gateway_cannot_change_what_the_log_is_made_of(written_log: LogDatabase) -> None:
    """Dropping a trigger, a function or a partition would be as good as rewriting."""
    async with connection(written_log.app_dsn) as app:
        for statement in (
            "alter table log.events disable trigger refuse_change",
            "drop trigger refuse_change on log.events",
            "drop table log.events_0000000000000000001",
            "alter table log.events detach partition log.events_0000000000000000001",
            "create table log.mine (x int)",
            "create function log.mine() returns int language sql as 'select 1'",
            "drop function log.append_batch",
            "alter function log.refuse_rewrite() owner to current_user",
            "create or replace function log.refuse_rewrite() returns trigger language plpgsql as 'begin end'",
            "drop schema log cascade",
            f"set role {OWNER_ROLE}",
            "set session_replication_role = replica",
            "update public.session_gateway_schema set sha256 = ''",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(statement)


async def test_gateway_cannot_slip_its_own_tables_under_the_functions(written_log: LogDatabase) -> None:
    """The functions act with the owner's rights: what they name must not be found in the caller's schemas."""
    async with connection(written_log.app_dsn) as app, connection(written_log.admin_dsn) as admin:
        before = await admin.fetchval("select position from log.tip")
        for name in ("tip", "streams", "events", "event_key", "identity", "partitions"):
            await app.execute(f"create temp table {name} (like log.{name})")
        await app.execute("set search_path = pg_temp, log, public")
        assert await app.fetchval("select log.position_at(now() + interval '1 day')") == before
        assert len(await app.fetch("select * from log.read_log(0, 100, null)")) == before
        assert await app.fetchval("select log.ensure_partitions()") == 0


async def test_gateway_reads_all_of_the_log(written_log: LogDatabase) -> None:
    async with connection(written_log.app_dsn) as app:
        for name in ("identity", "events", "event_key", "streams", "tip", "partitions", "event_json"):
            assert await app.fetchval(f"select count(*) from log.{name}") > 0


async def test_gateway_works_in_its_own_schema(written_log: LogDatabase) -> None:
    async with connection(written_log.app_dsn) as app:
        await app.execute("begin")
        await app.execute("insert into view.subject_key (key_id, subject, wrapped) values ('k', 's', 'w')")
        await app.execute("update view.lease set holder = 'b'")
        await app.execute("delete from view.subject_key")
        await app.execute("rollback")


async def test_public_may_do_nothing(written_log: LogDatabase) -> None:
    """Any other role of the server: no look and no call, even where somebody let it into the schemas."""
    async with connection(written_log.admin_dsn) as admin:
        await admin.execute("begin; create role passer_by; grant usage on schema log, view to passer_by")
        await admin.execute("set local role passer_by")
        for statement in (
            "select * from log.events",
            "select * from view.subject_key",
            "select log.read_log(0, 1, null)",
            "select view.claim_lease('job', 'b', 1)",
            "select log.ensure_partitions()",
        ):
            await admin.execute("savepoint here")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await admin.execute(statement)
            await admin.execute("rollback to here")
        await admin.execute("rollback")


@pytest.mark.parametrize("role", ["owner", "superuser"])
@pytest.mark.parametrize(
    "statement", ["update {t} set {c} = {c}", "delete from {t}", "truncate {t}", "truncate {t} cascade"]
)
async def test_nobody_rewrites_what_was_written(written_log: LogDatabase, role: str, statement: str) -> None:
    """Events, each partition by itself, ids and the log's identity: refused to the owner and to a superuser.

    Both could drop the triggers first: that is what copies of the log elsewhere are for.
    """
    async with connection(written_log.admin_dsn) as admin:
        written = ("log.events_0000000000000000001", "log.events_0000000000000000011")
        for table in (*written, "log.events", "log.event_key", "log.identity"):
            await admin.execute("begin")
            if role == "owner":
                await admin.execute(f"set local role {OWNER_ROLE}")
            with pytest.raises(asyncpg.PostgresError) as refused:
                await admin.execute(statement.format(t=table, c=await one_column(admin, table)))
            await admin.execute("rollback")
            assert refused.value.sqlstate == "GW010", table


async def test_triggers_guard_every_partition(written_log: LogDatabase) -> None:
    """A TRUNCATE trigger of the parent does not reach its partitions: each needs its own."""
    query = """
    select c.relname from pg_class c
     where c.relnamespace = 'log'::regnamespace and c.relname like 'events%' and c.relkind in ('r', 'p')
       and (select count(*) from pg_trigger t where t.tgrelid = c.oid and t.tgenabled = 'O') <> 2
    """
    async with connection(written_log.admin_dsn) as admin:
        assert await admin.fetch(query) == []


async def test_functions_that_act_for_the_owner_fix_their_search_path(written_log: LogDatabase) -> None:
    query = """
    select p.oid::regprocedure::text from pg_proc p
     where p.pronamespace in ('log'::regnamespace, 'view'::regnamespace) and p.prosecdef
       and not coalesce(p.proconfig::text like '%pg_temp%', false)
    """
    async with connection(written_log.admin_dsn) as admin:
        assert await admin.fetch(query) == []


async def test_people_with_psql_see_json(written_log: LogDatabase) -> None:
    """Of every event: one that holds a text which JSON must escape does not close the view for the others."""
    async with connection(written_log.app_dsn) as app:
        rows = await app.fetch("select type, payload->>'type' as said, actor->>'kind' as kind from log.event_json")
        detail = await app.fetchval("select payload->>'detail' from log.event_json where type = 'session.failed'")
    assert detail == "\ufffd\ufffd \\u0000 \\\ufffd \U0001f600"
    assert len(rows) == 15
    assert all(row["type"] == row["said"] and row["kind"] == "gateway" for row in rows)


async def test_an_event_that_nobody_can_read_does_not_close_the_view(empty_log: LogDatabase) -> None:
    """Its bytes are shown, the others as ever."""
    deep = b"[" * 30_000 + b"]" * 30_000
    async with open_store(empty_log.app_dsn) as store:
        for bad in (b"{", deep, b"\x00\\"):
            await store.append(write("session-a", raw(payload=bad, actor=b"nobody")))
        await store.append(write("session-a", event()))
    async with connection(empty_log.app_dsn) as app:
        rows = await app.fetch(
            "select payload->>'unreadable' as raw, actor->>'unreadable' as who, payload->>'type' as said"
            " from log.event_json order by position"
        )
    assert [row["raw"] for row in rows] == ["{", deep.decode(), "\\000\\\\", None]
    assert [row["who"] for row in rows] == ["nobody"] * 3 + [None] and rows[3]["said"] == "session.stopped"
