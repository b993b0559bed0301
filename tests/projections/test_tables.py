"""The tables' columns are those that ``sql/`` makes, and take whatever a fold may hold."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import ContainerStarted, SessionReady, SessionRequested, SessionStopped, TokenIssued
from events.envelope import RecordedEvent
from projections.projection import fold
from projections.table import LONGEST, Table, bounded
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import LogDatabase, connection
from tests.factories import SAMPLES, SEALED, history, payload


@asynccontextmanager
async def rolled_back(app: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[None]:
    """What is written in here is not there for other tests."""
    begun = app.transaction()
    await begun.start()
    try:
        yield
    finally:
        await begun.rollback()


def states(table: Table[Any], events: Sequence[RecordedEvent]) -> dict[str, Any]:
    return fold(table.projection, {}, events)


@pytest.mark.postgres
@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
async def test_table_has_the_columns_that_the_schema_makes(table: Table[Any], shared_log: LogDatabase) -> None:
    query = """select attname as name, format_type(atttypid, null) as kind from pg_attribute
                where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum"""
    async with connection(shared_log.app_dsn) as app:
        made = [(row["name"], row["kind"]) for row in await app.fetch(query, f"view.{table.name}")]
    kinds = {"timestamptz": "timestamp with time zone"}
    assert made == [(each.name, kinds.get(each.kind, each.kind)) for each in table.columns] + [("state", "bytea")]


@pytest.mark.postgres
async def test_sessions_have_the_columns_and_the_four_indexes_of_before(shared_log: LogDatabase) -> None:
    """Spec row C3: SQL that was written for the former table finds what it names."""
    async with connection(shared_log.app_dsn) as app:
        query = "select indexdef from pg_indexes where schemaname = 'view' and tablename = 'sessions'"
        made = {row["indexdef"].partition(" USING ")[2] for row in await app.fetch(query)}
    assert made == {f"btree ({name})" for name in ("session_id", "status", "last_accessed", "created_at")}
    assert {column.name for column in SESSIONS.columns} == {
        *("session_id", "container_name", "container_id", "host_dir", "port", "auth_token"),
        *("created_at", "last_accessed", "status", "metadata"),
    }


@pytest.mark.postgres
@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
async def test_a_text_in_an_index_is_bounded(table: Table[Any], shared_log: LogDatabase) -> None:
    """Of a longer one Postgres refuses the row, and with it the page of all tables."""
    query = """
    select distinct a.attname
      from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
     where i.indrelid = ('view.' || $1)::regclass and a.atttypid = 'text'::regtype
    """
    async with connection(shared_log.app_dsn) as app:
        texts = {row[0] for row in await app.fetch(query, table.name)}
    assert {column.name for column in table.columns if column.indexed} == texts
    assert [table.columns[n].indexed for n in table.bounded] == [True] * len(texts) and 0 in table.bounded


@given(st.text(max_size=20), st.text(max_size=20))
def test_bounded_texts_stay_apart(one: str, other: str) -> None:
    for times in (1, 20, 400):
        found = [bounded(text * times) for text in (one, other)]
        assert (found[0] == found[1]) == (one * times == other * times)
        assert all(len(text.encode()) <= LONGEST and "\0" not in text for text in found)
        assert found[0] == one * times or bounded(found[0]) != found[0], "no text passes for a hash of another"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_state_is_kept_whole(table: Table[Any]) -> None:
    """What a process goes on from is exactly what was folded, and equal states are equal bytes."""
    made = states(table, history("session-s1", list(SAMPLES)))
    assert made, "a history of every event makes a state"
    for key, state in made.items():
        values = table.values(key, state)
        assert len(values) == len(table.columns) + 1 and values[0] == key
        assert table.state_of(values[-1]) == state
        assert table.kept(table.state_of(values[-1])) == values[-1]


def test_session_is_told_in_four_statuses_and_by_a_hash() -> None:
    issued = payload(TokenIssued)
    kinds: list[Any] = [SessionRequested, issued, ContainerStarted, SessionReady]
    state = states(SESSIONS, history("session-s1", kinds))["s1"]
    row = dict(zip((column.name for column in SESSIONS.columns), SESSIONS.row("s1", state), strict=True))
    assert row["status"] == "running" and row["auth_token"] == issued.sha256 and row["host_dir"] == "v-workspace"
    assert row["container_name"] == "c1" and row["port"] == 32_768
    assert row["metadata"] == f'{{"c":"{SEALED.c}","k":"{SEALED.k}","n":"{SEALED.n}"}}'


@pytest.mark.postgres
async def test_odd_values_are_held_too(shared_log: LogDatabase) -> None:
    """A text with a NUL or a number beyond eight bytes would stop a table for ever."""
    odd = payload(ContainerStarted, container_id="a\0b")
    state = states(SESSIONS, history("session-s1", [SessionRequested, odd]))["s1"]
    state = msgspec.structs.replace(state, port=2**63)
    values = SESSIONS.values("s1", state)
    async with connection(shared_log.app_dsn) as app, rolled_back(app):
        places = ",".join(f"${number}" for number in range(1, len(values) + 1))
        await app.execute(f"insert into view.sessions values ({places})", *values)
        row = await app.fetchrow("select container_id, port, state from view.sessions")
    assert row is not None and row["container_id"] == "a\ufffdb" and row["port"] is None
    assert SESSIONS.state_of(row["state"]) == state, "nothing is lost of it"


@pytest.mark.postgres
async def test_status_is_one_of_four_words(shared_log: LogDatabase) -> None:
    state = states(SESSIONS, history("session-s1", [SessionStopped]))["s1"]
    assert SESSIONS.row("s1", state)[8] is None, "stray facts alone make no session"
    async with connection(shared_log.app_dsn) as app, rolled_back(app):
        with pytest.raises(asyncpg.CheckViolationError, match="sessions_status"):
            await app.execute("insert into view.sessions (session_id, status, state) values ('s', 'odd', '')")
