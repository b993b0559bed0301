"""Canonical bytes out, typed events in.

Canonical JSON here is RFC 8785 restricted to what events contain (objects with ASCII keys, strings, integers within
±(2^53 - 1), booleans, null, arrays): ``msgspec`` with sorted keys gives the same bytes, which a test compares with an
independent implementation. ``leaf_bytes`` is what a hash of the log covers; it can never change.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final, cast, get_args
from uuid import UUID

import msgspec

from events import upcasters
from events.catalogue import Payload
from events.envelope import MAX_PAYLOAD_BYTES, Actor, ActorKind, EventData, RecordedEvent
from events.errors import BadEvent, EventTooLarge, UnreadableEvent
from events.ids import uuid7
from events.registry import EVENT_TYPES, event_type, tag_of

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODE: Final = {tag: msgspec.json.Decoder(known.payload).decode for tag, known in EVENT_TYPES.items()}
_ACTOR: Final = msgspec.json.Decoder(Actor)
MAX_DEPTH: Final = 200  # of a payload; a fifth of what Python's stack holds
# Decoders and upcasters at bytes of any kind. Not MemoryError: that says nothing about the event.
_NO_PAYLOAD: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_MAX_INTEGER: Final = 2**53 - 1
_YEARS: Final = (1, 9999)  # in one of these a time of another zone may be none in UTC
_LONG_NUMBER: Final = re.compile(rb"[:,\[]-?\d{16}")  # may stand in a string: worth a look, which takes longer
_TIMES: Final = {
    tag: [
        field.name for field in msgspec.structs.fields(known.payload) if datetime in (field.type, *get_args(field.type))
    ]
    for tag, known in EVENT_TYPES.items()
}


class Unknown(msgspec.Struct, frozen=True):
    """An event of a type that this release does not know. Folds pass over it."""

    tag: str
    raw: bytes


class Unreadable(Unknown, frozen=True):
    """An event that no release of ours wrote: damaged, or written around the gateway. Folds pass over it just so.

    Whoever decides that tells of it (``gateway/unreadable.py``): nothing is passed over in silence.
    """

    problem: str


class UnreadableActor(Actor, frozen=True, kw_only=True):
    """Who acted cannot be read: nobody that we know."""

    raw: bytes


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event comes from: the request and the span it happened in, and the event that made it happen."""

    causation_id: UUID | None = None
    correlation_id: UUID | None = None
    trace_id: bytes | None = None
    span_id: bytes | None = None


NO_CAUSE: Final = Cause()


def canonical(value: object) -> bytes:
    """RFC 8785 bytes of a payload, an actor or any value made of the kinds named above."""
    return _ENCODER.encode(value)


def event(
    payload: Payload, *, actor: Actor, occurred_at: datetime, cause: Cause = NO_CAUSE, event_id: UUID | None = None
) -> EventData:
    """The event to write for ``payload``, its times turned into UTC.

    Raises EventTooLarge over 64 KiB, BadEvent for an unknown type, a time without a zone or beyond what UTC can name,
    text that is not Unicode, a number beyond ±(2^53 - 1) (RFC 8785 writes numbers as doubles).
    """
    tag = tag_of(payload)
    version = event_type(tag).schema_version
    try:
        body, who = canonical(_in_utc(tag, payload)), canonical(actor)
    except UnicodeEncodeError as error:
        raise BadEvent(f"{tag} holds text that is not Unicode: {error.reason}") from error
    if occurred_at.utcoffset() is None:
        raise BadEvent(f"the time of {tag} has no zone")
    if not _YEARS[0] < occurred_at.year < _YEARS[1]:
        _utc(tag, occurred_at)
    if _LONG_NUMBER.search(body) and not _is_exact(msgspec.json.decode(body)):
        raise BadEvent(f"{tag} holds a number beyond ±(2^53 - 1), which not every reader reads as it was written")
    if len(body) > MAX_PAYLOAD_BYTES:
        raise EventTooLarge(f"the payload of {tag} has {len(body)} bytes; {MAX_PAYLOAD_BYTES} are allowed")
    return EventData(
        event_id=event_id or uuid7(),
        type=tag,
        schema_version=version,
        payload=body,
        actor=who,
        causation_id=cause.causation_id,
        correlation_id=cause.correlation_id,
        trace_id=cause.trace_id,
        span_id=cause.span_id,
        occurred_at=occurred_at,
    )


def _is_exact(value: object) -> bool:
    """Whether every number in decoded JSON is one that a double holds, and no neighbour's (I-JSON, RFC 7493 2.2)."""
    match value:
        case int() | float():
            return abs(value) <= _MAX_INTEGER
        case dict():
            return all(map(_is_exact, value.values()))
        case list():
            return all(map(_is_exact, value))
    return True


def decode(recorded: RecordedEvent) -> Payload | Unknown:
    """The typed payload in its newest shape; ``Unknown`` for a type or version of a later release, ``Unreadable`` for
    bytes that are no such payload. Never raises, and answers the same wherever it is asked: every fold passes over the
    same events."""
    tag, version, raw = recorded.type, recorded.schema_version, recorded.payload
    known = EVENT_TYPES.get(tag)
    if known is None or version > known.schema_version:
        return Unknown(tag, raw)
    if len(raw) > 2 * MAX_DEPTH and is_deep(raw):
        return Unreadable(tag, raw, f"it is nested more than {MAX_DEPTH} deep")
    try:
        if version == known.schema_version:
            return cast(Payload, _DECODE[tag](raw))
        old = msgspec.json.decode(raw, type=dict)
        new = upcasters.upcast(tag, version, known.schema_version, old)
        return cast(Payload, msgspec.convert(new, known.payload))
    except _NO_PAYLOAD as error:
        return Unreadable(tag, raw, f"{type(error).__name__}: {error}")


def is_deep(raw: bytes) -> bool:
    """Whether JSON is nested beyond ``MAX_DEPTH``: how deep a reader gets else depends on where it is called."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def fields_of(raw: bytes) -> dict[str, Any] | None:
    """The fields of a payload or an actor of any release; None when it is no object of JSON. Never raises."""
    try:
        return None if is_deep(raw) else msgspec.json.decode(raw, type=dict[str, Any])
    except _NO_PAYLOAD:
        return None


def decode_actor(recorded: RecordedEvent) -> Actor:
    """Who acted; ``UnreadableActor`` for bytes that name no actor we know. Never raises."""
    try:
        if not is_deep(recorded.actor):
            return _ACTOR.decode(recorded.actor)
    except _NO_PAYLOAD:
        pass
    return UnreadableActor(kind=ActorKind.ANONYMOUS, id="unreadable", raw=recorded.actor)


def _in_utc(tag: str, payload: Payload) -> Payload:
    """One moment has one spelling; without a zone it would be none."""
    if not _TIMES[tag]:
        return payload
    moments = {name: moment for name in _TIMES[tag] if (moment := getattr(payload, name)) is not None}
    if any(moment.utcoffset() is None for moment in moments.values()):
        raise BadEvent(f"a time of {tag} has no zone")
    turned = {name: _utc(tag, moment) for name, moment in moments.items()}
    return msgspec.structs.replace(payload, **turned) if turned else payload


def _utc(tag: str, moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise BadEvent(f"a time of {tag} lies beyond the years 1 to 9999 in UTC") from error


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with six digits, always: ``2026-01-18T22:29:04.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def leaf_bytes(recorded: RecordedEvent) -> bytes:
    """The canonical bytes of a whole recorded event (leaf format 1).

    RFC 8785 JSON of every field. Payload and actor are carried as JSON *strings* of their exact bytes: nothing inside
    them can be mistaken for an envelope field, whatever was written into the table around the gateway. Raises
    UnreadableEvent when they are not UTF-8, which no release writes.
    """
    try:
        payload, actor = recorded.payload.decode(), recorded.actor.decode()
    except UnicodeDecodeError as error:
        raise UnreadableEvent(f"payload or actor at position {recorded.position} is not UTF-8") from error
    return canonical(
        {
            "leaf": 1,
            "log_id": str(recorded.log_id),
            "position": recorded.position,
            "stream_id": recorded.stream_id,
            "version": recorded.version,
            "event_id": str(recorded.event_id),
            "type": recorded.type,
            "schema_version": recorded.schema_version,
            "payload": payload,
            "actor": actor,
            "causation_id": _text(recorded.causation_id),
            "correlation_id": _text(recorded.correlation_id),
            "trace_id": _hex(recorded.trace_id),
            "span_id": _hex(recorded.span_id),
            "occurred_at": timestamp(recorded.occurred_at),
            "recorded_at": timestamp(recorded.recorded_at),
        }
    )


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
