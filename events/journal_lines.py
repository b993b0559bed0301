"""The lines of a journal: JSON, numbered, each with a checksum; and a unit as one of them.

A line is ``{"seq":7,"entry":{...},"sha256":"..."}``: the sum covers every byte before ``,"sha256"``, so ``sha256sum``
can check it. Line 1 has the number 0 and carries the header. Payload and actor are JSON *strings*: byte for byte.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

from events.envelope import ANY, NEW, EventData, ExpectedVersion, StreamWrite
from events.errors import BadEvent, JournalDamaged

FORMAT: Final = "1"
_ENCODER: Final = msgspec.json.Encoder()
_TAIL: Final = len(',"sha256":""}') + 64
_EXPECTATIONS: Final[Mapping[str, ExpectedVersion]] = {"any": ANY, "new": NEW}


class Line(msgspec.Struct, frozen=True):
    """A good line. ``entry`` is JSON that the journal does not look into."""

    seq: int
    entry: msgspec.Raw


_LINE: Final = msgspec.json.Decoder(Line)
_HEADER: Final = msgspec.json.Decoder(dict[str, str])


def encode_line(seq: int, entry: object) -> bytes:
    """The line for anything that msgspec can encode, its end included."""
    body = b'{"seq":%d,"entry":%s' % (seq, _ENCODER.encode(entry))
    return b'%s,"sha256":"%s"}\n' % (body, hashlib.sha256(body).hexdigest().encode())


def decode_line(line: bytes) -> Line | None:
    """The line without its end; None when it is not what ``encode_line`` made."""
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if tail != b',"sha256":"%s"}' % hashlib.sha256(body).hexdigest().encode():
        return None
    return _LINE.decode(line)


def encode_header(header: Mapping[str, str]) -> bytes:
    return encode_line(0, {**header, "format": FORMAT})


def decode_header(line: Line) -> dict[str, str]:
    """What the first line says. Raises JournalDamaged when it is no header, or one of a later release."""
    try:
        header = _HEADER.decode(line.entry)
    except msgspec.DecodeError as error:
        raise JournalDamaged("its first line is not the header of a journal") from error
    if line.seq != 0 or header.pop("format", "") != FORMAT:
        raise JournalDamaged("its first line is not the header of a journal that this release can read")
    return header


def is_torn_header(content: bytes, header: Mapping[str, str]) -> bool:
    """Whether a file without one whole line can be the beginning of a journal to which nothing was ever added.

    Not somebody's document; and nothing longer than its header, which is durable before anything is acknowledged: a
    file of zeros can be what became of a journal.
    """
    begin, written = b'{"seq":0,"entry":', content.strip(b"\0")
    return len(content) < len(encode_header(header)) and written[: len(begin)] == begin[: len(written)]


def lost_its_end(torn: bytes) -> bool:
    """Whether an end without a line feed is a whole line whose line feed became something else: damage, and somebody
    was told of it. A zero can be a block that was never written."""
    return torn[-1:] != b"\0" and decode_line(torn[:-1]) is not None


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """EventData as JSON."""

    event_id: UUID
    type: str
    schema_version: int
    payload: str
    actor: str
    causation_id: UUID | None = None
    correlation_id: UUID | None = None
    trace_id: str | None = None
    span_id: str | None = None
    occurred_at: datetime


class _Write(msgspec.Struct, frozen=True):
    stream_id: str
    expected_version: int | Literal["any", "new"]
    events: tuple[_Event, ...]


class UnitEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A unit as the entry of a line. ``extra`` is the caller's own: positions, times, whatever he must find again."""

    writes: tuple[_Write, ...]
    extra: dict[str, int | str] = {}


_UNIT: Final = msgspec.json.Decoder(UnitEntry)


def encode_unit(writes: Sequence[StreamWrite], extra: Mapping[str, int | str] | None = None) -> UnitEntry:
    """The entry for a unit that ``check_unit`` let pass. Raises BadEvent for bytes that are no UTF-8."""
    return UnitEntry(tuple(_write(write) for write in writes), dict(extra or {}))


def decode_unit(entry: msgspec.Raw) -> tuple[tuple[StreamWrite, ...], dict[str, int | str]]:
    """The unit and its ``extra``, equal to what was encoded. Raises JournalDamaged when the entry is no unit."""
    try:
        unit = _UNIT.decode(entry)
        return tuple(_read(write) for write in unit.writes), unit.extra
    except (msgspec.DecodeError, ValueError) as error:
        raise JournalDamaged(f"a line of it is not a unit: {error}") from error


def _write(write: StreamWrite) -> _Write:
    expected = write.expected_version
    return _Write(
        write.stream_id,
        expected if isinstance(expected, int) else _word(expected),
        tuple(_event(event) for event in write.events),
    )


def _word(expected: ExpectedVersion) -> Literal["any", "new"]:
    return "any" if expected is ANY else "new"


def _read(write: _Write) -> StreamWrite:
    expected = write.expected_version
    return StreamWrite(
        write.stream_id,
        expected if isinstance(expected, int) else _EXPECTATIONS[expected],
        tuple(_event_data(event) for event in write.events),
    )


def _event(event: EventData) -> _Event:
    try:
        return _Event(
            event_id=event.event_id,
            type=event.type,
            schema_version=event.schema_version,
            payload=event.payload.decode(),
            actor=event.actor.decode(),
            causation_id=event.causation_id,
            correlation_id=event.correlation_id,
            trace_id=None if event.trace_id is None else event.trace_id.hex(),
            span_id=None if event.span_id is None else event.span_id.hex(),
            occurred_at=event.occurred_at.astimezone(UTC),
        )
    except UnicodeDecodeError as error:
        raise BadEvent(f"payload or actor of {event.type} is not UTF-8") from error


def _event_data(event: _Event) -> EventData:
    return EventData(
        event_id=event.event_id,
        type=event.type,
        schema_version=event.schema_version,
        payload=event.payload.encode(),
        actor=event.actor.encode(),
        causation_id=event.causation_id,
        correlation_id=event.correlation_id,
        trace_id=None if event.trace_id is None else bytes.fromhex(event.trace_id),
        span_id=None if event.span_id is None else bytes.fromhex(event.span_id),
        occurred_at=event.occurred_at,
    )
