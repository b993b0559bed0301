"""Look: one figure of the log for whoever asks after its health, however often that is and however the log fares."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from events.errors import EventError
from events.store import EventStore

WAIT_SECONDS: Final = 0.05  # nobody waits longer; the question goes on for the next one who asks
HEAD_SECONDS: Final = 1.0
SIZE_SECONDS: Final = 60.0


class Look:
    """``ask`` is called at most every ``keep`` seconds, by one question at a time, and not while the log is away."""

    def __init__(self, store: EventStore, ask: Callable[[], Awaitable[int]], keep: float) -> None:
        self._store = store
        self._ask = ask
        self._keep = keep
        self._known: int | None = None
        self._known_until = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self.last: int | None = None  # what was answered last, however long ago

    async def now(self) -> int | None:
        """The figure, at most ``keep`` seconds old; None when the log does not answer, or not soon enough."""
        if not self._store.status.available:
            return None
        if self._asking is None and asyncio.get_running_loop().time() >= self._known_until:
            self._asking = asyncio.create_task(self._look(), name="health-look")
        asking = self._asking
        if asking is not None:
            await asyncio.wait({asking}, timeout=WAIT_SECONDS)
            if not asking.done():
                return None
            asking.result()
        return self._known

    async def _look(self) -> None:
        try:
            self._known = self.last = await self._ask()
        except EventError:
            self._known = None  # told as such; asked again after ``keep``
        finally:
            self._known_until = asyncio.get_running_loop().time() + self._keep
            self._asking = None


def size_text(size: int) -> str:
    """Bytes as Postgres tells sizes: ``25 MB``, in whole units of 1024, the next unit from ten of them on."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 10_240:
            return f"{size} {unit}"
        size = round(size / 1024)
    return f"{size} TB"
