"""What producers sent and what they were told: the notes that a log is held against afterwards.

Notes are plain values, one JSON line each, so that those of a process that was killed are as good as our own.
"""

import time
from uuid import UUID

import msgspec

from events.envelope import StreamWrite
from events.store import Appended, Conflict, Outcome, Spooled


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
