"""What producers sent and what they were told: the notes that a log is held against afterwards.

Notes are plain values, one JSON line each, so that those of a process that was killed are as good as our own.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import msgspec

from events.envelope import StreamWrite
from events.store import Appended, Conflict, Outcome, Spooled

SECONDS: Final = 40.0  # for what takes a tenth of one when nothing is broken
ACKNOWLEDGED: Final = ("appended", "duplicate", "spooled")


class Sent(msgspec.Struct, frozen=True, tag=True):
    """A unit that a producer is about to append, for the first time."""

    producer: str
    number: int  # in order, each producer's own
    events: tuple[tuple[str, UUID], ...]  # stream and id, in the order of the unit

    @property
    def name(self) -> str:
        return f"{self.producer}/{self.number}"


class Told(msgspec.Struct, frozen=True, tag=True):
    """How its last attempt was answered."""

    name: str
    outcome: str  # appended, duplicate, spooled, conflict
    first_position: int = 0
    position: int = 0
    versions: tuple[int, ...] = ()


class Tried(msgspec.Struct, frozen=True, tag=True):
    """An attempt that ended in StoreUnavailable."""

    name: str
    seconds: float


Note = Sent | Told | Tried


class Ledger(msgspec.Struct):
    """The notes of one process, sorted."""

    sent: dict[str, Sent] = msgspec.field(default_factory=dict)
    told: dict[str, Told] = msgspec.field(default_factory=dict)
    tried: list[Tried] = msgspec.field(default_factory=list)

    def note(self, note: Note) -> None:
        match note:
            case Sent():
                self.sent[note.name] = note
            case Told():
                self.told[note.name] = note
            case Tried():
                self.tried.append(note)

    def outcomes(self, *kinds: str) -> list[Told]:
        return [told for told in self.told.values() if told.outcome in kinds]


class Watched:
    """A ledger that is being written, for who waits until something stands in it."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._moved = asyncio.Condition()

    async def note(self, note: Note) -> None:
        self.ledger.note(note)
        async with self._moved:
            self._moved.notify_all()

    async def progress(self, units: int, *outcomes: str) -> None:
        """Wait until so many more units were answered, with one of ``outcomes`` if any are named."""
        kinds = outcomes or ACKNOWLEDGED
        wanted = len(self.ledger.outcomes(*kinds)) + units
        await self._until(lambda: len(self.ledger.outcomes(*kinds)) >= wanted)

    async def refusals(self, producers: int) -> None:
        """Wait until so many producers were told StoreUnavailable from now on."""
        before = len(self.ledger.tried)
        await self._until(lambda: len({one.name.partition("/")[0] for one in self.ledger.tried[before:]}) >= producers)

    async def _until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS), self._moved:
            await self._moved.wait_for(met)


def sent(producer: str, number: int, writes: tuple[StreamWrite, ...]) -> Sent:
    return Sent(producer, number, tuple((write.stream_id, one.event_id) for write in writes for one in write.events))


def told(name: str, outcome: Outcome) -> Told:
    """Raises AssertionError for what no honest log answers to these producers."""
    match outcome:
        case Appended():
            kind = "duplicate" if outcome.duplicate else "appended"
            return Told(name, kind, outcome.first_position, outcome.position, outcome.versions)
        case Spooled():
            return Told(name, "spooled")
        case Conflict():
            return Told(name, "conflict")
    raise AssertionError(f"{name} was answered {outcome}")


def tried(name: str, begun: float) -> Tried:
    return Tried(name, time.monotonic() - begun)
