"""Comparison: made once while the projector goes on; at the exchange only what was touched since is looked at again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from events.ids import short, uuid7
from projections import comparison, rebuild
from projections.checkpoint import Checkpoint
from projections.comparison import Comparison, _led_to, whole
from projections.rebuild_store import RebuildStore
from projections.tables import SESSIONS
from tests.event_fixtures import connection
from tests.factories import MOMENT
from tests.projections.lives import opened, started
from tests.projections.rebuilding import Ground
from tests.projections.rebuilding import database as database
from tests.projections.rebuilding import on as on

PLACE = Checkpoint(
    name="sessions",
    version=2,
    log_id=uuid7(),
    position=9,
    event_id=uuid7(),
    recorded_at=MOMENT,
    epoch=1,
    updated_at=MOMENT,
)


@pytest.mark.parametrize(
    ("then", "now", "follows", "led"),
    [
        (PLACE, PLACE, True, True),
        (PLACE, msgspec.structs.replace(PLACE, position=12, event_id=uuid7(), epoch=2), True, True),
        (PLACE, msgspec.structs.replace(PLACE, position=12), False, False),  # filled by whoever is not in this log
        (PLACE, msgspec.structs.replace(PLACE, position=8), True, False),
        (PLACE, msgspec.structs.replace(PLACE, version=0), True, False),
        (PLACE, msgspec.structs.replace(PLACE, log_id=uuid7()), True, False),
        (None, PLACE, False, False),
        (None, None, False, True),
    ],
)
def test_what_else_was_done_to_the_table_is_not_taken_for_events(
    then: Checkpoint | None, now: Checkpoint | None, follows: bool, led: bool
) -> None:
    assert _led_to(then, now, follows=follows) is led


class Counted:
    """How often all rows were compared and the projector stopped; ``afterwards`` happens right after a comparison."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, afterwards: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.whole = self.stopped = 0
        self.first: list[int] = []
        all_of, stop = Comparison.all, RebuildStore.stop_projector

        async def counted_whole(*arguments: Any) -> Any:
            self.whole += 1
            return await whole(*arguments)

        async def counted_all(made: Comparison, *arguments: Any) -> None:
            await all_of(made, *arguments)
            assert made._whole is not None
            self.first.append(made._whole.compared.differing)
            if afterwards is not None:
                await afterwards()

        async def counted_stop(*arguments: Any) -> Any:
            self.stopped += 1
            return await stop(*arguments)

        monkeypatch.setattr(comparison, "whole", counted_whole)
        monkeypatch.setattr(Comparison, "all", counted_all)
        monkeypatch.setattr(RebuildStore, "stop_projector", counted_stop)


@pytest.mark.postgres
async def test_the_projector_goes_on_and_the_figures_are_those_of_the_exchange(
    on: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that differed and were put right, that were right and differ, that came and that nobody touched."""
    b = short()
    for number in range(3):
        await on.store.append(*opened(f"{b}-{number}"))
    await on.carry()
    await on.sql(f"update view.sessions set port = 1 where session_id in ('a-0', '{b}-0')")
    await on.sql(f"delete from view.sessions where session_id in ('a-1', '{b}-1')")

    async def meanwhile() -> None:
        for number in range(3):
            await on.store.append(*started(f"{b}-{number}"))
        await on.live(short(), sessions=2)
        await on.carry()  # as in another process: nothing keeps it waiting
        await on.sql(f"update view.sessions set port = 2 where session_id = '{b}-2'")

    counted, compared = Counted(monkeypatch, meanwhile), list[Any]()
    last = Comparison.at_last

    async def twice(made: Comparison, at: Any, *arguments: Any, **named: Any) -> Any:
        compared.append(await whole(at, SESSIONS))
        compared.append(await last(made, at, *arguments, **named))
        return compared[-1]

    monkeypatch.setattr(Comparison, "at_last", twice)
    done = await on.rebuild(SESSIONS)
    assert compared[0] == compared[1] and counted.first == [4]
    assert (done.rows, done.differing) == (len(await on.rows(SESSIONS)), 3)
    assert done.position == (await on.store.head()).position
    assert (counted.whole, counted.stopped) == (1, 1)
    await on.carry()
    assert (await on.rebuild(SESSIONS)).differing == 0


@pytest.mark.postgres
@pytest.mark.parametrize(("most", "times"), [(1000, 1), (0, 2)])
async def test_a_reader_stops_no_projector_and_costs_no_second_comparison(
    on: Ground, monkeypatch: pytest.MonkeyPatch, most: int, times: int
) -> None:
    """Unless so much was touched while it read that all is compared once more."""
    monkeypatch.setattr(rebuild, "_PAUSES", (0.01,))
    monkeypatch.setattr(comparison, "MOST_TOUCHED", most)
    counted, waited = Counted(monkeypatch), 0

    def watch(progress: Any) -> None:
        nonlocal waited
        waited += progress.step == "waiting"

    async with connection(on.database.app_dsn) as reader:
        begun = reader.transaction()
        await begun.start()
        await reader.fetch("select count(*) from view.sessions")
        rebuilding = asyncio.create_task(on.rebuilder(near=0).rebuild(SESSIONS, watch=watch))
        while not rebuilding.done() and (waited < 3 or counted.whole < times):
            await on.live(short(), sessions=1)
            await on.carry()
        assert (counted.stopped, rebuilding.done()) == (0, False)
        assert times > 1 or counted.whole == 1
        await begun.rollback()
        assert (await rebuilding).differing == 0
    assert counted.stopped >= 1


@pytest.mark.postgres
async def test_whoever_reads_while_it_is_asked_for_the_lock_is_not_shut_out(on: Ground) -> None:
    """The lock that was had is given back before anything is folded or compared."""
    rows = RebuildStore(on.store.pool, SESSIONS)
    await on.sql("select view.begin_rebuild('sessions')")
    async with rows.exchanging() as at:
        await rows.ask_for_lock(at)
        assert await on.sql("select count(*) from view.sessions")
        assert await at.fetchval("show lock_timeout") == "2s"
