"""Looking back at everything: one fold at a time, a short queue, and nobody else waits for it."""

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest

from events.catalogue import SessionRequested
from events.envelope import RecordedEvent, StreamWrite, session_stream
from events.memory import MemoryEventStore
from gateway.api import shapes
from gateway.api.lookback import KEPT, Lookbacks
from gateway.api.turn import WAITING
from gateway.errors import Refused
from projections import asof
from projections.projection import fold
from projections.session_state import Sessions, SessionState
from tests.event_fixtures import until
from tests.factories import payload, write


class Gated(MemoryEventStore):
    """Reads wait until the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def read_log(self, **arguments: Any) -> list[RecordedEvent]:
        await self.gate.wait()
        return await super().read_log(**arguments)


async def sessions(store: MemoryEventStore, number: int) -> None:
    def opening(session_id: str) -> StreamWrite:
        return write(session_stream(session_id), payload(SessionRequested, session_id=session_id))

    for at in range(number):
        await store.append(opening(f"s{at}"))


async def test_it_is_the_fold_of_the_log_in_order() -> None:
    store = MemoryEventStore()
    await sessions(store, 5)
    for position in range(6):
        folded = await asof.as_of(store, Sessions(), position)
        assert await Lookbacks(store).sessions(position) == shapes.in_order(folded.values())


async def test_those_who_ask_for_the_same_share_one_fold_and_beyond_the_queue_is_refused() -> None:
    """One that is served and WAITING who wait; the next is told to come again, and may when they are served."""
    store = Gated()
    await sessions(store, 5)
    lookbacks = Lookbacks(store)
    store.gate.clear()
    asking = [asyncio.create_task(lookbacks.sessions(3 + at % 2)) for at in range(WAITING + 1)]

    async def all_wait() -> bool:
        return len(asyncio.all_tasks()) > WAITING + 2  # and the one that reads

    await until(all_wait)
    with pytest.raises(Refused) as refused:
        await lookbacks.sessions(5)
    assert (refused.value.slug, refused.value.status) == ("lookback-busy", 503)
    assert refused.value.retry_after
    store.gate.set()
    assert [len(found) for found in await asyncio.gather(*asking)] == [3, 4, 3, 4, 3]
    assert lookbacks.folds == 2
    assert len(await lookbacks.sessions(5)) == 5


async def test_what_is_kept_is_dropped_when_others_come_and_after_a_while() -> None:
    store = MemoryEventStore()
    await sessions(store, 5)
    lookbacks = Lookbacks(store, keep_seconds=0.05)
    for position in (1, 2, 1):
        await lookbacks.sessions(position)
    assert lookbacks.folds == 2
    for position in range(1, KEPT + 2):
        await lookbacks.sessions(position)
    assert lookbacks.folds == 3

    async def forgotten() -> bool:
        return not lookbacks._kept

    await until(forgotten)
    await lookbacks.sessions(1)
    assert lookbacks.folds == 4


async def test_one_who_leaves_makes_room() -> None:
    store = Gated()
    await sessions(store, 2)
    lookbacks = Lookbacks(store)
    store.gate.clear()
    asking = asyncio.create_task(lookbacks.sessions(1))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    store.gate.set()
    assert len(await asyncio.gather(*(lookbacks.sessions(2) for _ in range(WAITING + 1)))) == WAITING + 1


async def test_a_long_fold_lets_the_loop_turn() -> None:
    """Nobody waits for more than a step of it: after each, whoever is ready has a turn. No clock: machines stall."""
    store, steps, turns, done = MemoryEventStore(), list[int](), list[int](), asyncio.Event()
    await sessions(store, 3_000)

    def step(projection: Sessions, states: dict[str, SessionState], events: Sequence[RecordedEvent]) -> None:
        steps.append(len(events))
        fold(projection, states, events)

    async def turn() -> None:
        while not done.is_set():
            turns.append(len(steps))
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    with patch.object(asof, "fold", step):
        await asof.as_of(store, Sessions(), 3_000)
    done.set()
    await turning
    assert sum(steps) == 3_000 and max(steps) <= asof.STEP
    assert set(range(len(steps))) <= set(turns), "a step of it followed another without a turn between"
