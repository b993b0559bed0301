"""Rebuild: a table made anew beside the one in use, proved equal, and put in its place; interrupted, it goes on."""

import asyncio
import re
import time
from typing import Any
from uuid import UUID

import msgspec
import pytest

from events.catalogue import ProjectionRebuilt
from events.errors import StoreUnavailable
from events.ids import short
from projections import rebuild, rebuild_store
from projections.errors import RebuildRefused, Superseded, TableHeld, UnderWay
from projections.table_store import TableStore
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import connection, open_store, until
from tests.projections.rebuilding import Ground, Killed, killing
from tests.projections.rebuilding import database as database
from tests.projections.rebuilding import on as on

pytestmark = pytest.mark.postgres


async def test_every_table_is_made_anew_as_it_was(on: Ground) -> None:
    """Rows, indexes, constraints, rights, owner: nothing tells it from the former one, and nothing is left over."""
    for table in TABLES:
        rows, shape = await on.rows(table), await on.shape(table)
        done = await on.rebuild(table)
        assert (done.rows, done.differing, done.reason) == (len(rows), 0, "asked")
        assert await on.rows(table) == rows
        assert await on.shape(table) == shape
    assert await on.left() == []
    assert await on.sql("select count(*) from view.projection_rebuild") == 0
    assert [done.projection for _, done in on.told] == [table.name for table in TABLES]


async def test_the_projector_goes_on_with_the_new_table(on: Ground) -> None:
    before = len(await on.rows(SESSIONS))
    await on.rebuild(SESSIONS)
    await on.live(short(), sessions=3)
    await on.carry()  # notices that another has written
    await on.carry()
    assert len(await on.rows(SESSIONS)) == before + 3
    assert await on.sql("select count(distinct position) from view.projection_checkpoint") == 1


async def test_a_table_that_was_altered_is_put_right_and_counted(on: Ground) -> None:
    await on.sql("update view.sessions set port = 1 where session_id = 'a-0'")
    await on.sql("delete from view.sessions where session_id = 'a-1'")
    await on.sql("update view.sessions set session_id = 'nobody' where session_id = 'a-2'")  # one missing, one too many
    assert (await on.rebuild(SESSIONS)).differing == 4
    assert (await on.rebuild(SESSIONS)).differing == 0


async def test_a_projector_that_remembers_what_was_altered_takes_the_new_rows(on: Ground) -> None:
    """What it kept in memory of the former table is given up with it."""
    await on.sql("update view.sessions set status = 'error', state = replace(state::text, 'a', 'a')::bytea")
    await on.rebuild(SESSIONS)
    before = await on.rows(SESSIONS)
    await on.carry()
    await on.carry()
    assert await on.rows(SESSIONS) == before


@pytest.mark.parametrize("step", ["begun", "folded", "caught_up", "compared", "swapped", "told"])
async def test_killed_at_any_step_it_is_finished_by_the_next(on: Ground, step: str) -> None:
    """Nothing is told twice under two ids, and nothing that was done is left untold."""
    rows = await on.rows(SESSIONS)
    await on.killed_at(SESSIONS, step)
    assert await on.rows(SESSIONS) == rows
    swapped = step in ("swapped", "told")
    told = await on.sql("select count(*) from view.projection_rebuild where told_id is not null")
    assert told == (step == "swapped")
    assert len(on.told) == (step == "told")
    await on.rebuild(SESSIONS)
    assert await on.rows(SESSIONS) == rows
    assert len(on.told) == 1 + swapped
    assert len({told_id for told_id, _ in on.told}) == len(on.told)
    resumed = step in ("begun", "folded", "caught_up", "compared")
    assert on.steps[0].step == ("resumed" if resumed else "begun")
    if step in ("folded", "caught_up", "compared"):
        assert on.steps[0].position > 0
    assert await on.left() == []


async def test_an_untold_rebuild_is_told_without_another(on: Ground) -> None:
    await on.killed_at(SESSIONS, "swapped")
    assert await on.rebuilder().tell_former(SESSIONS)
    assert not await on.rebuilder().tell_former(SESSIONS)
    ((_, done),) = on.told
    assert (done.projection, done.rows) == ("sessions", len(await on.rows(SESSIONS)))


async def test_what_could_not_be_told_is_told_later_under_the_same_id(on: Ground) -> None:
    ids: list[UUID] = []

    async def away(told_id: UUID, done: ProjectionRebuilt) -> None:
        ids.append(told_id)
        raise StoreUnavailable("the log is away")

    with pytest.raises(StoreUnavailable):
        await on.rebuilder(tell=away).rebuild(SESSIONS)
    await on.rebuilder().tell_former(SESSIONS)
    assert [told_id for told_id, _ in on.told] == ids


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        ("update view.projection_rebuild set version = version - 1", ""),
        ("update view.projection_rebuild set log_id = gen_random_uuid()", ""),
        ("update view.projection_rebuild set event_id = gen_random_uuid()", ""),
        ("alter table view.sessions add column colour text", "alter table view.sessions drop column colour"),
        ("create index sessions_port on view.sessions (port)", "drop index view.sessions_port"),
        (
            "alter table view.sessions add constraint sessions_port check (port > 0)",
            "alter table view.sessions drop constraint sessions_port",
        ),
        ("drop table view.sessions_next", ""),
    ],
)
async def test_what_does_not_fit_any_more_is_begun_anew(on: Ground, change: str, undo: str) -> None:
    await on.killed_at(SESSIONS, "compared")
    await on.sql(change)
    shape = await on.shape(SESSIONS)
    assert (await on.rebuild(SESSIONS)).differing == 0
    assert (on.steps[0].step, on.steps[0].position) == ("begun", 0)
    assert await on.shape(SESSIONS) == shape
    await on.sql(undo or "select 1")


async def test_two_at_once_the_second_is_told_who_is_at_it(on: Ground) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(told_id: UUID, done: ProjectionRebuilt) -> None:
        begun.set()
        await go.wait()

    first = asyncio.create_task(on.rebuilder("gw-1", tell=slow).rebuild(SESSIONS))
    await begun.wait()
    with pytest.raises(UnderWay, match="gw-1 is rebuilding sessions") as refused:
        await on.rebuilder("gw-2").rebuild(SESSIONS)
    assert refused.value.holder == "gw-1" and refused.value.expires_at is not None
    assert re.search(r"; if it is gone, try again in (\d|1[0-5]) s\.$", str(refused.value))
    await on.rebuilder("gw-2").rebuild(TABLES[1])  # another table is not held up
    go.set()
    await first


async def test_whoever_wakes_before_the_exchange_does_not_put_anothers_half_in_place(
    on: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen with nothing left to fold, it writes no page that would be refused, and tells of no rebuild."""
    rows = await on.rows(SESSIONS)
    checkpoint = "select row(position, updated_at)::text from view.projection_checkpoint where name = 'sessions'"
    place = await on.sql(checkpoint)
    frozen = list[int]()

    async def freeze(store: rebuild_store.RebuildStore, of: Any = rebuild_store.RebuildStore.analyze) -> None:
        await of(store)
        if frozen:
            return
        frozen.append(1)
        await on.sql("update view.lease set expires_at = now() where name = 'rebuild-sessions'")
        another = on.rebuilder("r2")
        assert await another.abandon(SESSIONS)
        with pytest.raises(Killed):
            await another.rebuild(SESSIONS, watch=killing("folded"))

    monkeypatch.setattr(rebuild_store.RebuildStore, "analyze", freeze)
    with pytest.raises(Superseded):
        await on.rebuilder("r1", near=0).rebuild(SESSIONS)
    assert (await on.rows(SESSIONS), await on.sql(checkpoint), on.told) == (rows, place, [])
    assert (await on.rebuild(SESSIONS)).differing == 0
    assert on.steps[0].step == "resumed"


async def test_a_table_of_a_later_release_is_left_alone(on: Ground) -> None:
    await on.sql("update view.projection_checkpoint set version = 99 where name = 'sessions'")
    with pytest.raises(RebuildRefused, match="made by a later release"):
        await on.rebuild(SESSIONS)
    assert await on.left() == []


async def test_a_table_of_an_older_version_is_made_by_the_projector_beside_the_others(on: Ground) -> None:
    """The others go on meanwhile; an older release's projector leaves the new one alone."""
    await on.sql("update view.projection_checkpoint set version = 1, updated_at = now() where name = 'sessions'")
    await on.sql("update view.sessions set status = null")
    on.projector._make = on.rebuilder().make
    before = len(await on.rows(SESSIONS))
    await on.live(short(), sessions=2)

    async def made() -> bool:
        await on.carry()
        rows = await on.rows(SESSIONS)
        return len(rows) == before + 2 and all(row[8] == "stopped" for row in rows.values())

    await until(made)
    ((_, done),) = on.told
    assert (done.reason, done.differing) == ("version", before)
    assert (
        await on.sql("select version from view.projection_checkpoint where name = 'sessions'")
        == SESSIONS.projection.version
    )


async def test_a_table_that_was_never_made_is_made_without_a_projector(on: Ground) -> None:
    rows = await on.rows(SESSIONS)
    await on.projector.close()
    await on.sql("delete from view.projection_checkpoint")
    await on.sql("delete from view.sessions")
    done = await on.rebuild(SESSIONS)
    assert (done.rows, done.differing) == (len(rows), len(rows))
    assert await on.rows(SESSIONS) == rows


async def test_a_table_of_a_forked_log_is_made_anew_to_the_head(on: Ground) -> None:
    """Its checkpoint names an event that this log does not hold, at a position that it may not have."""
    head = (await on.store.head()).position
    change = "update view.projection_checkpoint set position = position + 50, event_id = gen_random_uuid()"
    await on.sql(change)
    assert (await on.rebuild(SESSIONS)).position == head


async def test_what_is_begun_anew_is_analysed_too(on: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is made while the projector stands: it must not go by the figures of an empty table."""
    analysed: list[int] = []

    async def analyze(rows: rebuild_store.RebuildStore, of: Any = rebuild_store.RebuildStore.analyze) -> None:
        await of(rows)
        analysed.append(await on.sql("select reltuples from pg_class where oid = 'view.sessions_next'::regclass"))
        if len(analysed) == 1:  # the one in use is made anew itself, and is behind
            await on.sql("update view.projection_checkpoint set position = position - 40 where name = 'sessions'")

    monkeypatch.setattr(rebuild_store.RebuildStore, "analyze", analyze)
    await on.rebuild(SESSIONS)
    assert [each.step for each in on.steps].count("begun") == len(analysed) == 2
    assert min(analysed) > 0


async def test_what_was_built_and_is_gone_after_a_wait_is_begun_anew(on: Ground) -> None:
    """Somebody gave it up meanwhile, by hand."""
    async with connection(on.database.app_dsn) as reader:
        begun = reader.transaction()
        await begun.start()
        await reader.fetch("select count(*) from view.sessions")
        waiting = asyncio.Event()

        def watch(progress: Any) -> None:
            on.steps.append(progress)
            if progress.step == "waiting":
                waiting.set()

        rebuilding = asyncio.create_task(on.rebuilder().rebuild(SESSIONS, watch=watch))
        await waiting.wait()
        await on.sql("delete from view.projection_rebuild")
        await begun.rollback()
        assert (await rebuilding).differing == 0
    assert [each.step for each in on.steps].count("begun") == 2


async def test_a_long_reader_is_waited_for_without_a_queue(on: Ground) -> None:
    """A waiting lock stops everybody who comes after it: it is given up after a fifth of a second, and tried again."""
    async with connection(on.database.app_dsn) as reader, connection(on.database.app_dsn) as another:
        begun = reader.transaction()
        await begun.start()
        await reader.fetch("select count(*) from view.sessions")
        waiting = asyncio.Event()

        def watch(progress: Any) -> None:
            if progress.step == "waiting":
                waiting.set()

        rebuilding = asyncio.create_task(on.rebuilder().rebuild(SESSIONS, watch=watch))
        while not waiting.is_set():
            await another.fetch("select count(*) from view.sessions", timeout=2)
        assert not rebuilding.done()
        await begun.rollback()
        assert (await rebuilding).differing == 0


async def test_a_start_that_has_begun_to_read_is_waited_for(on: Ground) -> None:
    """Its snapshot would find none of the rows of a table that took the name afterwards."""
    rows, waiting = len(await on.rows(SESSIONS)), asyncio.Event()

    def watch(progress: Any) -> None:
        if progress.step == "waiting":
            waiting.set()

    async with open_store(on.database.app_dsn) as other:
        async with TableStore(other.pool).snapshot((SESSIONS,)) as then:
            checkpoints = await then.checkpoints()
            rebuilding = asyncio.create_task(on.rebuilder().rebuild(SESSIONS, watch=watch))
            waited = asyncio.create_task(waiting.wait())
            await asyncio.wait([rebuilding, waited], return_when=asyncio.FIRST_COMPLETED)
            assert len([key async for key, _ in then.states(SESSIONS)]) == rows
            assert checkpoints["sessions"].position == (await on.store.head()).position
        waited.cancel()
        assert (await rebuilding).differing == 0
    assert waiting.is_set()


async def test_a_process_that_freezes_in_the_exchange_lets_go(on: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold the projector and, at the end, every reader; Postgres ends its transaction."""
    short_patience = rebuild_store._PATIENT.replace("'10s'", "'100ms'")
    monkeypatch.setattr(rebuild_store, "_PATIENT", short_patience)

    def freeze(progress: Any) -> None:
        if progress.step == "compared":
            time.sleep(0.5)  # nothing of this process runs meanwhile

    with pytest.raises(StoreUnavailable):
        await on.rebuilder().rebuild(SESSIONS, watch=freeze)
    await on.carry()
    monkeypatch.undo()
    assert (await on.rebuild(SESSIONS)).differing == 0


async def test_patience_ends_with_the_names_of_those_who_hold_it(on: Ground) -> None:
    async with connection(on.database.app_dsn) as reader:
        await reader.execute("set application_name = 'monthly report'")
        begun = reader.transaction()
        await begun.start()
        await reader.fetch("select count(*) from view.sessions")
        with pytest.raises(TableHeld, match="monthly report"):
            await on.rebuilder(patience_seconds=0.0).rebuild(SESSIONS)
        await begun.rollback()
    assert (await on.rebuild(SESSIONS)).differing == 0
    assert on.steps[0].step == "resumed"


async def test_the_projector_leaves_a_table_to_whoever_rebuilds_it_already(on: Ground) -> None:
    await on.sql("update view.projection_checkpoint set version = 1 where name = 'sessions'")
    await on.leases.claim(f"{rebuild.LEASE}sessions", "a command")
    assert not await on.rebuilder().make(SESSIONS)
    await on.sql(
        f"update view.projection_checkpoint set version = {SESSIONS.projection.version} where name = 'sessions'"
    )
    assert await on.rebuilder().make(SESSIONS)  # somebody else has done it
    assert on.told == []


async def test_what_was_built_can_be_given_up(on: Ground) -> None:
    await on.killed_at(SESSIONS, "compared")
    assert await on.left() == ["sessions_next"]
    assert await on.rebuilder().abandon(SESSIONS)
    assert not await on.rebuilder().abandon(SESSIONS)
    assert await on.left() == []


def test_told_is_what_the_catalogue_reads() -> None:
    done = ProjectionRebuilt(projection="p", version=1, position=2, rows=3, differing=4, reason="asked", duration_us=5)
    assert msgspec.json.decode(msgspec.json.encode(done), type=ProjectionRebuilt) == done
