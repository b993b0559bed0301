"""What a rebuild, a proof and a status ask of whole tables: each side once, or nothing at all."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from events.embedded import EmbeddedPostgres
from projections import comparison, proof, table_report, table_sql
from projections.session_state import SessionState
from projections.tables import SESSIONS
from tests.event_fixtures import LogDatabase, connection, log_database
from tests.plans.explained import Connection, Explained, explain

pytestmark = pytest.mark.postgres

ROWS = 5000
DIFFERENT = 7
# Rows that this connection has read: by a look at the table, or at an index of it alone.
READ = """
select pg_stat_get_xact_tuples_returned('view.sessions'::regclass)
       + (select sum(pg_stat_get_xact_tuples_returned(indexrelid))
            from pg_index where indrelid = 'view.sessions'::regclass)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["fresh", "analysed"])
async def filled(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    """``sessions`` and its successor, which differ in some rows."""
    rows = [SESSIONS.values(f"s{number}", SessionState(session_id=f"s{number}")) for number in range(ROWS)]
    async with log_database(postgres_server) as database:
        async with connection(database.app_dsn) as app:
            await app.execute("select view.begin_rebuild('sessions')")
            for into in ("", "view.sessions_next"):
                await app.execute(table_sql.upsert(SESSIONS, into), *map(list, zip(*rows, strict=True)))
            await app.execute(f"update view.sessions set port = 1 where substr(session_id, 2)::int < {DIFFERENT}")
        if request.param == "analysed":
            async with connection(database.admin_dsn) as superuser:
                await superuser.execute("analyze view.sessions, view.sessions_next")
        yield database


@pytest_asyncio.fixture
async def admin(filled: LogDatabase) -> AsyncIterator[Connection]:
    async with connection(filled.admin_dsn) as opened:
        yield opened


def each_once(plan: Explained, *sides: str) -> None:
    """By a hash or a merge of both: a nested loop would read one of them once a row of the other."""
    for side in sides:
        assert len(plan.over(side)) == 1 and plan.read(side) == ROWS, plan.text
    assert '"Join Type": "Full"' in plan.text, plan.text


async def test_the_comparison_of_a_rebuild_reads_each_table_once(admin: Connection) -> None:
    """The projector stands still meanwhile."""
    plan = await explain(admin, "select * from view.compare_rebuild('sessions')")
    each_once(plan, "sessions", "sessions_next")
    assert tuple(await admin.fetchrow("select * from view.compare_rebuild('sessions')") or ()) == (ROWS, DIFFERENT)


async def test_what_differs_is_named_by_one_look_at_each_table(admin: Connection) -> None:
    """In the snapshot before it, and only when something does."""
    plan = await explain(admin, comparison.different(SESSIONS))
    each_once(plan, "sessions", "sessions_next")
    hashes = [row[0] for row in await admin.fetch(comparison.different(SESSIONS))]
    assert len(hashes) == DIFFERENT and hashes == sorted(hashes)


async def test_at_the_exchange_only_what_was_touched_is_looked_at(admin: Connection) -> None:
    keys = ["s3", "s4000", "nobody"]
    plan = await explain(admin, comparison.touched(SESSIONS), keys)
    for side in ("sessions", "sessions_next"):
        assert plan.read(side) <= len(keys), plan.text
    found = {row[0]: tuple(row)[2:] for row in await admin.fetch(comparison.touched(SESSIONS), keys)}
    assert found == {"s3": (True, True), "s4000": (True, False), "nobody": (False, False)}
    hashes = {row[0] for row in await admin.fetch(comparison.different(SESSIONS))}
    assert {row[1] in hashes for row in await admin.fetch(comparison.touched(SESSIONS), keys[:1])} == {True}


async def test_the_join_of_a_proof_reads_each_side_once_and_sorts_what_differs(admin: Connection) -> None:
    columns = ", ".join([column.name for column in SESSIONS.columns] + ["state"])
    await admin.execute(f"create temporary table {proof.FOLDED} as select {columns} from view.sessions_next")
    await admin.execute(f"alter table pg_temp.{proof.FOLDED} add primary key ({SESSIONS.key.name})")
    await admin.execute(f"analyze pg_temp.{proof.FOLDED}")
    plan = await explain(admin, proof.differing(SESSIONS))
    each_once(plan, "sessions", proof.FOLDED)
    assert len(await admin.fetch(proof.differing(SESSIONS))) == DIFFERENT


async def test_a_status_reads_no_row_of_a_large_table(admin: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it has grown to: it is counted when it is small or that is asked for."""
    for bytes_counted, exact, read in ((0, False, 0), (0, True, ROWS), (1 << 30, False, ROWS)):
        monkeypatch.setattr(table_report, "COUNTED_BYTES", bytes_counted)
        async with admin.transaction():
            before = await admin.fetchval(READ)
            rows, counted = await table_report._rows(admin, SESSIONS, exact=exact)
            assert counted == bool(read) and (not counted or rows == ROWS)
            assert await admin.fetchval(READ) - before == read
