"""A start from the tables: the same as from the first event, or not from the tables."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from events.catalogue import ApiKeyCreated, ApiKeyRevoked
from events.envelope import KEYS, RecordedEvent
from projections import table_sql
from projections.api_keys import ApiKeys
from projections.projection import fold
from projections.session_state import SessionState
from projections.snapshot import REMEMBERED, take
from projections.table_store import TableStore
from projections.tables import ADMISSION, API_KEYS, SESSIONS, VIEWED
from projections.views import Views
from tests.event_fixtures import LogDatabase
from tests.factories import event, recorded, write
from tests.projections.projecting import Projecting, projecting

pytestmark = pytest.mark.postgres
UNFIT = {
    "another version": "update view.projection_checkpoint set version = version + 1 where name = 'gateways'",
    "never made": "delete from view.projection_checkpoint where name = 'erasures'",
    "another past": "update view.projection_checkpoint set event_id = gen_random_uuid() where name = 'sessions'",
    "another time": "update view.projection_checkpoint set recorded_at = recorded_at + interval '1 second'",
    "ahead of the log": "update view.projection_checkpoint set position = position + 1000",
    "another log": "update view.projection_checkpoint set log_id = gen_random_uuid()",
    "another shape": "update view.sessions set state = '{}'",
    "no json": "update view.api_keys set state = 'x'; update view.admission set state = 'x'",
    "nothing yet": "update view.projection_checkpoint set position = 0, event_id = null, recorded_at = null",
}


@pytest_asyncio.fixture
async def world(empty_log: LogDatabase) -> AsyncIterator[Projecting]:
    async with projecting(empty_log) as opened:
        yield opened


class Counted:
    """A log that counts the events it gave."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read_log(self, **arguments: Any) -> list[RecordedEvent]:
        page: list[RecordedEvent] = await self._store.read_log(**arguments)
        self.read += len(page)
        return page


def shown(views: Views) -> dict[str, dict[str, Any]]:
    return {projection.name: states for projection, states in views.folds}


async def test_a_process_that_starts_folds_only_what_came_after(world: Projecting) -> None:
    made = await world.live("a", sessions=40, exchanges=20)
    await world.projector("one").run_once()
    head = await world.live("b")
    log: Any = Counted(world.store)
    views = Views(log, rows=world.rows)
    await views.load()
    assert views.position == head and shown(views) == await world.folded(head, VIEWED)
    assert log.read <= REMEMBERED + head - made + 10, "not the log"
    assert [mark.position for mark in views.marks] == list(range(made - REMEMBERED + 1, head + 1))
    log.read = 0
    await views.load()
    assert log.read <= 1, "it is loaded"


async def test_tables_at_different_positions_are_brought_to_one(world: Projecting) -> None:
    await world.live("a")
    await world.projector("one").run_once()
    await world.live("b")
    await world.projector("one", tables=[ADMISSION]).run_once()
    snapshot = await take(world.store, world.rows, VIEWED)
    assert snapshot is not None
    assert snapshot.marks.position == (await world.positions())["admission"]
    assert snapshot.states == await world.folded(snapshot.marks.position, VIEWED)


async def test_whatever_does_not_fit_is_folded_from_the_first_event(
    world: Projecting, caplog: pytest.LogCaptureFixture
) -> None:
    """And it is said: a start that suddenly takes minutes has a reason."""
    head = await world.live("a")
    for what, statement in UNFIT.items():
        await world.store.pool.execute("delete from view.projection_checkpoint")
        await world.projector("one").run_once()
        await world.store.pool.execute(statement)
        caplog.clear()
        with caplog.at_level(logging.INFO, "session_gateway.snapshot"):
            views = Views(world.store, rows=world.rows)
            await views.load()
        assert views.position == head and shown(views) == await world.folded(head, VIEWED), what
        assert [record.name for record in caplog.records] == ["session_gateway.snapshot"], what


async def test_rows_that_cannot_be_read_do_not_prevent_a_start(world: Projecting) -> None:
    head = await world.live("a")
    await world.projector("one").run_once()

    class Refused(TableStore):
        def snapshot(self, tables: Any = ()) -> Any:
            return TableStore(broken).snapshot()

    broken: Any = type("Pool", (), {"acquire": lambda self: (_ for _ in ()).throw(OSError("no rights"))})()
    views = Views(world.store, rows=Refused(world.store.pool))
    await views.load()
    assert views.position == head and shown(views) == await world.folded(head, VIEWED)


async def test_views_of_an_empty_log_begin_at_its_beginning(world: Projecting) -> None:
    views = Views(world.store, rows=world.rows)
    await views.load()
    assert views.position == 0 and not views.sessions


async def test_texts_that_repeat_are_kept_once(world: Projecting) -> None:
    """A hundred thousand sessions have a handful of images."""
    await world.live("a", sessions=2)
    await world.projector("one").run_once()
    snapshot = await take(world.store, world.rows, [SESSIONS])
    assert snapshot is not None
    one, two = snapshot.states["sessions"].values()
    assert isinstance(one, SessionState) and one != two
    assert one.image is two.image and one.instance is two.instance and one.opened_by is two.opened_by
    assert one.owner and one.metadata and one.owner.k is one.metadata.k
    assert one.token and two.token and one.token.secret_id is two.token.secret_id
    assert one.container is one.containers[-1] and one.session_id in snapshot.states["sessions"]


async def test_no_table_takes_the_place_of_another_while_they_are_read(world: Projecting) -> None:
    """Its rows were written after the snapshot was taken: the process would start without any session."""
    await world.live("a")
    await world.projector("one").run_once()
    async with world.rows.snapshot(VIEWED) as then, world.store.pool.acquire() as other:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("set lock_timeout = '50ms'; lock table view.sessions in access exclusive mode")
        assert [key async for key, _ in then.states(SESSIONS)]


async def test_a_row_that_was_forged_opens_no_door(world: Projecting) -> None:
    """Who may write the tables, and knows no key, lets himself in at no start; nor shuts others out."""
    await world.store.append(write(KEYS, event(ApiKeyCreated, key_id="mine"), event(ApiKeyCreated, key_id="gone")))
    await world.projector("one").run_once()
    head = (await world.store.head()).position
    forged = fold(ApiKeys(), {}, [recorded(ApiKeyCreated, key_id="forged")])
    row = API_KEYS.values("forged", forged["forged"])
    await world.store.pool.execute(table_sql.upsert(API_KEYS), *([value] for value in row))
    await world.store.pool.execute("delete from view.api_keys where key_id = 'mine'")
    revoked = event(ApiKeyRevoked, key_id="gone")
    await world.store.append(write(KEYS, revoked))
    snapshot = await take(world.store, world.rows, VIEWED)
    assert snapshot is not None and snapshot.marks.position == head, "it was taken from the tables"
    assert set(snapshot.states["api_keys"]) == {"mine", "gone"}
    assert snapshot.states["api_keys"]["gone"].revoked_at is None, "as of the place of the others"
    views = Views(world.store, rows=world.rows)
    await views.load()
    assert set(views.api_keys) == {"mine", "gone"} and views.api_keys["gone"].revoked_at is not None


async def test_keys_of_any_number_are_read_at_a_start(world: Projecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.snapshot.PAGE", 2)
    for number in range(5):
        await world.store.append(write(KEYS, event(ApiKeyCreated, key_id=f"k{number}")))
        await world.live(f"l{number}", sessions=1)
    await world.projector("one").run_once()
    snapshot = await take(world.store, world.rows, VIEWED)
    assert snapshot is not None and set(snapshot.states["api_keys"]) == {f"k{number}" for number in range(5)}
