"""Notices: who tells the readers of other processes that the log has grown, and when.

A notification wakes every reader of every process and costs the server as much as two events. So a batch that another
follows at once may keep silent for a few milliseconds. It then owes a notice: the next one that tells pays it, and when
that is refused, appends nothing, fails, or never comes, a notification is sent by itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from events.errors import EventError

QUIET_SECONDS: Final = 0.005  # after a notification, in which a batch may keep silent
PATIENCE_SECONDS: Final = 0.01  # for another batch to tell of a silent one
AGAIN_SECONDS: Final = 0.5  # while the database does not answer


class Notices:
    """Of one writer, whose batches come one after the other. ``tell`` sends a notification by itself."""

    def __init__(self, tell: Callable[[], Awaitable[object]]) -> None:
        self._tell = tell
        self._told_at = float("-inf")  # of the loop's clock
        self._owed_since: float | None = None
        self._silent = 0  # batches that kept silent, ever
        self._paying: asyncio.Task[None] | None = None

    @property
    def owed(self) -> bool:
        """Whether there is something in the log that nobody was told of."""
        return self._owed_since is not None

    def tells(self, *, more: bool) -> bool:
        """Whether the batch that is about to be sent tells of itself. ``more``: another one waits already."""
        return not more or _now() >= self._told_at + QUIET_SECONDS

    def told(self) -> None:
        """A notification was committed, and so was everything before it."""
        self._told_at, self._owed_since = _now(), None

    def owe(self) -> None:
        """A batch was, or may have been, committed in silence."""
        self._silent += 1
        if self._owed_since is None:
            self._owed_since = _now()
        if self._paying is None or self._paying.done():
            self._paying = asyncio.create_task(self._pay(), name="log-notice")

    async def close(self) -> None:
        """Tell what is owed, once; then nothing more is sent."""
        if self._paying is not None:
            self._paying.cancel()
            await asyncio.gather(self._paying, return_exceptions=True)
        if self.owed:
            await self._tell_all()

    def end(self) -> None:
        """Send nothing more."""
        if self._paying is not None:
            self._paying.cancel()

    async def _pay(self) -> None:
        while self._owed_since is not None:
            early = self._owed_since + PATIENCE_SECONDS - _now()
            if early > 0:
                await asyncio.sleep(early)
            elif not await self._tell_all():
                await asyncio.sleep(AGAIN_SECONDS)

    async def _tell_all(self) -> bool:
        silent = self._silent
        try:
            await self._tell()
        except EventError:
            return False
        if self._silent == silent:  # else one came meanwhile that this may not have told of
            self._owed_since = None
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
