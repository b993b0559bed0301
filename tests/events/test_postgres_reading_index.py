"""The index of the log: what stands in it however it was filled, who may fill it, and what it costs nobody."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from events import batch
from events.catalogue import ContainerStarted, ExchangeCompleted, LogRead, SessionReady
from events.embedded import EmbeddedPostgres
from events.envelope import MAX_PAYLOAD_BYTES, SYSTEM
from events.filter import EventFilter
from events.ids import uuid7
from events.postgres import PostgresEventStore
from events.schema_roles import OWNER_ROLE
from events.store import Appended
from events.writer import Unit
from tests.contracts.test_event_store_search import paged
from tests.event_fixtures import LogDatabase, connection, log_database, open_store
from tests.factories import CAUSE, FRONTEND, event, events, raw, write

pytestmark = pytest.mark.postgres
SEGMENT = 2**20
# Each key with the positions at which it stands, however they are spread over rows.
ENTRIES = """
select key, array_agg(position order by position) as positions
  from log.event_index, lateral (select (segment::bigint << 20) + place - e as position
                                   from unnest(array[0] || earlier::int[]) e) p
 group by key order by key
"""
DURABLE = "show synchronous_commit"


@pytest_asyncio.fixture
async def store(empty_log: LogDatabase) -> AsyncIterator[PostgresEventStore]:
    async with open_store(empty_log.app_dsn) as opened:
        yield opened


async def fill(store: PostgresEventStore, units: int = 40) -> None:
    """Units of several streams, types, actors and ids, by a chance that is always the same."""
    chance = Random(3)
    for _ in range(units):
        stream = chance.choice(["session-s1", "container-c1", SYSTEM])
        kinds = chance.choices([SessionReady, ContainerStarted, ExchangeCompleted, LogRead], k=chance.randint(1, 4))
        made = [event(kind, actor=FRONTEND, cause=CAUSE) if chance.random() < 0.5 else event(kind) for kind in kinds]
        assert isinstance(await store.append(write(stream, *made)), Appended)


async def entries(database: LogDatabase) -> list[tuple[int, list[int]]]:
    async with connection(database.admin_dsn) as admin:
        return [(row["key"], row["positions"]) for row in await admin.fetch(ENTRIES)]


async def test_steps_of_any_size_make_the_same_index(empty_log: LogDatabase, store: PostgresEventStore) -> None:
    """Each key once at each of its positions; nothing is entered by a step that was rolled back."""
    await fill(store)
    head = (await store.head()).position
    made = []
    for size in (1, 7, 1_000):
        async with connection(empty_log.admin_dsn) as admin:
            await admin.execute("set session_replication_role = replica; delete from log.event_index")
            await admin.execute("update log.indexed set position = 0")
            await admin.execute(f"begin; select log.index_events({size}); rollback")
            steps = 0
            while await admin.fetchval("select log.index_events($1)", size):
                steps += 1
        assert steps == -(-head // size) - 1
        made.append(await entries(empty_log))
    assert made[0] == made[1] == made[2]
    assert all(len(set(positions)) == len(positions) for _, positions in made[0])
    assert max(position for _, positions in made[0] for position in positions) == head


async def test_segments_meet_without_a_seam(empty_log: LogDatabase, store: PostgresEventStore) -> None:
    """A step ends with its segment; a search walks from one into the next, and over those without its key."""
    async with connection(empty_log.admin_dsn) as admin:
        for table in ("tip", "indexed"):
            await admin.execute(f"update log.{table} set position = {3 * SEGMENT - 20}")
        wanted = EventFilter(session_id="s1")
        expected = list[int]()
        for _ in range(6):
            outcome = await store.append(write("session-s1", *events(3)), write("session-s2", *events(5)))
            assert isinstance(outcome, Appended)
            expected += range(outcome.first_position, outcome.first_position + 3)
        assert await store.index() == 29, "up to the last position before the segment"
        for _ in range(2):
            page = await store.search(wanted, after=3 * SEGMENT - 20)
            assert [one.position for one in page.events] == expected and page.reached == expected[0] + 47
            assert await store.index() == 0
        rows = await admin.fetch("select distinct segment from log.event_index order by 1")
    assert [row["segment"] for row in rows] == [2, 3]
    page = await store.search(wanted)
    assert [one.position for one in page.events] == expected


async def test_one_works_and_the_others_go_on(empty_log: LogDatabase, store: PostgresEventStore) -> None:
    """Gateways beside each other: nobody waits for a step that another makes, and an append waits for none."""
    await fill(store, 3)
    async with connection(empty_log.app_dsn) as other:
        async with other.transaction():
            assert await other.fetchval("select log.index_events(1)") is not None
            assert await store.index() == 0
            assert isinstance(await store.append(write("session-s1")), Appended)
            assert len((await store.search(EventFilter(session_id="s1"))).events) > 1
        assert await store.index() == 0
        assert await other.fetchval("select log.index_events(1)") == 0, "all was done by the call before"


async def test_step_of_large_events_is_a_short_one(store: PostgresEventStore) -> None:
    """A step must end within the time of a command, else the index would try the same one for ever."""
    large = b'{"x":"%s"}' % (b"x" * (MAX_PAYLOAD_BYTES - 8))
    for _ in range(3):
        await store.append(write(SYSTEM, *[raw(payload=large) for _ in range(50)]))
    assert [await store.index() for _ in range(4)] == [86, 22, 0, 0]


async def test_stale_snapshot_is_refused(empty_log: LogDatabase) -> None:
    async with connection(empty_log.app_dsn) as app:
        await app.execute("begin isolation level repeatable read")
        with pytest.raises(asyncpg.PostgresError) as refused:
            await app.fetchval("select log.index_events(10)")
    assert refused.value.sqlstate == "GW001"


async def test_an_append_stays_durable_beside_a_step(empty_log: LogDatabase, store: PostgresEventStore) -> None:
    """A step alone need not wait for the disk; in the transaction of an append it must not take that away."""
    await fill(store, 2)
    async with connection(empty_log.app_dsn) as app:
        log_id = await app.fetchval("select log_id from log.identity")
        for first in ("append", "index"):
            async with app.transaction():
                if first == "index":
                    await app.fetchval("select log.index_events(1)")
                    assert await app.fetchval(DURABLE) == "off"
                await app.fetch(batch.APPEND, *batch.columns([Unit((write("session-s1"),), None)]), log_id)
                await app.fetchval("select log.index_events(1)")
                assert await app.fetchval(DURABLE) == "on"
        assert await app.fetchval(DURABLE) == "on"


async def test_nobody_rewrites_the_index(empty_log: LogDatabase, store: PostgresEventStore) -> None:
    """An entry that is gone would hide an event from an auditor: refused to the owner and to a superuser too."""
    await fill(store, 2)
    await store.index()
    async with connection(empty_log.admin_dsn) as admin:
        for role in ("none", OWNER_ROLE):
            await admin.execute(f"set role {role}")
            for change in ("update {t} set place = 0", "delete from {t}", "truncate {t}"):
                with pytest.raises(asyncpg.PostgresError) as refused:
                    await admin.execute(change.format(t="log.event_index"))
                assert refused.value.sqlstate == "GW010"
    for statement in ("delete from log.event_index", "update log.indexed set position = 9", "truncate log.indexed"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await store.pool.execute(statement)


async def test_events_of_a_detached_partition_are_passed_over(postgres_server: EmbeddedPostgres) -> None:
    """Old partitions can leave: what stood in them is not found any more, and what is there is."""
    async with log_database(postgres_server, partition_size=10) as database, open_store(database.app_dsn) as store:
        for _ in range(5):
            await store.append(write("session-s1", *events(5)))
            await store.maintain()
        await store.index()
        async with connection(database.admin_dsn) as admin:
            await admin.execute("alter table log.events detach partition log.events_0000000000000000001")
        for wanted in (EventFilter(session_id="s1"), EventFilter()):
            page = await store.search(wanted)
            assert [one.position for one in page.events] == list(range(11, 26)) and page.reached == 25


async def test_a_search_looks_at_a_bounded_part(store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked: so many single events, and so many positions behind the index, then it says how far it is."""
    monkeypatch.setattr("events.postgres_reading.LOOKS", 10)
    monkeypatch.setattr("events.postgres_reading.SCAN", 7)
    cause = uuid7()
    for _ in range(5):
        await store.append(write("session-s1", *[event(SessionReady) for _ in range(6)]))
    for wanted in (
        EventFilter(session_id="s1", types=("log.read",)),
        EventFilter(stream_id="session-s1", types=("log.read",)),
        EventFilter(types=("session.ready",), actor="key:chat"),
        EventFilter(actor="gateway:g1", causation_id=None, types=("log.*",)),
    ):
        page = await store.search(wanted)
        assert page.events == [] and page.reached in (7, 10)
    await store.index()
    for wanted in (
        EventFilter(session_id="s1", trace_id=None, actor="k1"),
        EventFilter(session_id="s1", types=("session.*",), actor="k1"),
    ):
        page = await store.search(wanted)
        assert (page.events, page.reached) == ([], 10)
    assert (await store.search(EventFilter(causation_id=cause))).reached == 30
    assert (await store.search(EventFilter(correlation_id=UUID(int=5)), until=25)).reached == 25


async def test_searches_and_steps_at_once_agree(store: PostgresEventStore) -> None:
    """The checkpoint and its rows come together: no search sees one without the other."""
    await fill(store, 30)
    log = await store.read_log()
    wanted = EventFilter(session_id="s1")
    expected = [one for one in log if wanted.matches(one)]

    async def step() -> None:
        while await store.pool.fetchval("select log.index_events(3)"):
            pass

    async def search() -> None:
        for _ in range(30):
            assert (await store.search(wanted, limit=1000)).events == expected

    await asyncio.gather(step(), search(), search())
    assert await store.index() == 0


async def test_small_steps_of_a_search_add_up(store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every call is cut off, by the index, a rarer type, a stream or the range: together they find all."""
    await fill(store, 30)
    for _ in range(12):
        await store.pool.execute("select log.index_events(5)")
    log, chance = await store.read_log(), Random(9)
    parts: dict[str, list[Any]] = {
        "types": [(), ("session.ready",), ("session.*", "log.read"), ("exchange.*",), ("moon.*",)],
        "session_id": [None, "s1", "s2"],
        "actor": [None, "gateway:g1", "k1"],
        "stream_id": [None, None, "container-c1"],
        "correlation_id": [None, None, CAUSE.correlation_id],
    }
    found = 0
    for _ in range(150):
        monkeypatch.setattr("events.postgres_reading.LOOKS", chance.randint(1, 6))
        monkeypatch.setattr("events.postgres_reading.SCAN", chance.randint(1, 6))
        wanted = EventFilter(**{name: chance.choice(values) for name, values in parts.items()})
        expected = [one for one in log if wanted.matches(one)]
        assert await paged(store, wanted, limit=chance.randint(1, 9)) == expected, wanted
        found += len(expected)
    assert found > 500


async def test_rare_type_of_a_busy_actor_is_found_at_once(
    store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever acts in every event is no way to the one that is looked for; its type is."""
    monkeypatch.setattr("events.postgres_reading.LOOKS", 10)
    for _ in range(3):
        await store.append(write("session-s1", *events(50)))
    await store.append(write("session-s1", LogRead))
    await store.index()
    for wanted in (EventFilter(actor="gateway:g1", types=("log.*",)), EventFilter(session_id="s1", types=("log.*",))):
        page = await store.search(wanted)
        assert ([one.position for one in page.events], page.reached) == ([151], 151)
