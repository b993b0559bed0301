"""How the tables that grow with use answer what is asked of them: by an index, reading little more than they give."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from events.catalogue import HealthChanged, Payload, TokenIssued, TokenRevoked
from events.embedded import EmbeddedPostgres
from projections import table_sql
from projections.exchanges import ExchangeState
from projections.projection import fold
from projections.table import Table
from projections.tables import EXCHANGES, HEALTH_HISTORY, TOKENS
from tests.event_fixtures import LogDatabase, connection, log_database
from tests.factories import MOMENT, history, payload
from tests.house import tree
from tests.plans.explained import Connection, Explained, explain

pytestmark = pytest.mark.postgres

SESSIONS = 200
EACH = 50  # exchanges of a session, one of them open
TOKENS_EACH = 3
_PAGE = (tree.ROOT / "docs/operator.md").read_text().partition("## Asking the tables")[2].partition("```sql")[2]
# Those of view.sessions are in test_table_plans.py, on a table with sessions in it.
GUIDE = [each for each in _PAGE.partition("```")[0].split(";") if each.strip() and "view.sessions" not in each]


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["fresh", "analysed"])
async def filled(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    async with log_database(postgres_server) as database:
        async with connection(database.app_dsn) as app:
            await _put(app, EXCHANGES, _exchanges())
            await _put(app, HEALTH_HISTORY, fold(HEALTH_HISTORY.projection, {}, history("container-c1", _health())))
            await _put(app, TOKENS, fold(TOKENS.projection, {}, history("session-s1", _tokens())))
        if request.param == "analysed":
            async with connection(database.admin_dsn) as superuser:
                await superuser.execute("analyze view.exchanges, view.health_history, view.tokens")
        yield database


async def _put(app: Connection, table: Table[Any], states: dict[str, Any]) -> None:
    rows = [table.values(key, state) for key, state in states.items()]
    await app.execute(table_sql.upsert(table), *map(list, zip(*rows, strict=True)))


def _exchanges() -> dict[str, ExchangeState]:
    return {
        f"x{session}-{nth}": ExchangeState(
            session_id=f"s{session}",
            container=f"c{session}",
            kind="http",
            began_at=MOMENT + timedelta(seconds=nth),
            ended_at=None if nth == EACH - 1 else MOMENT + timedelta(seconds=nth + 1),
        )
        for session in range(SESSIONS)
        for nth in range(EACH)
    }


def _health() -> Sequence[Payload]:
    words = {n: "failed" if n % 100 == 0 else "healthy" for n in range(SESSIONS * 5)}
    return [payload(HealthChanged, session_id=f"s{n}", after=word) for n, word in words.items()]


def _tokens() -> Sequence[Payload]:
    issued = [
        payload(TokenIssued, session_id=f"s{session}", serial=serial, sha256=f"hash-{session}-{serial}")
        for session in range(SESSIONS)
        for serial in range(1, TOKENS_EACH + 1)
    ]
    return [*issued, payload(TokenRevoked, session_id="s7", serial=TOKENS_EACH)]


@pytest_asyncio.fixture
async def admin(filled: LogDatabase) -> AsyncIterator[Connection]:
    async with connection(filled.admin_dsn) as opened:
        yield opened


class Asked(msgspec.Struct, frozen=True):
    """A question, and how it is to be answered."""

    sql: str
    table: str
    index: str
    most: int  # rows read


HOUR = "began_at >= '2026-01-18T22:29:09Z' and began_at < '2026-01-18T22:29:19Z'"
QUESTIONS = {
    "exchanges of a session, newest first": Asked(
        "select * from view.exchanges where session_id = 's7' order by began_at desc limit 20",
        "exchanges",
        "exchanges_session",
        EACH,
    ),
    "exchanges of a session in a time": Asked(
        f"select * from view.exchanges where session_id = 's7' and {HOUR}", "exchanges", "exchanges_session", 10
    ),
    "what is open in a session": Asked(
        "select * from view.exchanges where session_id = 's7' and ended_at is null", "exchanges", "exchanges_open", 1
    ),
    "one exchange": Asked("select * from view.exchanges where exchange_id = 'x7-3'", "exchanges", "exchanges_pk", 1),
    "who is not well": Asked(
        "select session_id from view.health_history where status = 'failed'",
        "health_history",
        "health_history_status",
        SESSIONS * 5 // 100,
    ),
    "whose token is this": Asked(
        "select session_id from view.tokens where sha256 = 'hash-7-2'", "tokens", "tokens_sha256", 1
    ),
    "tokens of a session": Asked("select * from view.token_history('s7')", "tokens", "tokens_session", TOKENS_EACH),
}


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=list(QUESTIONS))
async def test_question_is_answered_by_its_index(asked: Asked, admin: Connection) -> None:
    plan: Explained = await explain(admin, asked.sql)
    assert plan.indexes(asked.table) == {asked.index}, plan.text
    assert 0 < plan.read(asked.table) <= asked.most, plan.text


async def test_what_the_operators_guide_asks_needs_no_scan(admin: Connection) -> None:
    assert len(GUIDE) == 7
    for sql in GUIDE:
        plan = await explain(admin, sql)
        assert not [node for node in plan.nodes if "Seq Scan" in node.kind], plan.text


async def test_timeline_of_a_session_is_read_from_its_row(admin: Connection) -> None:
    """Each change as it was told; the health of every other session is not looked at."""
    (row,) = await admin.fetch("select * from view.health_timeline('s100')")
    told = payload(HealthChanged, after="failed")
    assert dict(row) == {
        **{"position": 101, "changed_at": MOMENT + timedelta(seconds=101), "container": "c1"},
        **{name: getattr(told, name) for name in ("before", "after", "reason", "failures", "response_us")},
    }
    plan = await explain(admin, "select * from view.health_timeline('s100')")
    assert plan.indexes("health_history") == {"health_history_pk"} and plan.read("health_history") == 1, plan.text


async def test_a_token_ends_by_the_next_one_or_by_its_own_end(admin: Connection) -> None:
    """What no state of one token can say: when its successor took its place."""
    rows = await admin.fetch("select * from view.token_history('s7')")
    assert [row["serial"] for row in rows] == [3, 2, 1]
    newest, middle, first = rows
    assert newest["superseded_at"] is None and newest["ends_at"] == newest["revoked_at"] is not None
    assert middle["ends_at"] == middle["superseded_at"] == newest["issued_at"]
    assert first["superseded_at"] == middle["issued_at"] and first["reason"] is None
    (alone,) = [row for row in await admin.fetch("select * from view.token_history('s8')") if row["serial"] == 3]
    assert alone["ends_at"] == alone["expires_at"] and alone["revoked_at"] is None
