"""A database that a release made and filled is brought up to this one, and every byte of its log is as it was."""

import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from events import codec, schema
from events.embedded import EmbeddedPostgres
from events.filter import EventFilter
from events.ids import short
from events.lease import PostgresLeases
from events.schema_plan import MANIFEST
from events.store import Appended
from tests.event_fixtures import APP_USER, as_user, connection, ensure_role, open_store
from tests.factories import events, new_stream, write
from tests.golden import files
from tests.releases.inside import whole
from tests.releases.products import CURRENT, RELEASED, Product, inside, number_of, released, to_come

pytestmark = [pytest.mark.postgres, pytest.mark.patient]


@pytest_asyncio.fixture
async def made_by(database: str, postgres_server: EmbeddedPostgres) -> str:
    """An empty database whose working role exists."""
    await ensure_role(postgres_server.admin_dsn, APP_USER)
    return database


@pytest.mark.parametrize("number", RELEASED)
async def test_log_of_each_release_is_taken_over_whole(made_by: str, tmp_path: Path, number: str) -> None:
    async with inside(released(number, tmp_path), "fill", made_by, str(files.PAYLOADS)) as filled:
        await filled.end()
    former = [bytes.fromhex(line) for line in filled.lines]
    assert len(former) > 80, "an event of each type, and some more"
    before = await schema.status(made_by, APP_USER)
    assert (before.verdict, before.database) == ("pending", number)
    assert (await schema.apply(made_by, APP_USER)).rights_separated
    async with open_store(as_user(made_by, APP_USER)) as store:
        found = await whole(store)
        assert [codec.leaf_bytes(event) for event in found] == former
        assert [event.position for event in found] == list(range(1, len(found) + 1))
        assert all(codec.decode(event) and codec.decode_actor(event) for event in found)
        wanted = EventFilter(session_id="s")
        for _ in range(2):  # without an index of what the former release wrote, and with it
            assert (await store.search(wanted)).events == [event for event in found if wanted.matches(event)] != []
            assert await store.index() == 0
        assert isinstance(await store.append(write(new_stream(), *events(3))), Appended)
        assert isinstance(await store.append(write("session-long", *events(1), expected=20)), Appended)
        assert await PostgresLeases(store.pool).claim("job", "another") is None, "it is held still"
        for statement in ("delete from log.events", "update public.session_gateway_schema set release = ''"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await store.pool.execute(statement)
    assert (await schema.status(made_by, APP_USER)).verdict == "up to date"


@pytest.mark.parametrize("number", RELEASED)
async def test_upgraded_database_is_the_same_as_a_new_one(
    made_by: str, postgres_server: EmbeddedPostgres, tmp_path: Path, number: str
) -> None:
    """Functions, tables, constraints, rights: whatever way led there."""
    async with inside(released(number, tmp_path), "apply", made_by) as old:
        await old.printed(1)
        old.go()
        await old.end()
    await schema.apply(made_by, APP_USER)
    upgraded = await _made_of(made_by)
    async with connection(made_by) as admin:
        await admin.execute("drop schema log cascade; drop schema view cascade; drop table session_gateway_schema")
    await schema.apply(made_by, APP_USER)
    assert await _made_of(made_by) == upgraded


@pytest.mark.parametrize("number", RELEASED)
async def test_gateway_that_owns_its_log_upgrades_it_itself(database: str, tmp_path: Path, number: str) -> None:
    """A hosted Postgres with one role, and no DB_ADMIN_URL."""
    user = f"plain_{short()}"
    await ensure_role(database, user)
    dsn = as_user(database, user)
    async with connection(database) as admin:
        name = await admin.fetchval("select quote_ident(current_database())")
        await admin.execute(f"alter database {name} owner to {user}")
        async with inside(released(number, tmp_path), "fill", dsn, str(files.PAYLOADS), user=user) as filled:
            await filled.end()
        assert not (await schema.apply(dsn, user)).rights_separated
        assert (await schema.status(dsn, user)).verdict == "up to date"
        async with open_store(dsn) as store:
            assert [codec.leaf_bytes(event).hex() for event in await whole(store)] == filled.lines
            assert isinstance(await store.append(write(new_stream(), *events(3))), Appended)
        await admin.execute(f"alter database {name} owner to current_user; drop owned by {user}; drop role {user}")


_CATALOGS = """
select 'function', p.oid::regprocedure::text, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '')
  from pg_proc p where p.pronamespace in (select oid from pg_namespace where nspname in ('log', 'view'))
union all
select 'column', a.attrelid::regclass::text, a.attname || format_type(a.atttypid, a.atttypmod) || a.attnotnull
         || coalesce(c.relacl::text, '') || pg_get_userbyid(c.relowner)
  from pg_attribute a join pg_class c on c.oid = a.attrelid
 where a.attnum > 0 and not a.attisdropped and c.relname not like 'events\\_%'
   and (c.relname = 'session_gateway_schema'
        or c.relnamespace in (select oid from pg_namespace where nspname in ('log', 'view')))
union all
select 'constraint', conrelid::regclass::text, conname || pg_get_constraintdef(oid)
  from pg_constraint where connamespace in (select oid from pg_namespace where nspname in ('log', 'view'))
   and conrelid::regclass::text not like '%events\\_%'
union all
select 'trigger', tgrelid::regclass::text, pg_get_triggerdef(oid) from pg_trigger
 where not tgisinternal and tgrelid::regclass::text not like '%events\\_%'
union all
select 'file', file, sha256 from public.session_gateway_schema
 order by 1, 2, 3
"""


async def _made_of(dsn: str) -> list[tuple[str, ...]]:
    async with connection(dsn) as admin:
        found = [tuple(row) for row in await admin.fetch(_CATALOGS)]
    assert {row[0] for row in found} == {"function", "column", "constraint", "trigger", "file"}
    return found


@pytest.mark.parametrize("former", ["empty", *RELEASED])
async def test_processes_that_start_at_once_upgrade_once(made_by: str, tmp_path: Path, former: str) -> None:
    """Four of this release, and then four of the next: one applies, the others find it done."""
    if former != "empty":
        await _at_once([released(former, tmp_path)], made_by)
    for product in (CURRENT, to_come(tmp_path)):
        before = await schema.status(made_by, APP_USER, directory=product.sql)
        ran = await _at_once([product] * 4, made_by)
        assert ran == [0, 0, 0, len([step for step in before.steps if step.file])]
        after = await schema.status(made_by, APP_USER, directory=product.sql)
        assert (after.verdict, after.database) == ("up to date", number_of(product))


@pytest.mark.parametrize("number", RELEASED)
async def test_releases_that_start_at_once_agree(made_by: str, tmp_path: Path, number: str) -> None:
    """Whoever comes first: the later release's schema stands, and all of them start."""
    former = released(number, tmp_path)
    await _at_once([former, CURRENT, former, CURRENT], made_by)
    assert (await schema.status(made_by, APP_USER)).verdict == "up to date"


@pytest.mark.parametrize("number", RELEASED)
async def test_former_release_never_brings_back_a_function(made_by: str, tmp_path: Path, number: str) -> None:
    """Though the later one only edited it: no file has a name that the former release does not know."""
    later = Product(CURRENT.root, Path(shutil.copytree(CURRENT.sql, tmp_path / "sql")))
    (later.sql / MANIFEST).write_text('release = "9.0.0"\noldest = "0.1.0"\n')
    edited = later.sql / "215_position_at.sql"
    edited.write_text(edited.read_text().replace("declare\n", "declare\n  -- better\n"))
    await schema.apply(made_by, APP_USER, directory=later.sql)
    made = await _made_of(made_by)
    assert any("-- better" in row[2] for row in made)
    assert await _at_once([released(number, tmp_path), CURRENT], made_by) == [0, 0]
    assert await _made_of(made_by) == made


async def _at_once(products: list[Product], database: str) -> list[int]:
    """How many files each ran, in order of number."""
    async with AsyncExitStack() as stack:
        starting = [await stack.enter_async_context(inside(product, "apply", database)) for product in products]
        for one in starting:
            await one.printed(1)
        for one in starting:
            one.go()
        for one in starting:
            await one.end()
    return sorted(int(one.lines[-1]) for one in starting)
