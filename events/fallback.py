"""FallbackEventStore: wraps another EventStore and spools the facts of this process while that one is away.

Order: a unit that is appended after another one of this process was answered stands behind it in the log, spooled or
not. What other processes append stands between; ``occurred_at`` tells when a fact happened. ``docs/decisions/0015``
says why the breaker opens and closes as it does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from events.breaker import Breaker
from events.envelope import Fence, RecordedEvent, StreamWrite
from events.errors import StoreClosed, StoreUnavailable
from events.filter import EventFilter, Found
from events.spool import Spool, spoolable
from events.store import EventStore, Head, Outcome, Spooled, StoreStatus, check_unit
from events.takeover import Takeover

# A close takes no longer than these together, and what is cut off each time: ten seconds.
REPLAY_SECONDS: Final = 3.0  # to bring what is spooled into the log
LOG_SECONDS: Final = 3.0  # until that is closed, be it frozen
SPOOL_SECONDS: Final = 1.0  # twice: until what it refused then is spooled, until the spool is closed
CUT_SECONDS: Final = 0.5
log = logging.getLogger("session_gateway.spool")
H = TypeVar("H")
T = TypeVar("T")


class FallbackEventStore:
    """An EventStore that also says what it holds back: ``pending``, ``on_spooled``, ``on_change``. Made by ``open``."""

    def __init__(self, inner: EventStore, spool: Spool, breaker: Breaker) -> None:
        self._inner = inner
        self._spool = spool
        self._breaker = breaker
        self._changed: list[Callable[[StoreStatus], None]] = []
        self._spooled: list[Callable[[], None]] = []
        self._closed = False
        self._log_closed = False  # or about to be
        self._under_way = 0
        self._nobody = asyncio.Event()  # no append is under way
        self._nobody.set()

    @classmethod
    async def open(cls, inner: EventStore, directory: Path, *, name: str, max_bytes: int) -> "FallbackEventStore":
        """``inner`` with a spool ``directory/NAME.spool.jsonl`` of at most ``max_bytes``; closes ``inner`` when closed.

        ``name`` is this process's alone. What dead processes left in the directory is taken over from now on.
        """
        spool = Spool(directory, name, inner.log_id, max_bytes)
        breaker = Breaker(inner, spool, Takeover(directory, inner))
        store = cls(inner, spool, breaker)
        spool.changed, breaker.changed = store._tell_spooled, store._tell_changed
        breaker.start()
        return store

    @property
    def inner(self) -> EventStore:
        """The store that is wrapped."""
        return self._inner

    @property
    def log_id(self) -> UUID:
        return self._inner.log_id

    @property
    def status(self) -> StoreStatus:
        return StoreStatus(
            available=self._breaker.away_since is None,
            away_since=self._breaker.away_since,
            spooled_units=self._spool.units,
            spooled_bytes=self._spool.size,
            rejected_units=self._breaker.rejected,
        )

    @property
    def replayed(self) -> int:
        """How many writes have left ``pending`` since the process started: in the log, or refused by it."""
        return self._spool.dropped

    def pending(self, after: int = 0) -> tuple[StreamWrite, ...]:
        """What this process has spooled and the log has not yet, oldest first: the writes of every unit, in order.

        Writes are numbered from 1 as they are spooled, for as long as the process runs; those up to number ``after``
        are left out, so that a reader that has folded n of them asks for ``pending(after=n)``. The oldest one that is
        still pending has the number ``replayed + 1``. A write that leaves is in the log before the tail has shown it.
        Never the units of a dead process that was taken over: nobody here ever saw them.
        """
        return self._spool.pending(after)

    def on_spooled(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` after ``pending`` changed: grew, or shrank by a replay. It must be quick and must not raise."""
        self._spooled.append(hook)

    def on_change(self, hook: Callable[[StoreStatus], None]) -> None:
        """Call ``hook`` with the new status after the log went away (``available`` False) and after it is back and
        all that was spooled is in it (True). In turn, never twice the same. It must be quick and must not raise;
        what it wants to append it does in a task of its own."""
        self._changed.append(hook)

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        """While the log is away: ``Spooled`` for what is true in any order, else StoreUnavailable, both at once.

        The append that finds out waits as long as the wrapped store tries. Ids stay: what had arrived after all is
        known to the log when it is replayed. One that is under way when the store is closed is answered as ever.
        """
        self._refuse_closed()
        self._under_way += 1
        self._nobody.clear()
        try:
            return await self._append(writes, fence)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._nobody.set()

    async def _append(self, writes: Sequence[StreamWrite], fence: Fence | None) -> Outcome:
        while await self._direct():
            try:
                return await self._inner.append(*writes, fence=fence)
            except (StoreUnavailable, StoreClosed) as error:
                if self._closed and spoolable(writes, fence):
                    break  # nobody looks any more whether the log is back
                if isinstance(error, StoreUnavailable) and not self._closed:
                    self._breaker.trip(str(error))
                if isinstance(error, StoreClosed) or not spoolable(writes, fence):
                    raise
        check_unit(writes)
        if not spoolable(writes, fence):
            self._refuse_closed()
            raise StoreUnavailable(f"the log is away since {self._breaker.away_since}: only facts are taken")
        await self._spool.append(tuple(writes))
        return Spooled()

    async def _direct(self) -> bool:
        """Whether an append goes to the log now. No wait between this answer and what is done about it."""
        await self._breaker.passage()
        return self._breaker.away_since is None and not self._log_closed

    async def head(self) -> Head:
        return await self._asked(lambda: self._inner.head())

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        return await self._asked(
            lambda: self._inner.read_stream(stream_id, after=after, limit=limit, backwards=backwards)
        )

    async def read_log(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), stream_id: str | None = None
    ) -> list[RecordedEvent]:
        return await self._asked(
            lambda: self._inner.read_log(after=after, limit=limit, types=types, stream_id=stream_id)
        )

    async def search(self, wanted: EventFilter, *, after: int = 0, until: int | None = None, limit: int = 100) -> Found:
        return await self._asked(lambda: self._inner.search(wanted, after=after, until=until, limit=limit))

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        return await self._asked(lambda: self._inner.find(event_id))

    async def position_at(self, moment: datetime) -> int:
        return await self._asked(lambda: self._inner.position_at(moment))

    async def wait_beyond(self, position: int, timeout: float) -> None:
        await self._inner.wait_beyond(position, timeout)

    async def maintain(self) -> None:
        await self._asked(lambda: self._inner.maintain())

    async def index(self) -> int:
        return await self._asked(lambda: self._inner.index())

    async def close(self) -> None:
        """Bring what is spooled into the log if that answers; else the file is left to the next process.

        Facts under way that the log does not take any more are spooled. Takes ten seconds at most, frozen log or not.
        """
        if self._closed:
            return
        self._closed = True
        try:
            await self._breaker.close(REPLAY_SECONDS)
            self._log_closed = True
            await _within(LOG_SECONDS, self._inner.close())  # one that is cut off refuses what it has not written
        finally:
            await _within(SPOOL_SECONDS, self._nobody.wait())
            await _within(SPOOL_SECONDS, self._spool.close())
            self._tell_what_waits()

    def _tell_what_waits(self) -> None:
        if self._spool.units:
            log.warning(
                "%d units wait in %s: the next process that starts here brings them into the log",
                self._spool.units,
                self._spool.path,
            )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosed("this log was closed")

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A read that failed may be its own fault (a slow query), so a probe decides whether the log is away."""
        self._refuse_closed()
        if not self._breaker.readable:
            raise StoreUnavailable(f"the log is away since {self._breaker.away_since}")
        try:
            return await ask()
        except StoreUnavailable:
            self._breaker.doubt()
            raise

    def _tell_changed(self) -> None:
        status = self.status
        self._tell(lambda hook: hook(status), self._changed)

    def _tell_spooled(self) -> None:
        self._tell(lambda hook: hook(), self._spooled)

    def _tell(self, call: Callable[[H], None], hooks: Sequence[H]) -> None:
        """Whoever listens must not cost an append its answer."""
        for hook in hooks:
            try:
                call(hook)
            except Exception:
                log.exception("a hook of the spool failed")


async def _within(seconds: float, work: Coroutine[Any, Any, object]) -> None:
    """Do it for so long at most, then cut it off. Raises what it raises."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CUT_SECONDS)
    if task.done() and not task.cancelled():
        task.result()
