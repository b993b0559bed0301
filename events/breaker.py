"""Breaker: whether the log is away, and how this process comes back to it.

One task looks: at a log that is away or in doubt, and for what dead processes left. When the log answers again, what
was spooled is replayed before anything newer goes to it directly.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from events.errors import StoreUnavailable
from events.rejected import Rejected
from events.spool import Spool, replay
from events.store import EventStore, Head
from events.takeover import Takeover

PROBE_SECONDS: Final = 0.5  # between two looks at a log that is away
PROBE_LIMIT_SECONDS: Final = 1.0  # what answers later is away
REST_SECONDS: Final = 0.1  # between any two looks, whatever calls for one: failed reads can come by the thousand
TAKEOVER_SECONDS: Final = 5.0  # between two looks for what dead processes left
# While appends are spooled behind the units that are replayed, these can never be the last. So appends wait while the
# last ones are replayed, and from the third round on: they come as fast as the log takes them.
LAST_UNITS: Final = 512
ROUNDS: Final = 2
_CUT_SECONDS: Final = 0.5
_NOT_NOW: Final = "what is spooled cannot be replayed now"
log = logging.getLogger("session_gateway.spool")


class Breaker:
    """Closed (``away_since`` is None) or open. ``changed`` is called after it opened and after it closed."""

    def __init__(self, inner: EventStore, spool: Spool, takeover: Takeover) -> None:
        self.away_since: datetime | None = None
        self.readable = True  # the last probe was answered: a log may answer and not take anything, as on a full disk
        self.changed: Callable[[], None] = lambda: None
        self._inner = inner
        self._spool = spool
        self._takeover = takeover
        self._refused = Rejected(spool.path, inner.log_id)
        self._doubted = False
        self._gate = asyncio.Event()
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._complaint = ""
        self._probe: asyncio.Task[Head] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._gate.set()

    @property
    def rejected(self) -> int:
        """Units that the log refused at a replay."""
        return self._refused.count + self._takeover.rejected

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name="spool-keeper")

    def trip(self, reason: str) -> None:
        """Open: an append was not taken."""
        if self.away_since is None:
            self._wake.set()
            self._open(reason)

    def _open(self, reason: str) -> None:
        if self.away_since is None:
            self.away_since = datetime.now(UTC)
            log.warning("the log is away, facts are spooled in %s: %s", self._spool.path, reason)
            self.changed()

    def doubt(self) -> None:
        """Probe now: a read was not answered."""
        if self.away_since is None:
            self._doubted = True
            self._wake.set()

    async def passage(self) -> None:
        """Wait while the last units are replayed."""
        while not self._gate.is_set():
            await self._gate.wait()

    async def close(self, seconds: float) -> None:
        """Look once more, for so long at most, and half a second to be cut off."""
        self._closing.set()
        self._wake.set()
        if self._keeper is not None:
            await asyncio.wait({self._keeper}, timeout=seconds)
        if tasks := [task for task in (self._keeper, self._probe) if task is not None]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_CUT_SECONDS)

    async def _keep(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._wake.clear()
            try:
                await self._look(closing)
            except StoreUnavailable as error:  # the log's alone: what a disk refuses here is kept back, not raised
                self._open(str(error))
                self._complain(_NOT_NOW, error)
            except Exception as error:
                self._complain(_NOT_NOW, error)
            if closing:
                return
            await self._pause()

    async def _pause(self) -> None:
        await _set_within(self._closing, min(REST_SECONDS, PROBE_SECONDS))
        await _set_within(self._wake, TAKEOVER_SECONDS if self.away_since is None else PROBE_SECONDS)

    def _complain(self, what: str, error: Exception) -> None:
        """Once, not at each look."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            unexpected = None if isinstance(error, StoreUnavailable | OSError) else error
            log.error("%s: %s", what, error, exc_info=unexpected)

    async def _look(self, closing: bool) -> None:
        if self.away_since is not None or self._doubted:
            self._doubted = False
            self.readable = await self._answers()
            if not self.readable:
                self._open("it does not answer")
                return
            if self.away_since is not None:
                await self._come_back()
        elif self._spool.size:
            await self._clear_later()
        if not closing:
            await self._takeover.run_once()

    async def _answers(self) -> bool:
        """One probe at a time: one that hangs is asked again, not joined by others."""
        self._probe = self._probe or asyncio.create_task(self._inner.head(), name="spool-probe")
        done, _ = await asyncio.wait({self._probe}, timeout=PROBE_LIMIT_SECONDS)
        if not done:
            return False
        probe, self._probe = self._probe, None
        if (error := probe.exception()) is not None and not isinstance(error, StoreUnavailable):
            raise error
        return error is None

    async def _come_back(self) -> None:
        """Replay all, then close. Raises what keeps the log away."""
        await self._spool.first()
        await self._replay(min(1, self._spool.units))  # a full disk reads but takes nothing: nobody waits for that
        for _ in range(ROUNDS):
            if self._spool.units > LAST_UNITS:
                await self._replay(self._spool.units)
        self._gate.clear()
        try:
            while self._spool.busy or self._spool.units:
                await self._spool.settle()
                await self._replay(self._spool.units)
            self._complaint = ""
            await self._clear()
            self.away_since = None  # nobody was let in since the spool was found empty
        finally:
            self._gate.set()
        log.info("the log is back, and what was spooled is in it")
        self.changed()

    async def _replay(self, count: int) -> None:
        """The oldest ``count`` units, and what shares their last batch."""
        while count > 0:
            replayed = await replay(self._inner, self._spool.next_batch(), self._refused.put)
            self._spool.drop(replayed.units)
            count -= replayed.units
            if replayed.error is not None:
                raise replayed.error

    async def _clear(self) -> None:
        """Delete the file of the spool, which is empty, nobody let in.

        It stays while a refused unit could not be put aside, or it cannot be deleted: both say nothing of the log.
        What is spooled meanwhile is written behind what it holds; a replay of all that is known by its ids.
        """
        try:
            if await self._refused.settle():
                await self._spool.empty()
        except OSError as error:
            self._complain(f"{self._spool.path} is in the log and cannot be removed now", error)
        finally:
            await self._refused.close()

    async def _clear_later(self) -> None:
        self._gate.clear()
        try:
            if not (self._spool.busy or self._spool.units):
                await self._clear()
        finally:
            self._gate.set()


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
