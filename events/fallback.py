"""FallbackEventStore: wraps another EventStore and spools the facts of this process while that one is away.

Order: a unit that is appended after another one of this process was answered stands behind it in the log, spooled or
not. What other processes append meanwhile stands between; ``occurred_at`` tells when a fact happened.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from events.envelope import Fence, RecordedEvent, StreamWrite
from events.store import EventStore, Head, Outcome, StoreStatus


class FallbackEventStore:
    """An EventStore that also says what it holds back: ``pending``, ``on_spooled``, ``on_change``."""

    def __init__(self, inner: EventStore) -> None:
        self._inner = inner
        self._changed: list[Callable[[StoreStatus], None]] = []
        self._spooled: list[Callable[[], None]] = []

    @property
    def inner(self) -> EventStore:
        """The store that is wrapped."""
        return self._inner

    @property
    def log_id(self) -> UUID:
        return self._inner.log_id

    @property
    def status(self) -> StoreStatus:
        return self._inner.status

    @property
    def replayed(self) -> int:
        """How many writes have left ``pending`` since the process started: in the log, or refused by it."""
        return 0

    def pending(self, after: int = 0) -> tuple[StreamWrite, ...]:
        """What this process has spooled and the log has not yet, oldest first: the writes of every unit, in order.

        Writes are numbered from 1 as they are spooled, for as long as the process runs; those up to number ``after``
        are left out, so that a reader that has folded n of them asks for ``pending(after=n)``. The oldest one that is
        still pending has the number ``replayed + 1``. A write that leaves may be in the log for a moment before the
        tail shows it. Never the units of a dead process that was taken over: nobody here ever saw them.
        """
        return ()

    def on_spooled(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` after ``pending`` changed: grew, or shrank by a replay. It must be quick and must not raise."""
        self._spooled.append(hook)

    def on_change(self, hook: Callable[[StoreStatus], None]) -> None:
        """Call ``hook`` with the new status after the log went away (``available`` False) and after it is back and
        all that was spooled is in it (True). In turn, never twice the same. It must be quick and must not raise;
        what it wants to append it does in a task of its own."""
        self._changed.append(hook)

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        return await self._inner.append(*writes, fence=fence)

    async def head(self) -> Head:
        return await self._inner.head()

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        return await self._inner.read_stream(stream_id, after=after, limit=limit, backwards=backwards)

    async def read_log(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), stream_id: str | None = None
    ) -> list[RecordedEvent]:
        return await self._inner.read_log(after=after, limit=limit, types=types, stream_id=stream_id)

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        return await self._inner.find(event_id)

    async def position_at(self, moment: datetime) -> int:
        return await self._inner.position_at(moment)

    async def wait_beyond(self, position: int, timeout: float) -> None:
        await self._inner.wait_beyond(position, timeout)

    async def maintain(self) -> None:
        await self._inner.maintain()

    async def close(self) -> None:
        await self._inner.close()
