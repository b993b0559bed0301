"""RebuildStore: what the gateway's role may do to tables, and to which; what is kept of a rebuild."""

import asyncpg
import pytest

from events.envelope import Fence
from projections.errors import RowRefused, Superseded
from projections.follower import Follower
from projections.rebuild import LEASE
from projections.rebuild_store import RebuildStore
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import connection
from tests.projections.rebuilding import Ground
from tests.projections.rebuilding import database as database
from tests.projections.rebuilding import on as on

pytestmark = pytest.mark.postgres
FUNCTIONS = (
    "begin_rebuild",
    "drop_rebuild",
    "analyze_rebuild",
    "compare_rebuild",
    "swap_rebuild",
    "rebuild_would_lose",
)
OTHERS = (
    *("lease", "subject_key", "projection_checkpoint", "projection_rebuild", "no_such_table", "", "sessions_next"),
    *("Sessions", "sessions; drop table view.lease", 'sessions"', "log.events", "view.sessions", "pg_class", "x" * 51),
)


async def begun(on: Ground) -> tuple[RebuildStore, Fence]:
    lease = f"{LEASE}sessions"
    fence = Fence(lease, await on.leases.claim(lease, "one") or 0)
    rows = RebuildStore(on.store.pool, SESSIONS)
    await rows.start(on.store.log_id, "asked", fence)
    return rows, fence


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_nothing_but_the_table_of_a_projection_is_touched(on: Ground, function: str) -> None:
    """The functions run as the owner of the log: whoever has the gateway's password must not be led by them further
    than to tables that he may empty anyway."""
    tables = "select array_agg(relnamespace || '.' || relname order by oid) from pg_class"
    await begun(on)  # so that there is a sessions_next, which looks like a table of a projection
    before = await on.sql(tables)
    async with connection(on.database.app_dsn) as app:
        for name in OTHERS:
            with pytest.raises(asyncpg.PostgresError) as refused:
                await app.fetch(f"select view.{function}($1)", name)
            assert refused.value.sqlstate == "GW020", name
    assert await on.sql(tables) == before


async def test_the_gateways_role_makes_and_drops_no_table_itself(on: Ground) -> None:
    await begun(on)
    shape = await on.shape(SESSIONS)
    async with connection(on.database.app_dsn) as app:
        await app.execute("grant all on view.sessions to public")  # Postgres warns and grants nothing
        for statement in (
            "create table view.mine (a int)",
            "drop table view.sessions",
            "drop table view.sessions_next",
            "alter table view.sessions rename to mine",
            "select view.copy_rights('log.events', 'view.sessions')",
            "select view.copy_rights('view.sessions', 'log.events')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(statement)
    assert await on.shape(SESSIONS) == shape


async def test_rights_options_and_comment_go_over(on: Ground) -> None:
    """What a database's administrator has given on the table holds on the next one, to the column."""
    name = await on.sql("select 'reader_' || oid from pg_database where datname = current_database()")
    await on.sql(f"create role {name}")
    try:
        for statement in (
            f"grant select (session_id, status) on view.sessions to {name} with grant option",
            "grant select on view.sessions to public",
            "alter table view.sessions set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)",
            "comment on table view.sessions is 'of the month''s report'",
        ):
            await on.sql(statement)
        shape = await on.shape(SESSIONS)
        columns = """select array_agg(attname || attacl::text order by attname) from pg_attribute
                      where attrelid = 'view.sessions'::regclass"""
        given = await on.sql(columns)
        assert given
        await on.rebuild(SESSIONS)
        assert await on.shape(SESSIONS) == shape
        assert await on.sql(columns) == given
        assert await on.sql("select obj_description('view.sessions'::regclass)") == "of the month's report"
    finally:
        await on.sql("revoke select on view.sessions from public")
        await on.sql("alter table view.sessions reset (fillfactor, autovacuum_vacuum_scale_factor)")
        await on.sql("comment on table view.sessions is null")
        await on.sql(f"drop owned by {name}")
        await on.sql(f"drop role {name}")


async def test_a_right_that_was_taken_while_it_was_built_is_not_given_back(on: Ground) -> None:
    await on.sql("grant select on view.sessions to public")
    await on.killed_at(SESSIONS, "compared")
    await on.sql("revoke select on view.sessions from public")
    shape = await on.shape(SESSIONS)
    await on.rebuild(SESSIONS)
    assert await on.shape(SESSIONS) == shape


async def test_nor_is_a_right_to_a_column(on: Ground) -> None:
    """Of two that were given one was taken: the other stays."""
    rights = """select array_agg(attname || attacl::text order by attname) from pg_attribute
                 where attrelid = 'view.sessions'::regclass and attacl <> '{}'"""
    await on.sql("grant select (session_id, metadata) on view.sessions to public")
    try:
        await on.killed_at(SESSIONS, "compared")
        await on.sql("revoke select (metadata) on view.sessions from public")
        (left,) = await on.sql(rights)
        assert left.startswith("session_id")
        await on.rebuild(SESSIONS)
        assert on.steps[0].step == "resumed"
        assert await on.sql(rights) == [left]
    finally:
        await on.sql("revoke select on view.sessions from public")


async def test_nor_is_one_to_a_column_when_it_was_the_last(on: Ground) -> None:
    await on.sql("grant select (metadata) on view.sessions to public")
    await on.killed_at(SESSIONS, "compared")
    await on.sql("revoke select (metadata) on view.sessions from public")
    await on.rebuild(SESSIONS)
    assert not await on.sql(
        "select count(*) from pg_attribute where attrelid = 'view.sessions'::regclass and attacl <> '{}'"
    )


async def test_a_rebuild_goes_on_whatever_the_order_in_which_the_indexes_were_made(on: Ground) -> None:
    """An index that was made anew meanwhile, as against bloat, is the last of the table's and the same as before."""
    await on.killed_at(SESSIONS, "caught_up")
    index = "view.sessions_status"
    definition = await on.sql("select pg_get_indexdef($1::text::regclass)", index)
    await on.sql(f"drop index {index}")
    assert not await on.sql("select view.rebuild_fits('sessions')")
    await on.sql(definition)
    assert await on.sql("select view.rebuild_fits('sessions')")
    await on.rebuild(SESSIONS)
    assert on.steps[0].step == "resumed"


async def test_whoever_lost_the_lease_writes_nothing_more(on: Ground) -> None:
    """A process that was frozen wakes up while another one rebuilds."""
    rows, fence = await begun(on)
    row = await rows.found()
    assert row is not None
    await on.leases.release(fence.lease, "one")
    assert await on.leases.claim(fence.lease, "another")
    with pytest.raises(Superseded):
        await Follower(on.store, rows, [SESSIONS], [row.checkpoint]).step(fence)
    assert await on.sql("select count(*) from view.sessions_next") == 0
    with pytest.raises(Superseded):
        await rows.start(on.store.log_id, "asked", fence)


async def test_of_two_that_saw_the_same_place_one_moves_it(on: Ground) -> None:
    rows, fence = await begun(on)
    row = await rows.found()
    assert row is not None
    first, second = (Follower(on.store, rows, [SESSIONS], [row.checkpoint]) for _ in range(2))
    await first.step(fence)
    with pytest.raises(Superseded):
        await second.step(fence)


async def test_a_place_and_its_rows_are_written_together(on: Ground) -> None:
    rows, fence = await begun(on)
    row = await rows.found()
    assert row is not None
    await on.sql("alter table view.sessions_next add constraint never check (false)")
    with pytest.raises(RowRefused):
        await Follower(on.store, rows, [SESSIONS], [row.checkpoint]).step(fence)
    assert await rows.found() == row
    assert await on.sql("select count(*) from view.sessions_next") == 0


async def test_what_is_done_and_not_told_is_not_dropped(on: Ground) -> None:
    await on.killed_at(SESSIONS, "swapped")
    rows = RebuildStore(on.store.pool, SESSIONS)
    assert not await rows.drop()
    found = await rows.found()
    assert found is not None and found.told_id is not None


async def test_every_table_has_the_shape_that_the_functions_look_for(on: Ground) -> None:
    for table in TABLES:
        await on.sql(f"select view.projection_table('{table.name}')")
