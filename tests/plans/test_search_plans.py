"""How a search of the log and a step of its index are carried out: by index, whatever the statistics say."""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio

from events.catalogue import ExchangeCompleted, SessionReady
from events.codec import Cause
from events.embedded import EmbeddedPostgres
from events.ids import uuid7
from events.store import Appended
from tests.event_fixtures import LogDatabase, connection, log_database, open_store
from tests.factories import event, write
from tests.plans.explained import Connection, Explained, explain
from tests.plans.test_log_plans import TIMES, never_scans

pytestmark = pytest.mark.postgres

PARTITION = 500
UNITS = 30
UNIT = 100
INDEXED = 2_400  # of 3,000: 600 are behind the index
STEP = 200
FETCHED = 10  # rows that a loop of PL/pgSQL takes at once


class SearchedLog(msgspec.Struct, frozen=True):
    """3,000 events in 8 partitions: each unit is a request's of its own, and every session has exchanges in all."""

    database: LogDatabase
    request: UUID  # of the 10th unit
    last: UUID  # behind the index


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["fresh", "analysed"])
async def searched(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> AsyncIterator[SearchedLog]:
    async with log_database(postgres_server, partition_size=PARTITION) as database:
        requests = [uuid7() for _ in range(UNITS)]
        async with open_store(database.app_dsn) as store:
            for one in requests:
                cause = Cause(correlation_id=one, trace_id=one.bytes)
                made = [event(ExchangeCompleted, cause=cause, session_id=f"s{nth % 50}") for nth in range(UNIT - 1)]
                unit = write("container-c1", *made), write("session-s7", event(SessionReady, cause=cause))
                assert isinstance(await store.append(*unit), Appended)
                await store.pool.execute("select log.ensure_partitions()")
            for _ in range(INDEXED // STEP):
                await store.pool.execute(f"select log.index_events({STEP})")
        if request.param == "analysed":
            async with connection(database.admin_dsn) as admin:
                await admin.execute("analyze log.events, log.event_index, log.indexed, log.streams, log.tip")
        yield SearchedLog(database, requests[9], requests[-1])


@pytest_asyncio.fixture
async def admin(searched: SearchedLog) -> AsyncIterator[Connection]:
    async with connection(searched.database.admin_dsn) as opened:
        yield opened


async def each_time(admin: Connection, arguments: str) -> list[Explained]:
    """The same search several times in one session: first with plans of its own, later with the cached ones."""
    plans = [await explain(admin, f"select * from log.search_log({arguments})") for _ in range(TIMES)]
    for plan in plans:
        never_scans(plan)
        assert all("Seq Scan" not in node.kind for node in plan.over("event_index")), plan.text
        assert plan.indexes("event_index") <= {"event_index_pk"}, plan.text
        assert plan.indexes("events") <= {"events_N_pkey", "events_N_version"}, plan.text
        assert plan.read("indexed") <= 3 and plan.read("tip") <= 3, plan.text
    return plans


async def test_id_costs_its_own_events(searched: SearchedLog, admin: Connection) -> None:
    """A request of 100 events among 3,000: one row of the index, and those events, one look each."""
    for part in (f"p_correlation := '{searched.request}'", f"p_trace := '\\x{searched.request.hex}'"):
        for plan in await each_time(admin, f"{part}, p_until := {INDEXED}"):
            assert plan.read("event_index") == 1 and plan.read("events") == UNIT, plan.text
            assert len(plan.partitions()) <= 2, plan.text


async def test_session_costs_its_own_events(admin: Connection) -> None:
    """48 events of an otherwise silent session: a row for each step in which it is named."""
    for plan in await each_time(admin, f"p_session := 's8', p_until := {INDEXED}"):
        assert plan.read("event_index") == INDEXED // STEP and plan.read("events") == 48, plan.text


async def test_what_nobody_did_costs_nothing(admin: Connection) -> None:
    for part in ("p_actor := 'gateway:nobody'", "p_types := array['moon.*']", f"p_causation := '{UUID(int=1)}'"):
        for plan in await each_time(admin, f"{part}, p_until := {INDEXED}"):
            assert plan.read("event_index") == 0 and plan.read("events") == 0, plan.text


async def test_page_ends_at_its_limit(admin: Connection) -> None:
    """A gateway acts in all events: a page of ten looks at no more of them than it may."""
    for plan in await each_time(admin, "p_actor := 'gateway:g1', p_limit := 10, p_looks := 50, p_after := 1234"):
        assert plan.read("event_index") <= FETCHED and plan.read("events") <= 50, plan.text


async def test_behind_the_index_positions_are_read(searched: SearchedLog, admin: Connection) -> None:
    """From its end to the head and not one before."""
    for plan in await each_time(admin, f"p_correlation := '{searched.last}'"):
        assert plan.read("event_index") == 0 and plan.read("events") <= UNITS * UNIT - INDEXED + 1, plan.text
        assert len(plan.partitions()) <= 2, plan.text


async def test_nothing_asked_for_is_a_page_of_the_log(admin: Connection) -> None:
    for plan in await each_time(admin, "p_after := 1700, p_limit := 20"):
        assert plan.over("event_index") == [] and plan.read("events") <= 21, plan.text


async def test_stream_is_read_by_its_versions(admin: Connection) -> None:
    """30 events in all of the log's partitions, seen twice: which they are, and what they are."""
    for plan in await each_time(admin, "p_stream := 'session-s7'"):
        assert plan.over("event_index") == [] and plan.read("events") == 2 * UNITS, plan.text


async def test_step_reads_its_own_events(admin: Connection) -> None:
    """Twice, for their size first; whatever the length of the log and the index. Rolled back each time."""
    for _ in range(TIMES):
        await admin.execute("begin")
        plan = await explain(admin, f"select log.index_events({STEP})")
        await admin.execute("rollback")
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_pkey"} and plan.read("events") == 2 * STEP, plan.text
        assert plan.read("event_index") == 0 and plan.read("indexed") <= 4 and plan.read("tip") <= 2, plan.text
        assert len(plan.partitions()) <= 2, plan.text
