"""How each function of the log is carried out, with and without statistics, planned anew and from the cache.

A fresh log has no statistics: there a planner guesses, and a guess once halved the speed of appending.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio

from events import batch
from events.embedded import EmbeddedPostgres
from events.store import Appended
from events.writer import Unit
from tests.event_fixtures import LogDatabase, connection, log_database, open_store
from tests.factories import event, events, new_stream, write
from tests.plans.explained import Connection, Explained, explain

pytestmark = pytest.mark.postgres

PARTITION = 500
ROUNDS = 30
PARTITIONS = 8
PROBES = 9  # of a binary search among the versions of the long stream
TIMES = 8  # from the sixth call on the server may take one plan for all values


class SeededLog(msgspec.Struct, frozen=True):
    """3,960 events in 8 partitions: one stream through all of it, and 120 short ones."""

    database: LogDatabase
    long: str
    short: str
    appended: str  # a short one too, to which the tests append
    known: UUID


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["fresh", "analysed"])
async def seeded(request: pytest.FixtureRequest, postgres_server: EmbeddedPostgres) -> AsyncIterator[SeededLog]:
    async with log_database(postgres_server, partition_size=PARTITION) as database:
        async with open_store(database.app_dsn) as store:
            long, shorts, known = new_stream(), list[str](), event()
            for nth in range(ROUNDS):
                shorts += (stream := [new_stream() for _ in range(4)])
                unit = [write(name, *events(30)) for name in stream]
                own = [known] if nth == ROUNDS // 2 else []
                outcome = await store.append(*unit, write(long, *own, *events(8 - len(own))))
                assert isinstance(outcome, Appended)
                await store.pool.execute("select log.ensure_partitions()")
        if request.param == "analysed":
            async with connection(database.admin_dsn) as admin:
                await admin.execute("analyze log.events, log.event_key, log.streams, log.tip")
        yield SeededLog(database, long, shorts[50], shorts[70], known.event_id)


@pytest_asyncio.fixture
async def admin(seeded: SeededLog) -> AsyncIterator[Connection]:
    async with connection(seeded.database.admin_dsn) as opened:
        yield opened


async def each_time(admin: Connection, call: str, *arguments: object) -> list[Explained]:
    """The same call several times in one session: first with plans of its own, later with the cached one."""
    return [await explain(admin, call, *arguments) for _ in range(TIMES)]


def never_scans(plan: Explained) -> None:
    """A table that grows with the log is read by an index; ``tip`` has one row."""
    for table in ("events", "event_key", "streams"):
        assert all("Seq Scan" not in node.kind for node in plan.over(table)), plan.text


async def test_find_reads_one_key_and_one_event(seeded: SeededLog, admin: Connection) -> None:
    for plan in await each_time(admin, "select * from log.find_event($1)", seeded.known):
        never_scans(plan)
        assert plan.indexes("event_key") == {"event_key_pk"}, plan.text
        assert plan.indexes("events") == {"events_N_pkey"}, plan.text
        assert len(plan.partitions()) == 1 and plan.read("events") == 1, plan.text


@pytest.mark.parametrize("backwards", [False, True])
async def test_short_stream_is_read_in_its_own_partitions(
    seeded: SeededLog, admin: Connection, backwards: bool
) -> None:
    """With 200 partitions, a stream without the bounds took 3.4 ms, and with them 0.16."""
    for plan in await each_time(admin, "select * from log.read_stream($1, 0, 1000, $2)", seeded.short, backwards):
        never_scans(plan)
        assert plan.indexes("streams") == {"streams_pk"}, plan.text
        assert plan.indexes("events") == {"events_N_version"}, plan.text
        assert len(plan.partitions()) <= 2, plan.text


@pytest.mark.parametrize("backwards", [False, True])
async def test_long_stream_is_read_by_its_versions(seeded: SeededLog, admin: Connection, backwards: bool) -> None:
    """A page of it, wherever it begins: not all of the stream, and nothing of the others."""
    for after in (0, 100, 200):
        call = "select * from log.read_stream($1, $2, 10, $3)"
        for plan in await each_time(admin, call, seeded.long, after, backwards):
            never_scans(plan)
            assert plan.indexes("streams") == {"streams_pk"}, plan.text
            assert plan.indexes("events") == {"events_N_version"}, plan.text
            assert plan.read("events") <= 10 + PARTITIONS, plan.text


@pytest.mark.parametrize("after", [0, 1234, 3800])
async def test_log_is_read_by_position(seeded: SeededLog, admin: Connection, after: int) -> None:
    """A tail reads what it gets, in the partitions that hold it."""
    for plan in await each_time(admin, "select * from log.read_log($1, 100, null)", after):
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_pkey"}, plan.text
        assert len(plan.partitions()) <= 2 and plan.read("events") <= 101, plan.text


async def test_tail_at_the_head_reads_nothing(seeded: SeededLog, admin: Connection) -> None:
    """The most frequent query of all: every process polls with it."""
    head = await admin.fetchval("select position from log.tip")
    for plan in await each_time(admin, "select * from log.read_log($1, 1000, null)", head):
        never_scans(plan)
        assert plan.read("events") == 0, plan.text


async def test_log_by_type_is_read_by_position(seeded: SeededLog, admin: Connection) -> None:
    """There is no index on types: it passes over the others, in order, and stops at the limit."""
    call = "select * from log.read_log($1, 20, array['session.%'])"
    for plan in await each_time(admin, call, 2000):
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_pkey"}, plan.text
        assert plan.read("events") <= 40, plan.text


async def test_stream_of_the_log_is_read_in_its_own_partitions(seeded: SeededLog, admin: Connection) -> None:
    for plan in await each_time(admin, "select * from log.read_log_stream($1, 0, 1000, null)", seeded.short):
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_version"}, plan.text
        assert len(plan.partitions()) <= 2, plan.text


@pytest.mark.parametrize("after", [0, 500, 1777, 3700])
async def test_page_of_a_long_stream_is_found_by_probes(seeded: SeededLog, admin: Connection, after: int) -> None:
    """Read from the beginning of its partition, each page of a busy stream would cost more than the last."""
    for plan in await each_time(admin, "select * from log.read_log_stream($1, $2, 10, null)", seeded.long, after):
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_version"}, plan.text
        assert plan.read("events") <= 10 + PARTITIONS + PROBES * PARTITIONS, plan.text


async def test_stream_without_news_is_not_read(seeded: SeededLog, admin: Connection) -> None:
    for plan in await each_time(admin, "select * from log.read_log_stream($1, 1000000, 10, null)", seeded.long):
        assert plan.over("events") == [], plan.text


async def test_position_at_probes_by_position(seeded: SeededLog, admin: Connection) -> None:
    """A binary search: 12 probes for 3,960 events, one row each."""
    moment = await admin.fetchval("select recorded_at from log.events where position = 2500")
    for plan in await each_time(admin, "select log.position_at($1)", moment):
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_pkey"}, plan.text
        assert plan.read("events") <= 13, plan.text


async def announced(admin: Connection, arguments: str) -> str:
    """The ticket of a reading, as the text of a call."""
    return f"select * from log.read_announced('{await admin.fetchval(f'select log.announce_read({arguments})')}')"


async def test_announced_range_is_read_by_position(seeded: SeededLog, admin: Connection) -> None:
    """An auditor's page costs its own rows, and the ticket two."""
    call = await announced(admin, "p_after := 1234, p_until := 1334")
    for plan in await each_time(admin, call):
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_pkey"} and plan.indexes("event_key") == {"event_key_pk"}, plan.text
        assert plan.read("events") <= 102 and len(plan.partitions()) <= 3, plan.text


async def test_announced_stream_is_read_by_its_versions(seeded: SeededLog, admin: Connection) -> None:
    call = await announced(admin, f"p_stream := '{seeded.short}', p_purpose := 'a case'")
    for plan in await each_time(admin, call):
        never_scans(plan)
        assert plan.indexes("events") == {"events_N_pkey", "events_N_version"}, plan.text
        assert plan.read("events") <= 2 * 30 + 1 and len(plan.partitions()) <= 3, plan.text


async def test_head_is_one_row(seeded: SeededLog, admin: Connection) -> None:
    for plan in await each_time(admin, "select position, recorded_at from log.tip order by position desc limit 1"):
        assert plan.read("tip") <= 1 and plan.partitions() == set(), plan.text


async def test_append_touches_heads_keys_and_one_partition(seeded: SeededLog, admin: Connection) -> None:
    """Its cost does not depend on how long the log is: heads and ids by index, events only where they go."""
    for _ in range(TIMES):
        units = [Unit((write(name),), None) for name in (seeded.long, seeded.appended, new_stream())]
        plan = await _appending(admin, units)
        never_scans(plan)
        assert plan.indexes("streams") - {""} <= {"streams_pk"}, plan.text
        assert plan.indexes("event_key") == {"event_key_pk", ""}, plan.text
        assert plan.read("streams") <= 3 * 3 and plan.read("event_key") <= 3, plan.text
        assert plan.read("events") <= 3, plan.text
        assert "events_0000" not in plan.text, "a plan that names partitions opens all of them: 200 halved the speed"


async def test_repeated_unit_is_found_by_index(seeded: SeededLog, admin: Connection) -> None:
    unit = Unit((write(seeded.long),), None)
    await _appending(admin, [unit])
    for _ in range(TIMES):
        plan = await _appending(admin, [unit])
        never_scans(plan)
        assert plan.indexes("event_key") == {"event_key_pk"}, plan.text
        assert plan.indexes("events") == {"events_N_pkey"}, plan.text
        assert plan.read("events") == 1 and len(plan.partitions()) == 1, plan.text


async def test_announcing_costs_an_append(seeded: SeededLog, admin: Connection) -> None:
    """An auditor's word to the log: the tip, a head, a key and one event, and nothing of what he is about to read."""
    for plan in await each_time(admin, "select log.announce_read(1000, 2000)"):
        never_scans(plan)
        assert plan.indexes("streams") - {""} <= {"streams_pk"}, plan.text
        assert plan.indexes("event_key") == {"event_key_pk", ""}, plan.text
        assert plan.read("tip") <= 4 and plan.read("streams") <= 3, plan.text
        assert plan.read("event_key") <= 1 and plan.read("events") <= 1, plan.text


@pytest_asyncio.fixture
async def many_leases(admin: Connection) -> AsyncIterator[None]:
    """More than a planner would rather read whole, and one that is held."""
    await admin.execute("insert into view.lease select 'of-' || n, 'one', 1, now() from generate_series(1, 2000) n")
    yield
    await admin.execute("delete from view.lease")


def reads_one_lease(plan: Explained) -> None:
    assert all("Seq Scan" not in node.kind for node in plan.over("lease")), plan.text
    assert plan.indexes("lease") - {""} == {"lease_pk"} and plan.read("lease") <= 3, plan.text
    assert plan.over("events") == [], plan.text


@pytest.mark.usefixtures("many_leases")
async def test_lease_is_claimed_renewed_and_released_by_its_name(admin: Connection) -> None:
    """Each process asks every few seconds, whatever number of them there is."""
    for call in (
        "select view.claim_lease('of-77', 'another', 30)",
        "select view.claim_lease('of-77', 'a third', 30)",
        "select view.claim_lease('new', 'one', 30)",
        "select view.release_lease('of-77', 'another')",
    ):
        for plan in await each_time(admin, call):
            reads_one_lease(plan)


async def test_keeper_of_partitions_reads_no_event(seeded: SeededLog, admin: Connection) -> None:
    """Every process asks every few seconds: one row each of identity and tip, and the list of partitions."""
    made = await admin.fetchval("select count(*) from log.partitions")
    for plan in await each_time(admin, "select log.ensure_partitions()"):
        never_scans(plan)
        assert plan.over("events") == plan.over("streams") == plan.over("event_key") == [], plan.text
        assert plan.read("tip") <= 4 and plan.read("partitions") <= made, plan.text


async def _appending(admin: Connection, units: list[Unit]) -> Explained:
    log_id = await admin.fetchval("select log_id from log.identity")
    return await explain(admin, batch.APPEND, *batch.columns(units), log_id)
