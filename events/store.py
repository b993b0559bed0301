"""EventStore: the whole contract of the log on one screen. Backends keep it; ``tests/contracts`` holds them to it.

An append is a *unit*: one or more streams, all or nothing. What a writer must expect is answered as data (``Outcome``);
an exception means that nothing was acknowledged.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

import msgspec

from events.envelope import (
    MAX_PAYLOAD_BYTES,
    MAX_UNIT_EVENTS,
    STREAM_ID,
    EventData,
    Expect,
    ExpectedVersion,
    Fence,
    RecordedEvent,
    StreamWrite,
)
from events.errors import BadEvent, EventTooLarge

if TYPE_CHECKING:
    from events.filter import EventFilter, Found

_TYPE: Final = re.compile(r"\A[a-z_]{1,50}\.[a-z_]{1,50}\Z")
_MAX_SCHEMA_VERSION: Final = 32_767
_MAX_EPOCH: Final = 2**63 - 1
# The first and the last moment are what Postgres' drivers write for "infinitely long ago" and "for ever".
_INFINITE: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


class Appended(msgspec.Struct, frozen=True):
    """The unit is in the log, durable. ``duplicate``: it was already, and these are its first positions."""

    first_position: int
    position: int  # of its last event
    versions: tuple[int, ...]  # one an event, in the order of the unit
    duplicate: bool = False


class Conflict(msgspec.Struct, frozen=True):
    """An expected version was wrong; nothing was written. Load the stream again and decide again."""

    stream_id: str
    head: int  # the version that the stream is at


class Mismatch(msgspec.Struct, frozen=True):
    """Some ids are in the log, but not as this unit; nothing was written. A writer's mistake: never retry."""

    event_id: UUID


class Fenced(msgspec.Struct, frozen=True):
    """The lease has another holder now; nothing was written. Stop acting for it."""

    lease: str


class Spooled(msgspec.Struct, frozen=True):
    """The log is away; the unit is durable in this process's spool and enters the log, in order, when it is back.

    Answered only to unfenced units that expect nothing (every ``expected_version`` is ANY). There is no position yet.
    """


Outcome = Appended | Conflict | Mismatch | Fenced | Spooled


class Head(msgspec.Struct, frozen=True):
    """The end of the log. Position 0 and no event when it is empty."""

    position: int
    recorded_at: datetime | None = None


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows of itself without asking anyone."""

    available: bool = True  # the log took or answered the last call
    away_since: datetime | None = None
    spooled_units: int = 0  # durable in a spool, not in the log yet
    spooled_bytes: int = 0
    rejected_units: int = 0  # spooled, then refused by the log and kept in a file beside


class EventStore(Protocol):
    """An append-only log with gapless positions, safe for many tasks at once; no read shows a gap or another order.

    A read that cannot find anything finds nothing: of a stream, a type or a position that no event can have, or with
    a ``limit`` below 1. ``after`` below 0 is the beginning. Only a question without a meaning is refused, as BadEvent.
    """

    @property
    def log_id(self) -> UUID:
        """Which log this is; part of every event, cursor and checkpoint."""
        ...

    @property
    def status(self) -> StoreStatus:
        """For health and metrics; a plain store is as available as its last call."""
        ...

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        """Write one unit, durable when this returns. Retried by the caller with the same ids: ``duplicate``.

        A version that no stream can be at is a Conflict like any other that is wrong.

        Raises BadEvent, EventTooLarge (nothing was sent), StoreUnavailable (retry), StoreClosed.
        """
        ...

    async def head(self) -> Head: ...

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        """Events of a stream in order of version, those beyond version ``after``; backwards: the newest first."""
        ...

    async def read_log(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        types: Sequence[str] = (),
        stream_id: str | None = None,
    ) -> list[RecordedEvent]:
        """Events beyond position ``after`` in order of position; ``types``: a tag, or a family as ``session.*``."""
        ...

    async def search(
        self, wanted: "EventFilter", *, after: int = 0, until: int | None = None, limit: int = 100
    ) -> "Found":
        """Events beyond position ``after``, up to ``until`` (default: the head), that ``wanted`` matches, in order.

        One call looks at a bounded part of the log. It may therefore find fewer than there are, or nothing, and says
        how far it looked: ``Found.reached``, which is beyond ``after`` unless there is nothing more to look at.
        """
        ...

    async def find(self, event_id: UUID) -> RecordedEvent | None: ...

    async def position_at(self, moment: datetime) -> int:
        """The last position recorded at or before ``moment``; 0 when there is none. BadEvent when it has no zone."""
        ...

    async def wait_beyond(self, position: int, timeout: float) -> None:
        """Return when the log may have grown beyond ``position``, at the latest after ``timeout`` seconds."""
        ...

    async def maintain(self) -> None:
        """Keep room for what is still to come. Called now and then; cheap; any number of processes may."""
        ...

    async def index(self) -> int:
        """Bring what ``search`` goes by one bounded step nearer to the head; how many events are still to go.

        Called again and again; any number of processes may, and one works while the others are answered 0. Never
        needed for an answer to be right: a search reads what is not indexed.
        """
        ...

    async def close(self) -> None: ...


def check_unit(writes: Sequence[StreamWrite], fence: Fence | None = None) -> None:
    """Refuse, before anything is sent, what could break a batch that it shares with other writers' units."""
    if fence is not None and not (is_text(fence.lease) and 0 <= fence.epoch <= _MAX_EPOCH):
        raise BadEvent(f"no lease is named {fence.lease!r} and has the epoch {fence.epoch}")
    total = 0
    for write in writes:
        if not write.events:
            raise BadEvent("a unit needs at least one event in each of its streams")
        if not STREAM_ID.match(write.stream_id):
            raise BadEvent(f"{write.stream_id!r} is not the name of a stream")
        for event in write.events:
            _check_event(event)
        total += len(write.events)
    if not total:
        raise BadEvent("a unit needs at least one event")
    if total > MAX_UNIT_EVENTS:
        raise EventTooLarge(f"a unit of {total} events; {MAX_UNIT_EVENTS} are allowed")
    if total > 1:
        _check_distinct(writes, total)


def _check_distinct(writes: Sequence[StreamWrite], total: int) -> None:
    if len({write.stream_id for write in writes}) != len(writes):
        raise BadEvent("a stream stands twice in one unit")
    if len({event.event_id for write in writes for event in write.events}) != total:
        raise BadEvent("an event id stands twice in one unit")


def _check_event(event: EventData) -> None:
    """What a column would refuse, and what no leaf could be made of. The type may be of a later release."""
    if not _TYPE.match(event.type):
        raise BadEvent(f"{event.type!r} is not the name of an event type")
    if len(event.payload) > MAX_PAYLOAD_BYTES:
        raise EventTooLarge(
            f"the payload of {event.type} has {len(event.payload)} bytes; {MAX_PAYLOAD_BYTES} are allowed"
        )
    if not 1 <= event.schema_version <= _MAX_SCHEMA_VERSION:
        raise BadEvent(f"{event.type} cannot have the schema version {event.schema_version}")
    moment = event.occurred_at if event.occurred_at.tzinfo is UTC else in_utc(event.occurred_at)
    if moment in _INFINITE:
        raise BadEvent(f"the time of {event.type} is before the first year or after the last, in UTC")
    if event.trace_id is not None and len(event.trace_id) != 16:
        raise BadEvent(f"the trace id of {event.type} has {len(event.trace_id)} bytes, not 16")
    if event.span_id is not None and len(event.span_id) != 8:
        raise BadEvent(f"the span id of {event.type} has {len(event.span_id)} bytes, not 8")
    try:
        event.payload.decode()
        event.actor.decode()
    except UnicodeDecodeError as error:
        raise BadEvent(f"payload or actor of {event.type} is not UTF-8") from error
    if b"\0" in event.actor:
        raise BadEvent(f"the actor of {event.type} holds a NUL")


def in_utc(moment: datetime) -> datetime:
    """The same moment; the first or the last that there is for one before or after it. BadEvent when it has no zone."""
    if moment.utcoffset() is None:
        raise BadEvent(f"{moment} has no zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _INFINITE[moment.year > 1]


def is_text(name: str) -> bool:
    """Whether it is text that a database can hold: no NUL, no half of a surrogate pair."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def expected_number(expected: ExpectedVersion) -> int | None:
    """The version that must be the head: 0 for NEW, None for ANY."""
    match expected:
        case Expect.NEW:
            return 0
        case Expect.ANY:
            return None
        case int():
            return expected


def type_matches(event_type: str, types: Sequence[str]) -> bool:
    """True when no types are asked for, or one of them is this tag or its family (``session.*``)."""
    return not types or any(
        event_type.startswith(wanted[:-1]) if wanted.endswith(".*") else event_type == wanted for wanted in types
    )
