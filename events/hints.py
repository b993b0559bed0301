"""Hints that the log has grown: they make a reader quick and are never believed further than that.

Whoever may connect to the database may NOTIFY what he likes, and after a fail-over that lost events the last true hint
lies beyond the end. So a reader that was woken for nothing waits out its time: false hints cost two reads a poll.
"""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary


class Hints:
    """The highest position that anybody told of, and who waits for one beyond his own."""

    def __init__(self) -> None:
        self._told = 0
        self._count = 0
        self._grown = asyncio.Condition()
        self._ended = False
        # Where each reader was when a hint let it go, and how many there had been.
        self._let_go: WeakKeyDictionary[asyncio.Task[Any], tuple[int, int]] = WeakKeyDictionary()

    async def heard(self, payload: object) -> None:
        """A NOTIFY; what is no number says nothing."""
        try:
            await self.told(int(str(payload)))
        except ValueError:
            return

    async def told(self, position: int) -> None:
        self._told = max(self._told, position)
        self._count += 1
        await self._wake()

    async def wait_beyond(self, position: int, timeout: float) -> None:
        """Return when a position beyond was told, at the latest after ``timeout`` seconds.

        A task that comes back with the position that it was let go with has read and found nothing: it waits its time.
        """
        reader = asyncio.current_task()
        assert reader is not None
        where, count = self._let_go.pop(reader, (-1, 0))
        believing = where != position
        if not believing and count == self._count:
            self._told = min(self._told, position)  # nothing was told since: the log ends here
        try:
            async with asyncio.timeout(timeout), self._grown:
                await self._grown.wait_for(lambda: self._ended or (believing and self._told > position))
        except TimeoutError:
            return
        self._let_go[reader] = (position, self._count)

    async def end(self) -> None:
        """Let everybody go, now and later."""
        self._ended = True
        await self._wake()

    async def _wake(self) -> None:
        async with self._grown:
            self._grown.notify_all()
