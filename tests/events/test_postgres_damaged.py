"""A log whose heads lag behind its events: a fault of the log, for which no fact may pay, and how it is mended."""

from pathlib import Path

import pytest

from events import writer
from events.errors import StoreUnavailable
from events.store import Appended, EventStore, Spooled
from tests.event_fixtures import LogDatabase, connection, open_fallback, open_store, until
from tests.factories import event, events, write
from tests.house import tree

pytestmark = pytest.mark.postgres

STREAM = "session-a"
LAGGING = {
    "streams": "update log.streams set version = 1, last_position = 1 where version = 3",
    "tip": "update log.tip set position = 1",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", 0.1)


def repair() -> str:
    """What the operator's page says."""
    page = (tree.ROOT / "docs/operator.md").read_text()
    _, found, rest = page.partition("## When the heads differ from the events")
    assert found
    return "begin;" + rest.partition("begin;")[2].partition("commit;")[0] + "commit;"


@pytest.mark.parametrize("damage", ["streams", "tip"])
async def test_heads_that_lag_are_no_fault_of_an_event(empty_log: LogDatabase, damage: str) -> None:
    """BadEvent would put what was acknowledged aside, unit by unit."""
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.admin_dsn) as admin:
        await store.append(write(STREAM, *events(3)))
        await admin.execute(LAGGING[damage])
        with pytest.raises(StoreUnavailable, match="heads or keys differ from its events"):
            await store.append(write(STREAM))
        assert len(await store.read_log()) == 3
        await admin.execute(repair())
        assert await store.append(write(STREAM)) == Appended(4, 4, (4,))
        assert [one.version for one in await store.read_stream(STREAM)] == [1, 2, 3, 4]


async def test_repair_changes_nothing_of_heads_that_are_right(empty_log: LogDatabase) -> None:
    heads = "select (select array_agg(s order by stream_id) from log.streams s), (select array_agg(t) from log.tip t)"
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.admin_dsn) as admin:
        for stream in ("session-a", "session-b", "session-a"):
            await store.append(write(stream, *events(2)))
        before = await admin.fetchrow(heads)
        await admin.execute(repair())
        assert await admin.fetchrow(heads) == before


async def _spooled(store: EventStore) -> bool:
    return await store.append(write(STREAM)) == Spooled()


async def _back(store: EventStore) -> bool:
    return store.status.available


async def test_spooled_facts_wait_for_the_repair(empty_log: LogDatabase, tmp_path: Path) -> None:
    fact = event()
    async with open_fallback(empty_log.app_dsn, tmp_path) as store, connection(empty_log.admin_dsn) as admin:
        await store.append(write(STREAM, *events(3)))
        await admin.execute(LAGGING["streams"])
        await until(lambda: _spooled(store))
        assert await store.append(write(STREAM, fact)) == Spooled()
        await admin.execute(repair())
        await until(lambda: _back(store))
        assert await store.find(fact.event_id) is not None
        assert store.status.rejected_units == 0
