"""Writer: gathers concurrent appends into one batch; one outcome to each caller.

A batch is what arrived during the last round trip, at most ``CAP`` events: no artificial delay. One half is made while
the server writes the other (at 256 producers a cap of 128 was faster than 256: measured 23.0k to 17.1k a second), so a
batch takes no more than half of those who write, unless they are few.
A batch whose answer was lost is sent again with the same ids before anything newer: of 387 calls cut after sending,
387 had been committed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from events.envelope import Fence, StreamWrite
from events.errors import StoreClosed, StoreUnavailable
from events.store import Outcome

CAP: Final = 128
FEW: Final = 16  # units that are not worth a second round trip
RETRY_FOR_SECONDS: Final = 6.0
RETRY_PAUSE_SECONDS: Final = 0.1


class Unit(msgspec.Struct, frozen=True):
    """What one append call writes, all or nothing."""

    writes: tuple[StreamWrite, ...]
    fence: Fence | None
    size: int = 0  # events in it, counted once

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "size", sum([len(write.events) for write in self.writes]))

    def __len__(self) -> int:
        return self.size


Send = Callable[[Sequence[Unit]], Awaitable[list[Outcome]]]


class Writer:
    """One task, one batch under way. ``send`` answers one outcome a unit or raises StoreUnavailable when unsure.

    ``retry_for``: seconds in which an unsure batch is sent again; 0 for a ``send`` that is never unsure.
    """

    def __init__(self, send: Send, *, retry_for: float | None = None) -> None:
        self._send = send
        self._retry_for = retry_for
        self._queue: deque[tuple[Unit, asyncio.Future[Outcome]]] = deque()
        self._under_way: list[tuple[Unit, asyncio.Future[Outcome]]] = []
        self._answered = 0  # units of the last batch: their callers write again while the next one is under way
        self._filled = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Units that wait."""
        return len(self._queue)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="event-writer")

    async def append(self, unit: Unit) -> Outcome:
        """The unit's outcome. A caller that is cancelled leaves the unit in the queue: it may be written or not."""
        if self._closing or self._task is None:
            raise StoreClosed("this log was closed")
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.append((unit, answer))
        self._filled.set()
        return await answer

    async def close(self) -> None:
        """Write what waits, then end. A close that is cancelled ends the writer at once."""
        self._closing = True
        self._filled.set()
        if self._task is not None:
            [ended] = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended

    async def _run(self) -> None:
        try:
            await self._write_what_comes()
        finally:  # cancelled, or broken: nobody waits for an answer that cannot come
            self._closing = True
            for _, answer in (*self._under_way, *self._queue):
                if not answer.done():
                    answer.set_exception(StoreUnavailable("the writer ended before this was answered"))

    async def _write_what_comes(self) -> None:
        while True:
            await self._filled.wait()
            if not self._queue:
                if self._closing:
                    return
                self._filled.clear()
                continue
            self._under_way = self._next_batch()
            await self._write(self._under_way)
            self._answered, self._under_way = len(self._under_way), []

    def _next_batch(self) -> list[tuple[Unit, asyncio.Future[Outcome]]]:
        batch: list[tuple[Unit, asyncio.Future[Outcome]]] = []
        room, most = CAP, max(FEW, (len(self._queue) + self._answered) // 2)
        while self._queue and len(batch) < most and (not batch or self._queue[0][0].size <= room):
            room -= self._queue[0][0].size
            batch.append(self._queue.popleft())
        return batch

    async def _write(self, batch: list[tuple[Unit, asyncio.Future[Outcome]]]) -> None:
        try:
            outcomes: Sequence[Outcome | Exception] = await self._send_surely([unit for unit, _ in batch])
        except StoreUnavailable as error:
            outcomes = [error] * len(batch)
        except Exception as error:
            # One unit broke the batch (nothing of it is written): each alone, so that only the guilty one fails.
            outcomes = [error] if len(batch) == 1 else await self._each_alone([unit for unit, _ in batch])
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            _tell(answer, outcome)
        if isinstance(outcomes[-1], StoreUnavailable) and not self._closing:
            self._refuse_who_waits(outcomes[-1])

    def _refuse_who_waits(self, error: StoreUnavailable) -> None:
        """Behind a log that is away each batch would wait as long again: the last of 10,000 units for ten minutes.

        Not at the end, where every batch has one try: what is refused then has nobody left to send it again.
        """
        while self._queue:
            _tell(self._queue.popleft()[1], error)

    async def _each_alone(self, units: Sequence[Unit]) -> list[Outcome | Exception]:
        outcomes: list[Outcome | Exception] = []
        for unit in units:
            try:
                outcomes += await self._send_surely([unit])
            except StoreUnavailable as error:  # for all that are left: each would wait as long again
                return outcomes + [error] * (len(units) - len(outcomes))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    async def _send_surely(self, units: Sequence[Unit]) -> list[Outcome]:
        retry_for = RETRY_FOR_SECONDS if self._retry_for is None else self._retry_for
        deadline = asyncio.get_running_loop().time() + retry_for
        while True:
            try:
                return await self._send(units)
            except StoreUnavailable:
                if self._closing or asyncio.get_running_loop().time() >= deadline:
                    raise
            await asyncio.sleep(RETRY_PAUSE_SECONDS)


def _tell(answer: asyncio.Future[Outcome], outcome: Outcome | Exception) -> None:
    if answer.done():
        return  # the caller left
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
