"""What can go wrong while a schema is applied: each is one sentence of ours that says what to do."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from events import schema
from events.embedded import EmbeddedPostgres
from events.errors import SchemaMissing, StoreUnavailable
from events.ids import short
from events.schema import Applied, SchemaRefused
from events.schema_plan import SQL_DIR
from tests.event_fixtures import APP_USER, as_user, connection, ensure_role, log_database, until

SECRET = "hun/ter?2#se@cret"
WAITING = """
select pid from pg_stat_activity
 where datname = current_database() and wait_event_type = 'Lock' and pid <> pg_backend_pid()
"""


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@127.0.0.1:1/d",
        "postgresql://u:hun/ter@127.0.0.1:1/d",
        "postgresql://u:hun?ter@127.0.0.1:1/d",
        "postgresql://u:hun#ter@127.0.0.1:1/d",
        "postgresql://u:hun/ter",
        "postgresql://u:hun@127.0.0.1:port/d",
        "postgresql://u:hunter@[::1/d",
        "postgresql://u:hunter@127.0.0.1:1/d",
        "postgresql://u@127.0.0.1:1/d?password=hunter",
        "hunter",
    ],
)
async def test_no_part_of_a_password_is_told(dsn: str) -> None:
    """Written into the URL as it is, it ends the host early: what follows looks like a host, a port, a path."""
    with pytest.raises(StoreUnavailable) as refused:
        await schema.apply(dsn, "u")
    assert not any(part in str(refused.value) for part in ("hun", "ter?", "se@", "cret"))


@pytest.mark.postgres
async def test_working_role_that_does_not_exist_is_named(database: str) -> None:
    for call in (schema.apply, schema.status):
        with pytest.raises(SchemaMissing, match=r"no role nobody_here: create it .*DB_USER"):
            await call(database, "nobody_here")


@pytest.mark.postgres
async def test_role_without_rights_is_told_which_setting_helps(database: str) -> None:
    poor = f"poor_{short()}"
    await ensure_role(database, poor)
    with pytest.raises(SchemaMissing, match=f"{poor} may not apply the schema .*set DB_ADMIN_URL"):
        await schema.apply(as_user(database, poor), poor)
    async with connection(database) as admin:
        await admin.execute(f"drop role {poor}")


@pytest.mark.postgres
async def test_role_that_may_not_read_the_history_is_told(postgres_server: EmbeddedPostgres) -> None:
    stranger = f"stranger_{short()}"
    async with log_database(postgres_server) as log:
        await ensure_role(log.admin_dsn, stranger)
        with pytest.raises(SchemaMissing, match=r"session_gateway_schema.*DB_ADMIN_URL"):
            await schema.apply(as_user(log.admin_dsn, stranger), APP_USER)
        async with connection(log.admin_dsn) as admin:
            await admin.execute(f"drop role {stranger}")


@pytest.mark.postgres
async def test_other_process_that_applies_is_waited_for_within_bounds(postgres_server: EmbeddedPostgres) -> None:
    async with log_database(postgres_server) as log, connection(log.admin_dsn) as other:
        await other.execute(f"begin; select pg_advisory_xact_lock({schema._LOCK})")
        with pytest.raises(StoreUnavailable, match=r"another process has been applying the schema for 0\.2 s"):
            await schema.apply(log.admin_dsn, APP_USER, lock_seconds=0.2)
        waiting = asyncio.create_task(schema.apply(log.admin_dsn, APP_USER))
        async with connection(log.admin_dsn) as watching:
            await until(lambda: watching.fetchval(WAITING))
        await other.execute("commit")
        assert await waiting == Applied((), rights_separated=True)


@pytest.mark.postgres
async def test_held_table_stops_the_upgrade_and_not_the_log(
    postgres_server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that waits behind a backup has every append wait behind itself."""
    release = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    (release / "1000_mood.sql").write_text("alter table log.events add column mood text;")
    monkeypatch.setattr(schema, "TABLE_SECONDS", 0.2)
    async with log_database(postgres_server) as log:
        async with connection(log.admin_dsn) as backup:
            await backup.execute("begin; select count(*) from log.events")
            with pytest.raises(StoreUnavailable, match=r"1000_mood\.sql could not .*nothing was changed"):
                await schema.apply(log.admin_dsn, APP_USER, directory=release)
        assert (await schema.apply(log.admin_dsn, APP_USER, directory=release)).files[0] == "1000_mood.sql"


@asynccontextmanager
async def applying(dsn: str, release: Path) -> AsyncIterator["asyncio.Task[Applied]"]:
    """An upgrade that waits in the middle of its first file."""
    (release / "1000_wait.sql").write_text("alter table log.events add column mood text; select pg_sleep(60);")
    task = asyncio.create_task(schema.apply(dsn, APP_USER, directory=release))
    try:
        async with connection(dsn) as admin:
            await until(lambda: admin.fetchval("select pid from pg_stat_activity where wait_event = 'PgSleep'"))
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.postgres
async def test_connection_that_dies_midway_changes_nothing(database: str, tmp_path: Path) -> None:
    release = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    await ensure_role(database, APP_USER)
    await schema.apply(database, APP_USER)
    async with applying(database, release) as task, connection(database) as admin:
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
        with pytest.raises(StoreUnavailable, match=r"went away while the schema was read or applied .*start again"):
            await asyncio.wait_for(task, 10)
    assert await schema.apply(database, APP_USER) == Applied((), rights_separated=True)


@pytest.mark.postgres
async def test_step_without_an_end_is_given_up(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as the driver's TimeoutError."""
    release = Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))
    await ensure_role(database, APP_USER)
    await schema.apply(database, APP_USER)
    (release / "1000_wait.sql").write_text("alter table log.events add column mood text; select pg_sleep(60);")
    monkeypatch.setattr(schema, "_STEP_SECONDS", 0.2)
    with pytest.raises(StoreUnavailable, match="TimeoutError"):
        await asyncio.wait_for(schema.apply(database, APP_USER, directory=release), 10)
    monkeypatch.undo()
    assert await schema.apply(database, APP_USER) == Applied((), rights_separated=True)


@pytest.mark.postgres
@pytest.mark.parametrize("columns", ["name text", "file text, sha256 int"])
async def test_table_of_somebody_else_is_told(database: str, columns: str) -> None:
    """Whatever the database answers, a caller who knows our errors knows them all."""
    await ensure_role(database, APP_USER)
    async with connection(database) as admin:
        await admin.execute(f"create table public.session_gateway_schema ({columns})")
    with pytest.raises(SchemaRefused, match=r"refuses history|at public\.session_gateway_schema"):
        await schema.apply(database, APP_USER)
