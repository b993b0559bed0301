"""Filter: which events of the log a reader asks for; every part that is given must hold.

``matches`` is the meaning. A store may find the same events faster, never others.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from events.envelope import RecordedEvent
from events.store import type_matches

SCAN: Final = 20_000  # positions that one search looks at, at most, where nothing but reading tells


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """``session_id``: of its stream, or naming it in the payload (containers, exchanges, seats, denials, reads)."""

    types: tuple[str, ...] = ()  # a tag, or a family as ``session.*``; any of them
    stream_id: str | None = None
    session_id: str | None = None
    actor: str | None = None  # a key id, or KIND:ID as ``gateway:g1``
    trace_id: bytes | None = None
    correlation_id: UUID | None = None
    causation_id: UUID | None = None

    def matches(self, event: RecordedEvent) -> bool:
        return (
            type_matches(event.type, self.types)
            and self.stream_id in (None, event.stream_id)
            and self.trace_id in (None, event.trace_id)
            and self.correlation_id in (None, event.correlation_id)
            and self.causation_id in (None, event.causation_id)
            and (self.actor is None or self.actor in names_of_actor(event.actor))
            and (self.session_id is None or self.session_id == session_of(event))
        )


class Found(msgspec.Struct, frozen=True):
    """``reached``: everything up to this position was looked at; a reader goes on beyond it."""

    events: list[RecordedEvent]
    reached: int


class _Subject(msgspec.Struct):
    session_id: str | None = None


class _Actor(msgspec.Struct):
    kind: str = ""
    id: str = ""
    key_id: str | None = None


_SUBJECT: Final = msgspec.json.Decoder(_Subject)
_ACTOR: Final = msgspec.json.Decoder(_Actor)
# Text that is no JSON, no UTF-8, or nested too deep: it concerns no session, and nobody is its actor.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def session_of(event: RecordedEvent) -> str | None:
    """The session that an event concerns: its stream's, else the one its payload names; of unknown types too."""
    if event.stream_id.startswith("session-"):
        return event.stream_id.removeprefix("session-")
    try:
        return _SUBJECT.decode(event.payload).session_id
    except _UNREADABLE:
        return None


def names_of_actor(actor: bytes) -> Sequence[str | None]:
    """The names under which an actor may be asked for: KIND:ID, and the id of its key."""
    try:
        known = _ACTOR.decode(actor)
    except _UNREADABLE:
        return ()
    return (f"{known.kind}:{known.id}", known.key_id)


def search(log: Sequence[RecordedEvent], wanted: EventFilter, after: int, until: int | None, limit: int) -> Found:
    """As ``EventStore.search``, in a log that is at hand: event number n stands at ``log[n - 1]``."""
    end = min(len(log), max(after, 0) + SCAN, len(log) if until is None else max(until, 0))
    found = list[RecordedEvent]()
    reached = max(after, 0)
    while reached < end and len(found) < limit:
        if wanted.matches(log[reached]):
            found.append(log[reached])
        reached += 1
    return Found(found, reached)
