"""The log in memory: the real contract without durability. For tests, and the rules of ``jsonfile``."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from events.envelope import EventData, Fence, RecordedEvent, StreamWrite
from events.errors import StoreClosed
from events.store import (
    Appended,
    Conflict,
    Fenced,
    Head,
    Mismatch,
    Outcome,
    StoreStatus,
    check_unit,
    expected_number,
    type_matches,
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Known(msgspec.Struct, frozen=True):
    """Where an id stands: its position, and the unit that brought it."""

    position: int
    nth: int
    size: int


class MemoryEventStore:
    """An EventStore whose events end with the process."""

    def __init__(self, *, now: Callable[[], datetime] = _utc_now, log_id: UUID | None = None) -> None:
        self._log_id = log_id or uuid.uuid4()
        self._now = now
        self._log: list[RecordedEvent] = []
        self._streams: dict[str, list[RecordedEvent]] = {}
        self._known: dict[UUID, _Known] = {}
        self._epochs: dict[str, int] = {}
        self._grown = asyncio.Condition()
        self._closed = False

    @property
    def log_id(self) -> UUID:
        return self._log_id

    @property
    def status(self) -> StoreStatus:
        return StoreStatus(available=not self._closed)

    def set_epoch(self, lease: str, epoch: int) -> None:
        """Move a lease to its next holder: units fenced with an older epoch are refused from here on."""
        self._epochs[lease] = epoch

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        check_unit(writes)
        self._refuse_closed()
        outcome = self._decide(writes, fence) or self._write(writes)
        async with self._grown:
            self._grown.notify_all()
        return outcome

    def _decide(self, writes: Sequence[StreamWrite], fence: Fence | None) -> Outcome | None:
        """The outcome that needs no writing; the order of the rules is the one of ``append_batch`` in sql/."""
        ids = [event.event_id for write in writes for event in write.events]
        known = [self._known.get(event_id) for event_id in ids]
        if any(known):
            return self._repeated(ids, known)
        if fence is not None and self._epochs.get(fence.lease) != fence.epoch:
            return Fenced(fence.lease)
        for write in writes:
            expected, head = expected_number(write.expected_version), len(self._streams.get(write.stream_id, ()))
            if expected is not None and expected != head:
                return Conflict(write.stream_id, head)
        return None

    def _repeated(self, ids: Sequence[UUID], known: Sequence[_Known | None]) -> Outcome:
        first = known[0].position if known[0] else 0
        for nth, (event_id, found) in enumerate(zip(ids, known, strict=True), start=1):
            if found != _Known(first + nth - 1, nth, len(ids)):
                return Mismatch(event_id)
        versions = tuple(self._log[first + offset - 1].version for offset in range(len(ids)))
        return Appended(first, first + len(ids) - 1, versions, duplicate=True)

    def _write(self, writes: Sequence[StreamWrite]) -> Appended:
        size = sum(len(write.events) for write in writes)
        recorded_at = max([self._now(), *(event.recorded_at for event in self._log[-1:])])
        first = len(self._log) + 1
        for write in writes:
            for event in write.events:
                self._record(write.stream_id, event, recorded_at, size, len(self._log) + 2 - first)
        return Appended(first, len(self._log), tuple(event.version for event in self._log[first - 1 :]))

    def _record(self, stream_id: str, event: EventData, recorded_at: datetime, size: int, nth: int) -> None:
        stream = self._streams.setdefault(stream_id, [])
        recorded = RecordedEvent(
            log_id=self._log_id,
            stream_id=stream_id,
            version=len(stream) + 1,
            position=len(self._log) + 1,
            recorded_at=recorded_at,
            **msgspec.structs.asdict(event),
        )
        self._log.append(recorded)
        stream.append(recorded)
        self._known[event.event_id] = _Known(recorded.position, nth, size)

    async def head(self) -> Head:
        self._refuse_closed()
        return Head(len(self._log), self._log[-1].recorded_at if self._log else None)

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        self._refuse_closed()
        events = self._streams.get(stream_id, [])[after:]
        return events[::-1][:limit] if backwards else events[:limit]

    async def read_log(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), stream_id: str | None = None
    ) -> list[RecordedEvent]:
        self._refuse_closed()
        if not types and stream_id is None:
            return self._log[after : after + limit]
        wanted = (
            event
            for event in self._log[after:]
            if type_matches(event.type, types) and stream_id in (None, event.stream_id)
        )
        return [event for event, _ in zip(wanted, range(limit), strict=False)]

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        self._refuse_closed()
        known = self._known.get(event_id)
        return None if known is None else self._log[known.position - 1]

    async def position_at(self, moment: datetime) -> int:
        self._refuse_closed()
        return max((event.position for event in self._log if event.recorded_at <= moment), default=0)

    async def wait_beyond(self, position: int, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout), self._grown:
                await self._grown.wait_for(lambda: len(self._log) > position or self._closed)
        except TimeoutError:
            return

    async def maintain(self) -> None:
        """There is always room."""

    async def close(self) -> None:
        self._closed = True
        async with self._grown:
            self._grown.notify_all()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosed("this log was closed")
