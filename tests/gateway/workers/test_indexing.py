"""Indexing: woken by traffic, done in steps, and no load on a log where nothing happens."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from events.catalogue import SessionReady
from events.embedded import EmbeddedPostgres
from events.filter import EventFilter
from events.memory import MemoryEventStore
from events.postgres import PostgresEventStore
from gateway.workers import indexing
from gateway.workers.indexing import EVERY, Indexing
from tests.event_fixtures import LogDatabase, connection, log_database, open_store
from tests.factories import events, payload, recorded, write


class Counting(MemoryEventStore):
    """A store with ``left`` events to go, of which a step takes 2,000."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left
        self.steps = 0

    async def index(self) -> int:
        self.steps += 1
        self.left = max(self.left - 2_000, 0)
        return self.left


@pytest.mark.parametrize(("left", "steps"), [(0, 1), (1, 1), (2_999, 1), (3_000, 2), (10_000, 5)])
async def test_it_steps_until_the_rest_is_not_worth_one(left: int, steps: int) -> None:
    store = Counting(left)
    await Indexing(store).run_once()
    assert store.steps == steps and store.left < EVERY


def test_it_is_woken_once_in_a_thousand_events() -> None:
    pokes = list[None]()
    follow = Indexing(MemoryEventStore()).follow(lambda: pokes.append(None))
    one, body = recorded(SessionReady), payload(SessionReady)
    for nth in range(1, 3 * EVERY):
        follow(one, body)
        assert len(pokes) == nth // EVERY


@pytest_asyncio.fixture
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    async with log_database(postgres_server, partition_size=1_000) as made:
        yield made


@pytest.mark.postgres
async def test_log_of_a_former_release_is_caught_up_in_steps(
    database: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade finds a log without an index: everything is found before, meanwhile and after; appends go on."""
    monkeypatch.setattr(indexing, "EVERY", 100)
    monkeypatch.setattr("events.postgres_reading.STEP", 150)
    async with open_store(database.app_dsn) as store, connection(database.admin_dsn) as admin:
        for _ in range(8):
            await store.append(write("session-s1", *events(100)))
            await store.maintain()
        left = await store.index()
        assert left == 650 and await _found(store) == 800
        await store.append(write("session-s1", *events(100)))
        await Indexing(store).run_once()
        assert await admin.fetchval("select position from log.indexed") > 800
        assert await _found(store) == 900


async def _found(store: PostgresEventStore) -> int:
    found, at, head = 0, 0, (await store.head()).position
    while at < head:
        page = await store.search(EventFilter(session_id="s1"), after=at, limit=70)
        found, at = found + len(page.events), page.reached
    return found
