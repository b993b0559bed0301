"""Producers under load. Every unit is noted before it is sent and when it is answered.

Deciders append to a stream of their own, version checked, and facts to shared ones; observers append facts alone. Each
goes on only when its unit was acknowledged, and until then sends it again with the same ids.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from events.envelope import ANY, NEW, StreamWrite
from events.errors import StoreUnavailable
from events.store import Appended, Conflict, EventStore, Outcome, Spooled
from tests.factories import event, new_stream
from tests.failures.ledger import SECONDS, Watched, sent, told, tried

DECIDERS: Final = 4
OBSERVERS: Final = 3
PRODUCERS: Final = DECIDERS + OBSERVERS
# A store that refuses or spools is not asked in a tight loop: what counts during an outage is that it is asked.
AWAY_SECONDS: Final = 0.02
SHARED: Final = ("system", "keys")


class Load(Watched):
    """The producers of one process. ``contested``: a stream that other loads write to as well, versions checked."""

    def __init__(self, store: EventStore, *, name: str = "p", contested: str | None = None) -> None:
        super().__init__()
        self._store = store
        self._name = name
        self._contested = contested
        self._enough = False

    def end(self) -> None:
        """Let each producer have its last unit acknowledged, and no other."""
        self._enough = True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(DECIDERS):
                group.create_task(self._decide(f"{self._name}-decider-{number}"))
            for number in range(OBSERVERS):
                group.create_task(self._observe(f"{self._name}-observer-{number}"))

    async def _observe(self, producer: str) -> None:
        own, numbers = new_stream(), itertools.count()
        while not self._enough:
            number = next(numbers)
            writes = [_fact(stream_id) for stream_id in (own, SHARED[number % len(SHARED)])[: 1 + number % 2]]
            outcome = await self._appended(producer, number, *writes)
            assert isinstance(outcome, Appended | Spooled), f"facts are true in any order: {outcome}"
            if isinstance(outcome, Spooled):
                await asyncio.sleep(AWAY_SECONDS)

    async def _decide(self, producer: str) -> None:
        own, version, contested = new_stream(), 0, 0
        numbers = itertools.count()
        while not self._enough:
            number = next(numbers)
            writes = _writes(own, version, number)
            outcome = await self._appended(producer, number, *writes)
            assert not isinstance(outcome, Conflict), f"nobody else writes to {own}: {outcome}"
            version += sum(len(write.events) for write in writes if write.stream_id == own)
            if self._contested and number % 4 == 0:
                contested = await self._contend(producer, numbers, self._contested, contested)

    async def _contend(self, producer: str, numbers: Iterator[int], stream_id: str, version: int) -> int:
        """Decide anew at each conflict, as a command does: another unit, at the version that was told."""
        while True:
            outcome = await self._appended(producer, next(numbers), _write(stream_id, version, 1))
            if not isinstance(outcome, Conflict):
                return version + 1
            version = outcome.head

    async def _appended(self, producer: str, number: int, *writes: StreamWrite) -> Outcome:
        unit = sent(producer, number, writes)
        await self.note(unit)
        while True:
            begun = time.monotonic()
            try:
                outcome = await self._store.append(*writes)
            except StoreUnavailable:
                await self.note(tried(unit.name, begun))
                await asyncio.sleep(AWAY_SECONDS)
            else:
                await self.note(told(unit.name, outcome))
                return outcome


@asynccontextmanager
async def loaded(store: EventStore) -> AsyncIterator[Load]:
    """A load that runs while the block does; what its producers have begun is acknowledged when this ends."""
    load = Load(store)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(load.run())
        try:
            yield load
            load.end()
            async with asyncio.timeout(SECONDS):
                await running
        finally:
            running.cancel()


def _writes(own: str, version: int, number: int) -> tuple[StreamWrite, ...]:
    """By turns: up to three events of one's own, a fact of everybody's, and both in one unit."""
    shared = _fact(SHARED[number % len(SHARED)])
    match number % 3:
        case 0:
            return (_write(own, version, 1 + number % 2),)
        case 1:
            return (shared,)
        case _:
            return (_write(own, version, 2), shared)


def _write(stream_id: str, version: int, events: int) -> StreamWrite:
    return StreamWrite(stream_id, version or NEW, tuple(event() for _ in range(events)))


def _fact(stream_id: str) -> StreamWrite:
    return StreamWrite(stream_id, ANY, (event(),))
