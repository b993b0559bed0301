"""Listener: events as the views fold them, for one reader that waits for the next."""

import asyncio
from typing import Final

from events import codec
from events.catalogue import Payload
from events.envelope import RecordedEvent

LISTENER_QUEUE: Final = 1000

Folded = tuple[RecordedEvent, Payload | codec.Unknown]


class Listener:
    """``overrun`` when the reader was too slow, or the log has forked: it must start again."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Folded] = asyncio.Queue(LISTENER_QUEUE)
        self.overrun = False

    def tell(self, folded: Folded) -> None:
        try:
            self._queue.put_nowait(folded)
        except asyncio.QueueFull:
            self.overrun = True

    async def next(self, timeout: float) -> Folded | None:
        """The next event, or None after ``timeout`` seconds without one."""
        try:
            # Not wait_for: before Python 3.12 it loses the cancellation that comes together with an event.
            async with asyncio.timeout(timeout):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def batch(self, timeout: float) -> list[Folded]:
        """The next event with all that wait behind it; none after ``timeout`` seconds without one."""
        first = await self.next(timeout)
        batch = [] if first is None else [first]
        while not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch
