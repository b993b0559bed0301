"""The projector: one holder at a time, every event once, and what it does with tables that it did not write."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from events.catalogue import LogForkAccepted
from events.envelope import SYSTEM, Fence, RecordedEvent
from events.errors import StoreUnavailable
from events.mark import Mark
from events.postgres import PostgresEventStore
from events.store import EventStore
from projections.projector import Projector
from projections.table import Table
from projections.table_store import Changes, TableStore
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import LogDatabase
from tests.factories import payload, write
from tests.projections.projecting import Projecting, projecting

pytestmark = pytest.mark.postgres
NAMES = {table.name for table in TABLES}


@pytest_asyncio.fixture
async def world(empty_log: LogDatabase) -> AsyncIterator[Projecting]:
    async with projecting(empty_log) as opened:
        yield opened


async def test_tables_are_what_the_log_makes(world: Projecting) -> None:
    """Made anew, then carried on from what is kept in memory, then by a process that knows nothing."""
    projector = world.projector("one")
    for name in ("a", "b"):
        head = await world.live(name)
        await projector.run_once()
        assert projector.positions == dict.fromkeys(NAMES, head)
        assert await world.agrees() == head
    await projector.close()
    assert projector.positions == {}
    head = await world.live("c")
    await world.projector("another").run_once()
    assert await world.agrees() == head


async def test_a_session_is_a_row_that_sql_understands(world: Projecting) -> None:
    await world.live("a", sessions=1)
    await world.projector("one").run_once()
    row = await world.store.pool.fetchrow("select * from view.sessions where session_id = 'a-0'")
    assert row is not None and row["status"] == "stopped" and row["auth_token"] == "9f" * 32
    assert set(msgspec.json.decode(row["metadata"])) == {"k", "n", "c"}, "sealed"


async def test_only_the_holder_writes(world: Projecting) -> None:
    head = await world.live("a")
    first, second = world.projector("one"), world.projector("another")
    await first.run_once()
    await world.live("b")
    await second.run_once()
    assert second.positions == {} and await world.agrees() == head, "it waits for the lease"
    await first.close()
    await second.run_once()
    assert await world.agrees() == (await world.store.head()).position


async def test_who_does_not_hold_the_lease_does_not_touch_the_append_lock(world: Projecting) -> None:
    """Every process asks twice a second: a claim of what another holds would wait among the appends."""
    await world.projector("one").run_once()
    second = world.projector("another")
    async with world.store.pool.acquire() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(7201, 1)")
        await asyncio.wait_for(second.run_once(), 4)


async def test_a_stale_holder_writes_nothing(world: Projecting) -> None:
    """It still believes in its lease, and has the states in memory, when another has gone on."""
    stale, fresh = world.projector("one", clock=lambda: 0.0), world.projector("another")
    await world.live("a")
    await stale.run_once()
    await world.lapse()
    head = await world.live("b")
    await fresh.run_once()
    before = await world.rows.checkpoints()
    await world.live("c")
    await stale.run_once()
    assert await world.rows.checkpoints() == before and await world.agrees() == head
    await stale.run_once()
    assert stale.positions == {}, "it has learned that the lease is another's"


async def test_a_new_lease_alone_already_shuts_the_former_holder_out(world: Projecting) -> None:
    """Between the claim of a new holder and its first write nothing of the former one gets through."""
    stale = world.projector("one", clock=lambda: 0.0)
    head = await world.live("a")
    await stale.run_once()
    await world.lapse()
    assert await world.store.pool.fetchval("select view.claim_lease('projector', 'another', 5)") == 2
    await world.live("b")
    await stale.run_once()
    assert await world.agrees() == head


async def test_rows_that_another_wrote_meanwhile_are_read_anew(world: Projecting) -> None:
    """A rebuild puts other rows in place and moves the checkpoint: what is kept in memory is no longer the table."""
    projector = world.projector("one")
    await world.live("a")
    await projector.run_once()
    await world.store.pool.execute("delete from view.sessions")
    await world.store.pool.execute("update view.projection_checkpoint set updated_at = clock_timestamp()")
    head = await world.live("b")
    await projector.run_once()
    await projector.run_once()
    sessions = (await world.held([SESSIONS]))["sessions"]
    assert projector.positions == dict.fromkeys(NAMES, head)
    assert set(sessions) == {"b-0", "b-1"}, "it does not write back what it had kept"


class Wavering(TableStore):
    """Answers of some writes are lost: after the commit, or before it."""

    lost: str = ""

    async def write(
        self, changes: Sequence[Changes], seen: Mapping[str, datetime], to: Mark, fence: Fence
    ) -> dict[str, datetime]:
        lost, self.lost = self.lost, ""
        if lost == "before":
            raise StoreUnavailable("never sent")
        moved = await super().write(changes, seen, to, fence)
        if lost == "after":
            raise StoreUnavailable("the answer was lost")
        return moved


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_a_write_in_doubt_is_neither_lost_nor_done_twice(world: Projecting, lost: str) -> None:
    rows = Wavering(world.store.pool)
    projector = world.projector("one", rows=rows)
    await world.live("a")
    await projector.run_once()
    head, rows.lost = await world.live("b"), lost
    with pytest.raises(StoreUnavailable):
        await projector.run_once()
    assert projector.positions == {}, "nothing in memory is trusted"
    await projector.run_once()
    assert await world.agrees() == head


async def test_table_of_an_older_fold_is_made_anew(world: Projecting) -> None:
    head = await world.live("a")
    await world.projector("one").run_once()
    await world.store.pool.execute("update view.sessions set state = '{}', session_id = session_id || 'x'")
    await world.store.pool.execute("update view.projection_checkpoint set version = version - 1 where name='sessions'")
    await world.projector("one").run_once()
    assert await world.agrees() == head
    assert (await world.rows.checkpoints())["sessions"].version == SESSIONS.projection.version


async def test_table_of_a_later_release_is_left_alone_and_said_once(
    world: Projecting, caplog: pytest.LogCaptureFixture
) -> None:
    head = await world.live("a")
    await world.projector("one").run_once()
    await world.store.pool.execute("update view.projection_checkpoint set version = version + 1 where name='sessions'")
    projector = world.projector("one")
    with caplog.at_level(logging.WARNING, "session_gateway.projector"):
        for name in ("b", "c"):
            later = await world.live(name)
            await projector.run_once()
            projector._drop()  # as after a failure: it looks at the tables again
    positions = await world.positions()
    assert positions.pop("sessions") == head and set(positions.values()) == {later}
    assert [record.getMessage() for record in caplog.records] == [
        f"the table sessions is of version {SESSIONS.projection.version + 1}, a later release's: this one does not"
        " write it"
    ]


async def test_table_that_is_behind_catches_up_beside_the_others(world: Projecting) -> None:
    """A new table has the whole log before it; those that are at the head do not wait for it."""
    await world.live("a", sessions=40, exchanges=30)
    others = [table for table in TABLES if table is not SESSIONS]
    await world.projector("one", tables=others).run_once()
    await world.live("b")
    projector = world.projector("one")
    fence = Fence("projector", await world.store.pool.fetchval("select epoch from view.lease"))
    assert await projector._round(fence)
    head, positions = (await world.store.head()).position, projector.positions
    assert positions["tokens"] == head and positions["sessions"] < head
    while await projector._round(fence):
        pass
    assert projector._followers is not None and len(projector._followers) == 1, "they go on as one"
    assert await world.agrees() == head


async def of_an_older_fold(world: Projecting) -> None:
    await world.projector("one").run_once()
    await world.store.pool.execute("update view.projection_checkpoint set version = version - 1 where name='sessions'")


async def test_tables_are_made_anew_by_who_is_told_to(world: Projecting) -> None:
    """Others go on meanwhile; when it is made it is carried on too."""
    await world.live("a")
    await of_an_older_fold(world)
    asked, may = asyncio.Event(), asyncio.Event()

    async def make(table: Table[Any]) -> bool:
        assert table is SESSIONS
        asked.set()
        await may.wait()
        await world.projector("one", tables=[SESSIONS]).run_once()
        return True

    projector = world.projector("one", make=make)
    await projector.run_once()
    await asyncio.wait_for(asked.wait(), 5)
    head = await world.live("b")
    await projector.run_once()
    assert set(projector.positions) == NAMES - {"sessions"} and set(projector.positions.values()) == {head}
    may.set()
    assert projector._making is not None
    await projector._making
    await projector.run_once()
    assert projector.positions == dict.fromkeys(NAMES, head) and await world.agrees() == head


async def test_failure_to_make_a_table_is_told_and_tried_again(world: Projecting) -> None:
    tried: list[str] = []
    await of_an_older_fold(world)

    async def make(table: Table[Any]) -> bool:
        tried.append(table.name)
        raise StoreUnavailable("not now")

    projector = world.projector("one", tables=[SESSIONS], make=make)
    for _ in range(2):
        await projector.run_once()
        assert projector._making is not None
        await asyncio.wait({projector._making})
        with pytest.raises(StoreUnavailable, match="not now"):
            await projector.run_once()
    assert tried == ["sessions"] * 2


async def forget_the_end(world: Projecting) -> None:
    """The tables come from a log that went on otherwise, as when only the log was restored."""
    await world.store.pool.execute("update view.projection_checkpoint set event_id = gen_random_uuid()")


async def test_tables_of_another_past_stop_the_projector(world: Projecting, caplog: pytest.LogCaptureFixture) -> None:
    await world.live("a")
    await world.projector("one").run_once()
    await forget_the_end(world)
    before = await world.rows.checkpoints()
    projector = world.projector("one")
    await projector.run_once()
    assert projector.forked is not None and "log accept" in caplog.text
    await world.live("b")
    await projector.run_once()
    assert await world.rows.checkpoints() == before, "nothing is written any more"
    assert not await world.store.pool.fetchval("select count(*) from view.lease where expires_at > clock_timestamp()")


async def test_tables_are_made_anew_when_the_fork_was_accepted(world: Projecting) -> None:
    """An acceptance of before the tables' last event says nothing about this fork."""
    accepted = payload(LogForkAccepted, same_until=1, differs_from=2, known_until=50)
    await world.store.append(write(SYSTEM, accepted))
    await world.live("a")
    await world.projector("one").run_once()
    await forget_the_end(world)
    stopped = world.projector("one")
    await stopped.run_once()
    assert stopped.forked is not None
    await world.store.append(write(SYSTEM, accepted))
    again = world.projector("one")
    await again.run_once()
    assert again.forked is None and await world.agrees() == (await world.store.head()).position


class Forking:
    """A log that turns into another one at its end."""

    def __init__(self, behind: PostgresEventStore) -> None:
        self._behind = behind
        self.forked = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def read_log(self, **arguments: Any) -> list[RecordedEvent]:
        page = await self._behind.read_log(**arguments)
        return [msgspec.structs.replace(event, event_id=event.log_id) for event in page] if self.forked else page


async def test_a_fork_under_a_running_projector_stops_it(world: Projecting) -> None:
    head = await world.live("a")
    log = Forking(world.store)
    first = world.projector("one")
    projector = Projector(cast(EventStore, log), world.rows, first._leases, "one")
    await projector.run_once()
    log.forked = True
    await world.live("b")
    await projector.run_once()
    assert projector.forked is not None and await world.agrees() == head


async def test_kept_states_have_a_bound(world: Projecting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those given up are read again when they are touched."""
    monkeypatch.setattr("projections.follower.KEPT", 3)
    monkeypatch.setattr("projections.follower.PAGE", 7)
    monkeypatch.setattr("projections.follower.MOST", 7)
    projector = world.projector("one")
    for name in ("a", "b"):
        head = await world.live(name, sessions=5)
        await projector.run_once()
    assert projector._followers is not None
    assert all(len(kept.states) <= len(kept._known) <= 3 for kept in projector._followers[0]._kept)
    assert await world.agrees() == head


async def test_pages_grow_while_there_is_much_to_do(world: Projecting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.follower.PAGE", 4)
    monkeypatch.setattr("projections.follower.MOST", 16)
    sizes: list[int] = []

    class Watched(TableStore):
        async def write(self, *arguments: Any) -> dict[str, datetime]:
            sizes.append(arguments[2].position)
            return await super().write(*arguments)

    head = await world.live("a", sessions=6)
    await world.projector("one", rows=Watched(world.store.pool)).run_once()
    assert [after - before for before, after in zip([0, *sizes], sizes, strict=False)][:4] == [4, 8, 16, 16]
    assert sizes[-1] == head


async def test_end_waits_for_what_it_was_making(world: Projecting) -> None:
    """Another process may be making the table when the lease is its own: two rebuilds would meet."""
    begun, left = asyncio.Event(), asyncio.Event()

    async def make(table: Table[Any]) -> bool:
        begun.set()
        try:
            return await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            left.set()

    await of_an_older_fold(world)
    projector = world.projector("one", make=make)
    await projector.run_once()
    await asyncio.wait_for(begun.wait(), 5)
    await projector.close()
    assert left.is_set()
    assert not await world.store.pool.fetchval("select count(*) from view.lease where expires_at > clock_timestamp()")


@pytest.mark.parametrize("closed", [True, False])
async def test_a_making_that_was_given_up_ends_before_the_next_begins(world: Projecting, closed: bool) -> None:
    """Both have the same holder's name: what the former gives back would be the lease of the next. The end waits too,
    for both."""
    done: list[str] = []
    begun, may = asyncio.Event(), asyncio.Event()

    async def make(table: Table[Any]) -> bool:
        done.append("begun")
        begun.set()
        try:
            return await asyncio.Event().wait()
        finally:
            await may.wait()
            done.append("given back")

    await of_an_older_fold(world)
    projector = world.projector("one", make=make)
    await projector.run_once()
    await asyncio.wait_for(begun.wait(), 5)
    projector._drop()  # as after a failure
    await projector.run_once()
    begun.clear()
    for _ in range(10):
        await asyncio.sleep(0)
    early = list(done)
    asyncio.get_running_loop().call_later(0.01, may.set)
    if not closed:
        await asyncio.wait_for(begun.wait(), 5)
    await projector.close()
    assert early == ["begun"]
    assert done[:2] == ["begun", "given back"] and done.count("begun") == done.count("given back")
