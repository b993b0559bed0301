"""Marks: what a reader remembers of the log, so that it notices when the log is no longer the one that it has read.

A restored backup, and a server that lacked the last commits when it took over, have the same ``log_id`` and other
events at the same positions. A position alone is therefore no place; position, id and time of its event are. The time
tells an event from the same one sent again by its writer after the log had lost it.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from events.envelope import RecordedEvent
from events.errors import LogForked, StoreUnavailable
from events.store import EventStore

KEEP: Final = 4096


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One event at its position, as a reader saw it."""

    position: int
    event_id: UUID
    recorded_at: datetime

    @staticmethod
    def of(event: RecordedEvent) -> "Mark":
        return Mark(event.position, event.event_id, event.recorded_at)


class Marks:
    """The place of one reader: the last event it read and, to find where a log forked, some before it.

    Every one of the last ``keep``, and ever fewer the further back, at most twice ``keep`` in all.
    """

    def __init__(self, log_id: UUID, marks: Iterable[Mark] = (), *, after: int = 0, keep: int = KEEP) -> None:
        """``after``: the place of a reader that begins there and has seen no event yet."""
        self.log_id = log_id
        self.position = after
        self._keep = keep
        self._marks: list[Mark] = []
        for mark in marks:
            self.add(mark)

    @property
    def last(self) -> Mark | None:
        return self._marks[-1] if self._marks else None

    def add(self, mark: Mark) -> None:
        """The next one; marks come in order of position."""
        self._marks.append(mark)
        self.position = mark.position
        if len(self._marks) > 2 * self._keep:
            self._marks[: -self._keep] = self._marks[: -self._keep : 2]

    def __iter__(self) -> Iterator[Mark]:
        return iter(self._marks)

    def __len__(self) -> int:
        return len(self._marks)


async def verify(store: EventStore, marks: Marks) -> None:
    """Look whether the log still holds what was read. Raises LogForked, StoreUnavailable."""
    if store.log_id != marks.log_id:
        raise LogForked(
            f"the log is {store.log_id}, and what was read is {marks.log_id}",
            same_until=0,
            differs_from=1,
            known_until=marks.position,
        )
    if marks.last is not None and not await _holds(store, marks.last):
        raise await forked(store, marks)


async def forked(store: EventStore, marks: Marks) -> LogForked:
    """Where the log, whose event at the last mark is another one, stops to be what was read: found by bisection.

    Raises StoreUnavailable when it does not, after all: then two servers answer under one name.
    """
    known = list(marks)
    same, differs = 0, len(known)  # marks that hold; the first that is known not to
    while same < differs:
        probe = (same + differs) // 2
        if await _holds(store, known[probe]):
            same = probe + 1
        else:
            differs = probe
    if same == len(known):
        raise StoreUnavailable("the log answers now with its newest events and now without them")
    same_until = known[same - 1].position if same else 0
    differs_from = known[same].position
    at = f"at position {differs_from}" if differs_from == same_until + 1 else f"between {same_until} and {differs_from}"
    return LogForked(
        f"the log has forked {at}: what was read from there up to position {marks.position} is not in it any more",
        same_until=same_until,
        differs_from=differs_from,
        known_until=marks.position,
    )


async def _holds(store: EventStore, mark: Mark) -> bool:
    found = await store.read_log(after=mark.position - 1, limit=1)
    return [Mark.of(event) for event in found] == [mark]
