"""What the projector and a starting process ask of the tables: by keys, whatever the tables have grown to."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio

from events.embedded import EmbeddedPostgres
from projections import table_sql
from projections.lifecycle import Phase
from projections.session_state import SessionState
from projections.table import Table
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import LogDatabase, connection, log_database
from tests.factories import LOG_ID, MOMENT
from tests.plans.explained import Connection, Explained, explain

pytestmark = pytest.mark.postgres

ROWS = 5000
PAGE = [f"s{number}" for number in range(0, 1000, 4)]  # touched by one page of the log
TIMES = 7  # from the sixth call on the server may take one plan for all values
PHASES = [Phase.STOPPED] * 48 + [Phase.FAILED, Phase.READY]  # most sessions of a long life have ended


def session(number: int) -> SessionState:
    return SessionState(
        session_id=f"s{number}",
        phase=PHASES[number % len(PHASES)],
        created_at=MOMENT + timedelta(seconds=number),
        last_accessed=MOMENT + timedelta(seconds=number),
    )


def rows(table: Table[Any], keys: Sequence[str]) -> list[list[Any]]:
    values = [table.values(key, session(int(key[1:]))) for key in keys]
    return [*map(list, zip(*values, strict=True))]


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["fresh", "analysed"])
async def filled(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    async with log_database(postgres_server) as database:
        async with connection(database.app_dsn) as app:
            await app.execute(table_sql.upsert(SESSIONS), *rows(SESSIONS, [f"s{number}" for number in range(ROWS)]))
            await app.execute("select view.claim_lease('projector', 'one', 600)")
            for table in TABLES:
                await app.fetchrow(table_sql.BEGIN, table.name, 1, LOG_ID, "projector", 1)
        if request.param == "analysed":
            async with connection(database.admin_dsn) as superuser:
                await superuser.execute("analyze view.sessions, view.projection_checkpoint, view.lease")
        yield database


@pytest_asyncio.fixture
async def admin(filled: LogDatabase) -> AsyncIterator[Connection]:
    """Plans are told at the end of a statement's transaction: a test that writes puts back what it found."""
    async with connection(filled.admin_dsn) as opened:
        yield opened


def by_key(plan: Explained, most: int) -> None:
    assert plan.indexes("sessions") - {""} <= {"sessions_pk"}, plan.text
    assert all("Seq Scan" not in node.kind for node in plan.over("sessions")), plan.text
    assert plan.read("sessions") <= most, plan.text


async def test_states_of_a_page_are_read_by_their_keys(admin: Connection) -> None:
    for _ in range(TIMES):
        plan = await explain(admin, table_sql.load(SESSIONS), PAGE)
        by_key(plan, len(PAGE))
        assert plan.read("sessions") == len(PAGE), plan.text


async def test_rows_of_a_page_are_written_by_their_keys(admin: Connection) -> None:
    """Known ones and new ones; nothing else of the table is read."""
    new = [f"s{ROWS + number}" for number in range(50)]
    keys = [*PAGE, *new]
    for _ in range(TIMES):
        plan = await explain(admin, table_sql.upsert(SESSIONS), *rows(SESSIONS, keys))
        by_key(plan, len(keys))
        assert '"Conflict Arbiter Indexes": ["sessions_pk"]' in plan.text, plan.text
        await admin.execute(table_sql.delete(SESSIONS), new)


async def test_rows_that_are_gone_are_deleted_by_their_keys(admin: Connection) -> None:
    for _ in range(TIMES):
        plan = await explain(admin, table_sql.delete(SESSIONS), PAGE)
        await admin.execute(table_sql.upsert(SESSIONS), *rows(SESSIONS, PAGE))
        by_key(plan, 2 * len(PAGE))


async def test_checkpoints_are_moved_without_reading_a_table(admin: Connection) -> None:
    """A handful of rows, and one lease; once a page."""
    for _ in range(TIMES):
        found = await admin.fetch(table_sql.CHECKPOINTS)
        names, seen = [row["name"] for row in found], [row["updated_at"] for row in found]
        to = (7, uuid4(), datetime.now(UTC))
        plan = await explain(admin, table_sql.MOVE, names, seen, *to, "projector", 1)
        assert plan.over("sessions") == [] and plan.read("lease") <= 1, plan.text
        assert plan.read("projection_checkpoint") <= 2 * len(TABLES) ** 2, plan.text
        assert plan.over("projection_checkpoint") and plan.over("lease"), plan.text


async def test_a_start_reads_every_row_once(admin: Connection) -> None:
    plan = await explain(admin, table_sql.load_all(SESSIONS))
    assert plan.read("sessions") == ROWS and len(plan.over("sessions")) == 1, plan.text


@pytest.mark.parametrize(
    ("what", "index", "most"),
    [
        ("where session_id = 's77'", "sessions_pk", 1),
        ("where status = 'running'", "sessions_status", ROWS // len(PHASES)),
        (f"where last_accessed < '{MOMENT + timedelta(seconds=40)}'", "sessions_last_accessed", 40),
        ("order by created_at desc limit 20", "sessions_created_at", 20),
    ],
    ids=["one", "active", "idle", "newest"],
)
async def test_each_index_answers_what_it_was_made_for(admin: Connection, what: str, index: str, most: int) -> None:
    """Spec row C3: filtering active sessions, cleaning up idle ones, listing."""
    plan = await explain(admin, f"select session_id, status, port from view.sessions {what}")
    assert plan.indexes("sessions") - {""} == {index} and plan.read("sessions") <= 2 * most, plan.text


async def test_what_was_read_was_there(admin: Connection) -> None:
    """The plans above are of the table that this says."""
    count, active = await admin.fetchrow(
        "select count(*), count(*) filter (where status = 'running') from view.sessions"
    ) or (0, 0)
    assert (count, active) == (ROWS, ROWS // len(PHASES))
    assert msgspec.json.decode(await admin.fetchval("select state from view.sessions limit 1"))
