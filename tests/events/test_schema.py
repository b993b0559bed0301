"""The schema: applied by any number of processes at once, only what changed, and never over a newer release."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import pytest_asyncio

from events import schema
from events.embedded import EmbeddedPostgres
from events.errors import SchemaMissing, StoreUnavailable
from events.ids import short
from events.schema import Applied, SchemaRefused
from events.schema_plan import MANIFEST, SQL_DIR, read, sql_files
from events.schema_roles import OWNER_ROLE
from events.schema_steps import SchemaEdited, SchemaTooNew
from events.store import Appended
from tests.event_fixtures import APP_USER, as_user, connection, ensure_role, open_store
from tests.factories import events, new_stream, write
from tests.postgres_fixtures import fresh_database

RIGHTS: Final = ("910_grant_gateway.sql", "911_grant_auditor.sql")  # again with every change
pytestmark = pytest.mark.postgres

STARTER = """
import asyncio, sys
from events import schema
sys.stdin.readline()
print(len(asyncio.run(schema.apply(sys.argv[1], sys.argv[2])).files))
"""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A copy of ``sql/`` to make later releases of."""
    return Path(shutil.copytree(SQL_DIR, tmp_path / "sql"))


@pytest_asyncio.fixture
async def app_role(postgres_server: EmbeddedPostgres) -> None:
    await ensure_role(postgres_server.admin_dsn, APP_USER)


@pytest_asyncio.fixture
async def database_of(database: str) -> AsyncIterator[str]:
    """A database and everything in its schema ``public``, given to a plain role; the DSN is of that role."""
    owner = f"plain_{short()}"
    await ensure_role(database, owner)
    async with connection(database) as admin:
        name = await admin.fetchval("select quote_ident(current_database())")
        await admin.execute(f"alter database {name} owner to {owner}")
    yield as_user(database, owner)
    async with connection(database) as admin:
        await admin.execute(f"alter database {name} owner to current_user; drop owned by {owner}; drop role {owner}")


def say(directory: Path, number: str, *, oldest: str = "0.1.0") -> None:
    """Make it another release's."""
    (directory / MANIFEST).write_text(f'release = "{number}"\noldest = "{oldest}"\n')


async def history(dsn: str) -> "list[asyncpg.Record]":
    async with connection(dsn) as admin:
        return list(await admin.fetch("select * from public.session_gateway_schema order by file"))


async def holds_events(admin_dsn: str, app_user: str) -> bool:
    async with open_store(as_user(admin_dsn, app_user)) as store:
        before = (await store.head()).position
        assert isinstance(await store.append(write(new_stream(), *events(2))), Appended)
        return len(await store.read_log(after=before)) == 2


async def test_files_are_applied_in_order(app_role: None, database: str) -> None:
    """Changes (1000 and up) come before the functions, which may use what they add."""
    applied = await schema.apply(database, APP_USER)
    assert applied == Applied(tuple(file.name for file in sql_files()), rights_separated=True)
    numbers = [int(name.partition("_")[0]) for name in applied.files]
    once = [number for number in numbers if number < 200 or number >= 1000]
    assert numbers == sorted(once) + sorted(set(numbers) - set(once))
    assert await holds_events(database, APP_USER)


async def test_second_time_changes_nothing(app_role: None, database: str) -> None:
    await schema.apply(database, APP_USER)
    async with connection(database) as admin:
        former = await admin.fetch("select * from public.session_gateway_schema")
        assert await schema.apply(database, APP_USER) == Applied((), rights_separated=True)
        assert await admin.fetch("select * from public.session_gateway_schema") == former


async def test_processes_that_start_at_once_make_one_schema(app_role: None, database: str) -> None:
    async with AsyncExitStack() as stack:
        starters = []
        for _ in range(4):
            starter = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", STARTER, database, APP_USER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            stack.push_async_callback(starter.wait)
            starters.append(starter)
        told = await asyncio.gather(*(starter.communicate(b"\n") for starter in starters))
    assert [starter.returncode for starter in starters] == [0] * 4
    assert sorted(int(out) for out, _ in told) == [0, 0, 0, len(sql_files())]
    assert await holds_events(database, APP_USER)


async def test_databases_of_one_server_are_made_at_once(postgres_server: EmbeddedPostgres) -> None:
    """Roles and who is in them belong to the whole server, the lock to one database: first starts meet there."""
    user = f"app_{short()}"
    await ensure_role(postgres_server.admin_dsn, user)
    async with AsyncExitStack() as stack:
        bases = [await stack.enter_async_context(fresh_database(postgres_server)) for _ in range(3)]
        async with connection(postgres_server.admin_dsn) as admin:
            if await admin.fetchval("select true from pg_roles where rolname = $1", OWNER_ROLE):
                await admin.execute(f"revoke {OWNER_ROLE} from current_user")
        applied = await asyncio.gather(*(schema.apply(base, user) for base in bases))
        assert {one.rights_separated for one in applied} == {True}
        assert all([await holds_events(base, user) for base in bases])


async def test_changed_function_is_applied_again_with_the_rights(app_role: None, database: str, release: Path) -> None:
    await schema.apply(database, APP_USER, directory=release)
    changed = release / "214_find_event.sql"
    changed.write_text(changed.read_text() + "-- faster\n")
    applied = await schema.apply(database, APP_USER, directory=release)
    assert applied.files == ("214_find_event.sql", *RIGHTS)
    assert await schema.apply(database, APP_USER, directory=release) == Applied((), rights_separated=True)


async def test_new_function_can_be_called_by_the_gateway(app_role: None, database: str, release: Path) -> None:
    """The rights' own text is the same, but what they are given on is not."""
    await schema.apply(database, APP_USER, directory=release)
    (release / "299_new.sql").write_text("create function log.brand_new() returns int language sql as 'select 42';")
    await schema.apply(database, APP_USER, directory=release)
    async with connection(as_user(database, APP_USER)) as app:
        assert await app.fetchval("select log.brand_new()") == 42


async def test_change_of_a_table_is_applied_before_the_functions(app_role: None, database: str, release: Path) -> None:
    await schema.apply(database, APP_USER, directory=release)
    (release / "1000_mood.sql").write_text("alter table log.events add column mood text;")
    (release / "298_mood.sql").write_text(
        "create function log.mood() returns text language sql begin atomic select max(mood) from log.events; end;"
    )
    applied = await schema.apply(database, APP_USER, directory=release)
    assert applied.files[:2] == ("1000_mood.sql", "298_mood.sql")
    assert await holds_events(database, APP_USER)


@pytest.mark.parametrize("name", ["110_events.sql", "010_schemas.sql"])
async def test_edited_released_file_is_refused(app_role: None, database: str, release: Path, name: str) -> None:
    """Else two databases of one release would differ."""
    await schema.apply(database, APP_USER, directory=release)
    (release / name).write_text((release / name).read_text() + "-- a better comment\n")
    (release / "214_find_event.sql").write_text("drop function log.find_event(uuid);")
    with pytest.raises(SchemaEdited, match=name):
        await schema.apply(database, APP_USER, directory=release)
    async with open_store(as_user(database, APP_USER)) as store:
        assert await store.find(store.log_id) is None


async def test_database_of_a_newer_release_is_left_alone(app_role: None, database: str, release: Path) -> None:
    """The former release serves beside the newer one, and must not bring back its functions, which have no new name."""
    say(release, "0.3.0")
    newer = release / "214_find_event.sql"
    newer.write_text(newer.read_text() + "-- newer\n")
    await schema.apply(database, APP_USER, directory=release)
    former = await history(database)
    assert await schema.apply(database, APP_USER) == Applied((), rights_separated=True, newer="0.3.0")
    assert await history(database) == former
    assert await holds_events(database, APP_USER)


async def test_files_that_a_later_release_renamed_or_removed_confuse_nobody(
    app_role: None, database: str, release: Path
) -> None:
    """Neither the later release, which has them no more, nor the former, which has them still."""
    await schema.apply(database, APP_USER)
    say(release, "0.3.0")
    (release / "112_streams.sql").rename(release / "119_stream_heads.sql")
    (release / "214_find_event.sql").rename(release / "218_find_event.sql")
    (release / "410_event_json.sql").unlink()
    applied = await schema.apply(database, APP_USER, directory=release)
    assert applied == Applied(("218_find_event.sql", *RIGHTS), rights_separated=True)
    assert await schema.apply(database, APP_USER, directory=release) == Applied((), rights_separated=True)
    assert await schema.apply(database, APP_USER) == Applied((), rights_separated=True, newer="0.3.0")
    assert await holds_events(database, APP_USER)


async def test_contract_refuses_who_would_miss_what_it_removed(app_role: None, database: str, release: Path) -> None:
    say(release, "0.4.0", oldest="0.3.0")
    await schema.apply(database, APP_USER, directory=release)
    former = await history(database)
    with pytest.raises(SchemaTooNew, match=r"of release 0\.4\.0.*start 0\.3\.0 or a later one"):
        await schema.apply(database, APP_USER)
    assert await history(database) == former
    say(release, "0.3.0")
    assert (await schema.apply(database, APP_USER, directory=release)).newer == "0.4.0"


async def test_release_that_changes_no_file_is_written_down(app_role: None, database: str, release: Path) -> None:
    """Else a former release could not tell that a later one was here, and what that one asks of it."""
    await schema.apply(database, APP_USER)
    say(release, "0.3.0", oldest="0.3.0")
    assert await schema.apply(database, APP_USER, directory=release) == Applied((), rights_separated=True)
    with pytest.raises(SchemaTooNew):
        await schema.apply(database, APP_USER)


async def test_history_tells_which_release_ran_a_file_last(app_role: None, database: str, release: Path) -> None:
    await schema.apply(database, APP_USER)
    say(release, "0.3.0")
    changed = release / "214_find_event.sql"
    changed.write_text(changed.read_text() + "-- faster\n")
    await schema.apply(database, APP_USER, directory=release)
    of = {row["file"]: row["release"] for row in await history(database)}
    later = {"214_find_event.sql", *RIGHTS, MANIFEST}
    assert of == {name: "0.3.0" if name in later else read().manifest.release for name in of}
    assert of.keys() == {MANIFEST, *(file.name for file in sql_files())}


async def test_broken_file_leaves_everything_as_it_was(app_role: None, database: str, release: Path) -> None:
    """Whole or not at all: the next start of the former release finds its own schema."""
    await schema.apply(database, APP_USER, directory=release)
    (release / "1000_first.sql").write_text("alter table log.events add column mood text;")
    (release / "1001_broken.sql").write_text("alter table log.events add column mood text;")
    with pytest.raises(SchemaRefused, match=r"1001_broken\.sql .*mood.* nothing was changed"):
        await schema.apply(database, APP_USER, directory=release)
    assert await schema.apply(database, APP_USER) == Applied((), rights_separated=True)
    assert await holds_events(database, APP_USER)


async def test_status_changes_nothing_and_says_what_apply_would_run(
    app_role: None, database: str, postgres_server: EmbeddedPostgres
) -> None:
    """What is printed is what is run: the steps, run by hand, make the same database."""
    found = await schema.status(database, APP_USER)
    async with connection(database) as admin:
        assert not await admin.fetchval("select to_regnamespace('log')")
        assert not await admin.fetchval("select to_regclass('public.session_gateway_schema')")
        assert (found.verdict, found.database, found.rights_separated) == ("pending", None, True)
        async with admin.transaction():
            for step in found.steps:
                await admin.execute(step.sql)
    after = await schema.status(database, APP_USER)
    assert (after.verdict, after.database, after.steps) == ("up to date", after.release, ())
    assert await schema.apply(database, APP_USER) == Applied((), rights_separated=True)
    assert await holds_events(database, APP_USER)


async def test_gateway_that_owns_its_log_works_and_says_so(database_of: str) -> None:
    """A hosted Postgres gives one role: everything works, but the rights are not separated."""
    user = database_of.partition("//")[2].partition("@")[0]
    applied = await schema.apply(database_of, user)
    assert applied.files and not applied.rights_separated
    assert await schema.apply(database_of, user) == Applied((), rights_separated=False)
    assert await holds_events(database_of, user)


async def test_migrating_role_that_may_make_no_roles_still_separates(app_role: None, database_of: str) -> None:
    """It owns the log itself, and the gateway is somebody else: that is all that separation means."""
    applied = await schema.apply(database_of, APP_USER)
    assert applied.rights_separated
    assert await holds_events(database_of, APP_USER)
    async with connection(as_user(database_of, APP_USER)) as app:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute("delete from log.events")


async def test_admin_who_comes_later_finds_the_former_owner(database: str, database_of: str) -> None:
    """First DB_USER alone, later DB_ADMIN_URL too: the log's owner stays, and changes are made in his name."""
    user = database_of.partition("//")[2].partition("@")[0]
    await schema.apply(database_of, user)
    assert await schema.apply(database, user) == Applied((), rights_separated=False)
    assert await holds_events(database, user)


async def test_change_by_an_admin_who_comes_later_is_applied(database: str, database_of: str, release: Path) -> None:
    user = database_of.partition("//")[2].partition("@")[0]
    await schema.apply(database_of, user, directory=release)
    (release / "1000_mood.sql").write_text("alter table log.events add column mood text;")
    changed = release / "214_find_event.sql"
    changed.write_text(changed.read_text() + "-- faster\n")
    applied = await schema.apply(database, user, directory=release)
    assert applied.files == ("1000_mood.sql", "214_find_event.sql", *RIGHTS)
    assert await holds_events(database, user)


async def test_gateway_starts_without_the_admin_who_made_the_log(app_role: None, database: str, release: Path) -> None:
    """DB_ADMIN_URL is needed once a release; the gateway's own start must not ask for more than its rights."""
    await schema.apply(database, APP_USER, directory=release)
    own = as_user(database, APP_USER)
    assert await schema.apply(own, APP_USER, directory=release) == Applied((), rights_separated=True)
    changed = release / "214_find_event.sql"
    changed.write_text(changed.read_text() + "-- faster\n")
    with pytest.raises(SchemaMissing, match="DB_ADMIN_URL"):
        await schema.apply(own, APP_USER, directory=release)


async def test_gateway_that_is_superuser_has_no_separated_rights(database: str) -> None:
    """Whoever may act as the owner may change the log, whatever roles there are."""
    user = f"super_{short()}"
    await ensure_role(database, user, "login superuser")
    assert not (await schema.apply(database, user)).rights_separated
    assert await holds_events(database, user)


async def test_partitions_are_made_ahead(app_role: None, database: str) -> None:
    await schema.apply(database, APP_USER, partition_size=10)
    assert await _partitions(database) == [(1, 10), (11, 20)]
    async with open_store(as_user(database, APP_USER)) as store:
        await store.append(write(new_stream(), *events(5)))
        await schema.apply(database, APP_USER)
        assert await _partitions(database) == [(1, 10), (11, 20), (21, 30)]
        await store.append(write(new_stream(), *events(20)))
        await schema.apply(database, APP_USER)
        assert await _partitions(database) == [(1, 10), (11, 20), (21, 30), (31, 40), (41, 50)]


async def _partitions(dsn: str) -> list[tuple[int, int]]:
    async with connection(dsn) as admin:
        rows = await admin.fetch("select first_position, last_position from log.partitions order by 1")
    return [(row[0], row[1]) for row in rows]


async def test_partition_is_attached_beside_an_open_reader_and_an_open_append(app_role: None, database: str) -> None:
    """A backup reads for hours: a partition that waited behind it would stop every append."""
    await schema.apply(database, APP_USER, partition_size=10)
    dsn = as_user(database, APP_USER)
    async with open_store(dsn) as store, connection(dsn) as reading, connection(dsn) as keeping:
        await store.append(write(new_stream(), *events(9)))
        async with reading.transaction(isolation="repeatable_read", readonly=True):
            assert await reading.fetchval("select count(*) from log.events") == 9
            assert await keeping.fetchval("select log.ensure_partitions()", timeout=5) == 1
            await store.append(write(new_stream(), *events(20)))
            assert await reading.fetchval("select count(*) from log.events") == 9


async def test_keepers_that_meet_make_each_partition_once(app_role: None, database: str) -> None:
    await schema.apply(database, APP_USER, partition_size=10)
    async with open_store(as_user(database, APP_USER)) as store:
        await store.append(write(new_stream(), *events(20)))
        made = await asyncio.gather(*(store.pool.fetchval("select log.ensure_partitions()") for _ in range(8)))
    assert sorted(made) == [0] * 7 + [2]


async def test_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await schema.apply(f"postgresql://u@/n?host={tmp_path}", APP_USER)


async def test_user_and_database_are_provided_by_any_number_at_once(postgres_server: EmbeddedPostgres) -> None:
    """Names that need quotes too: they come from settings."""
    user, base = f"App {short()}", f"Base {short()}"
    await asyncio.gather(*(schema.provision(postgres_server.admin_dsn, user, base) for _ in range(4)))
    async with connection(postgres_server.admin_dsn) as admin:
        assert await admin.fetchval("select rolcanlogin from pg_roles where rolname = $1", user)
        assert await admin.fetchval("select count(*) from pg_database where datname = $1", base) == 1
        await admin.execute(f'drop database "{base}" with (force)')
        await admin.execute(f'drop role "{user}"')
