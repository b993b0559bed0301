"""The log in memory: the real contract without durability. For tests; ``jsonfile`` adds the disk."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from events.envelope import Fence, RecordedEvent, StreamWrite
from events.errors import StoreClosed
from events.filter import EventFilter, Found, search
from events.ledger import Ledger, utc_now
from events.store import Head, Outcome, StoreStatus, check_unit, in_utc, type_matches


class MemoryEventStore:
    """An EventStore whose events end with the process."""

    def __init__(self, *, now: Callable[[], datetime] = utc_now, log_id: UUID | None = None) -> None:
        self.ledger = Ledger(log_id or uuid.uuid4(), now)
        self._grown = asyncio.Condition()
        self._closed = False

    @property
    def log_id(self) -> UUID:
        return self.ledger.log_id

    @property
    def status(self) -> StoreStatus:
        return StoreStatus(available=not self._closed)

    def set_epoch(self, lease: str, epoch: int) -> None:
        """Move a lease to its next holder: units fenced with an older epoch are refused from here on."""
        self.ledger.epochs[lease] = epoch

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        check_unit(writes, fence)
        self._refuse_closed()
        outcome = self.ledger.stage(writes, fence)
        await self._admit()
        return outcome

    async def _admit(self) -> None:
        self.ledger.admit()
        async with self._grown:
            self._grown.notify_all()

    async def head(self) -> Head:
        self._refuse_closed()
        log = self.ledger.log
        return Head(len(log), log[-1].recorded_at if log else None)

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        self._refuse_closed()
        events = self.ledger.streams.get(stream_id, [])[max(after, 0) :]
        return (events[::-1] if backwards else events)[: max(limit, 0)]

    async def read_log(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), stream_id: str | None = None
    ) -> list[RecordedEvent]:
        self._refuse_closed()
        log, after, limit = self.ledger.log, max(after, 0), max(limit, 0)
        if not types and stream_id is None:
            return log[after : after + limit]
        wanted = (
            event for event in log[after:] if type_matches(event.type, types) and stream_id in (None, event.stream_id)
        )
        return [event for event, _ in zip(wanted, range(limit), strict=False)]

    async def search(self, wanted: EventFilter, *, after: int = 0, until: int | None = None, limit: int = 100) -> Found:
        self._refuse_closed()
        return search(self.ledger.log, wanted, after, until, limit)

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        self._refuse_closed()
        known = self.ledger.known.get(event_id)
        return None if known is None else self.ledger.log[known.position - 1]

    async def position_at(self, moment: datetime) -> int:
        self._refuse_closed()
        return self.ledger.position_at(in_utc(moment))

    async def wait_beyond(self, position: int, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout), self._grown:
                await self._grown.wait_for(lambda: len(self.ledger.log) > position or self._closed)
        except TimeoutError:
            return

    async def maintain(self) -> None:
        """There is always room."""

    async def index(self) -> int:
        """A search reads what is at hand."""
        return 0

    async def close(self) -> None:
        self._closed = True
        async with self._grown:
            self._grown.notify_all()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosed("this log was closed")
