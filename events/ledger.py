"""Ledger: the events of a log in memory, and the rules by which a unit enters it.

What ``append_batch`` in sql/ is to Postgres, this is to the stores that have none. Units are *staged* one after
another, each decided against the log and those staged before it; nobody sees them until they are admitted, which
``jsonfile`` does once they are on the disk.
"""

import bisect
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from events.envelope import EventData, Fence, RecordedEvent, StreamWrite
from events.store import Appended, Conflict, Fenced, Mismatch, Outcome, expected_number


def utc_now() -> datetime:
    return datetime.now(UTC)


class Known(msgspec.Struct, frozen=True):
    """Where an id stands: its position, and its place in the unit that brought it."""

    position: int
    nth: int
    size: int


class Ledger:
    """One writer stages; whoever reads takes ``log`` and ``streams``, where only admitted events stand."""

    def __init__(self, log_id: UUID, now: Callable[[], datetime] = utc_now) -> None:
        self.log_id = log_id
        self.log: list[RecordedEvent] = []
        self.streams: dict[str, list[RecordedEvent]] = {}
        self.known: dict[UUID, Known] = {}
        self.epochs: dict[str, int] = {}
        self._now = now
        self._staged: list[RecordedEvent] = []
        self._staged_heads: dict[str, int] = {}
        self._staged_ids: dict[UUID, Known] = {}

    def stage(self, writes: Sequence[StreamWrite], fence: Fence | None) -> Outcome:
        """The unit's outcome, true once it is admitted. The order of the rules is the one of ``append_batch``."""
        ids = [event.event_id for write in writes for event in write.events]
        known = [self._staged_ids.get(event_id) or self.known.get(event_id) for event_id in ids]
        if any(known):
            return self._repeated(ids, known)
        if fence is not None and self.epochs.get(fence.lease) != fence.epoch:
            return Fenced(fence.lease)
        for write in writes:
            expected, head = expected_number(write.expected_version), self._head(write.stream_id)
            if expected is not None and expected != head:
                return Conflict(write.stream_id, head)
        return self.record(writes, max([self._now(), *(event.recorded_at for event in self._last())]))

    def record(self, writes: Sequence[StreamWrite], recorded_at: datetime) -> Appended:
        """Stage a unit that was decided before, as it was."""
        size, first = sum(len(write.events) for write in writes), self._next_position()
        versions = tuple(
            self._record(write.stream_id, event, recorded_at, Known(first + nth, nth + 1, size))
            for nth, (write, event) in enumerate((write, event) for write in writes for event in write.events)
        )
        return Appended(first, first + size - 1, versions)

    def admit(self) -> None:
        """What was staged is in the log."""
        self.log += self._staged
        for event in self._staged:
            self.streams.setdefault(event.stream_id, []).append(event)
        self.known |= self._staged_ids
        self.drop()

    def drop(self) -> None:
        """What was staged has never been."""
        self._staged, self._staged_heads, self._staged_ids = [], {}, {}

    def position_at(self, moment: datetime) -> int:
        return bisect.bisect_right(self.log, moment, key=lambda event: event.recorded_at)

    def _repeated(self, ids: Sequence[UUID], known: Sequence[Known | None]) -> Outcome:
        first = known[0].position if known[0] else 0
        for nth, (event_id, found) in enumerate(zip(ids, known, strict=True), start=1):
            if found != Known(first + nth - 1, nth, len(ids)):
                return Mismatch(event_id)
        versions = tuple(self.at(first + offset).version for offset in range(len(ids)))
        return Appended(first, first + len(ids) - 1, versions, duplicate=True)

    def _record(self, stream_id: str, event: EventData, recorded_at: datetime, place: Known) -> int:
        version = self._head(stream_id) + 1
        self._staged.append(
            RecordedEvent(
                log_id=self.log_id,
                stream_id=stream_id,
                version=version,
                position=place.position,
                recorded_at=recorded_at,
                **msgspec.structs.asdict(event),
            )
        )
        self._staged_heads[stream_id] = version
        self._staged_ids[event.event_id] = place
        return version

    def _head(self, stream_id: str) -> int:
        return self._staged_heads.get(stream_id) or len(self.streams.get(stream_id, ()))

    def at(self, position: int) -> RecordedEvent:
        """The event there, staged or admitted."""
        beyond = position - len(self.log)
        return self._staged[beyond - 1] if beyond > 0 else self.log[position - 1]

    def _last(self) -> list[RecordedEvent]:
        return self._staged[-1:] or self.log[-1:]

    def _next_position(self) -> int:
        return len(self.log) + len(self._staged) + 1
