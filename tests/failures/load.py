"""Producers under load: each appends units to a stream of its own and facts to shared ones, again with the same ids.

Every unit is noted before it is sent and when it is answered. A producer goes on only when its unit was acknowledged.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from events.envelope import ANY, NEW, StreamWrite
from events.errors import StoreUnavailable
from events.store import Conflict, EventStore, Outcome
from tests.factories import event, new_stream
from tests.failures.ledger import Ledger, Note, sent, told, tried

PRODUCERS: Final = 6
SECONDS: Final = 40.0  # for what takes a tenth of one when nothing is broken
RETRY_SECONDS: Final = 0.02  # a store that refuses at once is not asked in a tight loop
SHARED: Final = ("system", "keys")


class Load:
    """The producers of one process. ``contested``: a stream that other loads write to as well, versions checked."""

    def __init__(
        self,
        store: EventStore,
        *,
        name: str = "p",
        contested: str | None = None,
        tell: Callable[[Note], None] | None = None,
    ) -> None:
        self.ledger = Ledger()
        self._store = store
        self._name = name
        self._contested = contested
        self._tell = tell
        self._enough = False
        self._moved = asyncio.Condition()

    async def progress(self, units: int, *outcomes: str) -> None:
        """Wait until so many more units were answered, with one of ``outcomes`` if any are named."""
        kinds = outcomes or ("appended", "duplicate", "spooled")
        wanted = len(self.ledger.outcomes(*kinds)) + units
        await self._until(lambda: len(self.ledger.outcomes(*kinds)) >= wanted)

    async def refusals(self) -> None:
        """Wait until every producer was told StoreUnavailable once more."""
        before = len(self.ledger.tried)
        await self._until(lambda: len({one.name.partition("/")[0] for one in self.ledger.tried[before:]}) == PRODUCERS)

    def end(self) -> None:
        """Let each producer have its last unit acknowledged, and no other."""
        self._enough = True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(PRODUCERS):
                group.create_task(self._produce(f"{self._name}{number}"))

    async def _until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._moved:
            await self._moved.wait_for(met)

    async def _produce(self, producer: str) -> None:
        own, version, contested = new_stream(), 0, 0
        for number in itertools.count():
            if self._enough:
                return
            if self._contested and number % 4 == 3:
                outcome = await self._appended(producer, number, _write(self._contested, contested, 1))
                contested = outcome.head if isinstance(outcome, Conflict) else contested + 1
                continue
            writes = _writes(own, version, number)
            outcome = await self._appended(producer, number, *writes)
            assert not isinstance(outcome, Conflict), f"nobody else writes to {own}: {outcome}"
            version += sum(len(write.events) for write in writes if write.stream_id == own)

    async def _appended(self, producer: str, number: int, *writes: StreamWrite) -> Outcome:
        unit = sent(producer, number, writes)
        await self._note(unit)
        while True:
            begun = time.monotonic()
            try:
                outcome = await self._store.append(*writes)
            except StoreUnavailable:
                await self._note(tried(unit.name, begun))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await self._note(told(unit.name, outcome))
                return outcome

    async def _note(self, note: Note) -> None:
        self.ledger.note(note)
        if self._tell is not None:
            self._tell(note)
        async with self._moved:
            self._moved.notify_all()


@asynccontextmanager
async def loaded(store: EventStore, *, name: str = "p", contested: str | None = None) -> AsyncIterator[Load]:
    """A load that runs while the block does; what its producers have begun is acknowledged when this ends."""
    load = Load(store, name=name, contested=contested)
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
    shared = StreamWrite(SHARED[number % len(SHARED)], ANY, (event(),))
    match number % 3:
        case 0:
            return (_write(own, version, 1 + number % 2),)
        case 1:
            return (shared,)
        case _:
            return (_write(own, version, 2), shared)


def _write(stream_id: str, version: int, events: int) -> StreamWrite:
    return StreamWrite(stream_id, version or NEW, tuple(event() for _ in range(events)))
