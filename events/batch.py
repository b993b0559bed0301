"""A batch of units on its way to Postgres and back: the arguments of ``append_plain``, and what its rows say."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from events.envelope import EventData, Fence, StreamWrite
from events.errors import StoreUnavailable
from events.store import Appended, Conflict, Fenced, Mismatch, Outcome, expected_number
from events.writer import Unit

_MAX_VERSION: Final = 2**31 - 1
# Arrays travel as text where their elements need no quotes: a driver encodes each element of an array by itself, which
# took a third of the client's time. What may hold anything, payload and actor, goes as it is.
# The condition is asked first: in another log nothing is called. It is part of the statement, since a pooler may lead a
# connection elsewhere without our learning it.
APPEND: Final = (
    "select * from log.append_plain($1::text::text[],$2::text::int[],$3::text::int[],$4::text::int[],"
    "$5::text::uuid[],$6::text::text[],$7::text::smallint[],$8,$9,$10::text::uuid[],$11::text::uuid[],"
    "$12::text::bytea[],$13::text::bytea[],$14::text::timestamptz[],$15,$16,$17)"
    " where (select log_id from log.identity) = $18"
)


class Texts(msgspec.Struct, frozen=True):
    """What the events of one unit add to each array that travels as text."""

    ids: str
    types: str
    versions: str
    causations: str
    correlations: str
    traces: str
    spans: str
    occurred: str


class ReadyUnit(Unit, frozen=True, kw_only=True):
    """A unit whose texts are made already: by its caller, while the batch before is under way."""

    texts: Texts


def unit(writes: tuple[StreamWrite, ...], fence: Fence | None) -> ReadyUnit:
    """Of writes that ``check_unit`` let pass."""
    return ReadyUnit(writes, fence, texts=_texts(writes))


def columns(units: Sequence[Unit], *, notify: bool = True) -> tuple[Any, ...]:
    """The arguments of ``append_plain``: one array a column, one element an event."""
    streams: dict[str, int] = {}
    numbers: list[int] = []
    places: list[int] = []
    expected: list[str] = []
    events: list[EventData] = []
    for number, one in enumerate(units, start=1):
        for write in one.writes:
            place = streams.setdefault(write.stream_id, len(streams) + 1)
            count = len(write.events)
            numbers += [number] * count
            places += [place] * count
            expected += [_expected(expected_number(write.expected_version)), *["null"] * (count - 1)]
            events += write.events
    texts = [one.texts if isinstance(one, ReadyUnit) else _texts(one.writes) for one in units]
    return (
        _array(streams),
        _array(map(str, numbers)),
        _array(map(str, places)),
        _array(expected),
        _array([one.ids for one in texts]),
        _array([one.types for one in texts]),
        _array([one.versions for one in texts]),
        [event.payload for event in events],
        [event.actor.decode() for event in events],
        _array([one.causations for one in texts]),
        _array([one.correlations for one in texts]),
        _array([one.traces for one in texts]),
        _array([one.spans for one in texts]),
        _array([one.occurred for one in texts]),
        _sparse([one.fence.lease if one.fence else None for one in units]),
        _sparse([one.fence.epoch if one.fence else None for one in units]),
        notify,
    )


def _texts(writes: Sequence[StreamWrite]) -> Texts:
    events = [event for write in writes for event in write.events]
    return Texts(
        ",".join([event.event_id.hex for event in events]),
        ",".join([event.type for event in events]),
        ",".join([str(event.schema_version) for event in events]),
        ",".join([event.causation_id.hex if event.causation_id else "null" for event in events]),
        ",".join([event.correlation_id.hex if event.correlation_id else "null" for event in events]),
        ",".join([_bytes(event.trace_id) for event in events]),
        ",".join([_bytes(event.span_id) for event in events]),
        ",".join([_moment(event.occurred_at) for event in events]),
    )


def _array(elements: Iterable[str]) -> str:
    return "{" + ",".join(elements) + "}"


def _bytes(value: bytes | None) -> str:
    return "null" if value is None else f'"\\\\x{value.hex()}"'


def _moment(value: datetime) -> str:
    return (value if value.tzinfo is UTC else value.astimezone(UTC)).isoformat()


def _sparse(values: list[Any]) -> list[Any]:
    """A column without any value is an empty array, which costs nothing to send: beyond its end everything is null."""
    return values if any(value is not None for value in values) else []


def _expected(number: int | None) -> str:
    """No head is -1, as none is what Postgres cannot hold."""
    return "null" if number is None else str(number) if 0 <= number <= _MAX_VERSION else "-1"


def notified(rows: Sequence[Any], *, telling: bool) -> bool | None:
    """Whether readers were told of the batch that these rows answer; None when there was nothing to tell of."""
    if rows[0]["outcome"] == "A":
        return telling
    return True if any(row["outcome"] == "a" for row in rows) else None


def outcomes(units: Sequence[Unit], rows: Sequence[Any]) -> list[Outcome]:
    if rows[0]["outcome"] == "A":  # nearly always: each unit is one event, and all are in
        first = rows[0]["at_position"]
        return [Appended(at, at, (version,)) for at, version in enumerate(rows[0]["versions"], start=first)]
    answered, start = [], 0
    for unit in units:
        answered.append(_outcome(unit, rows[start : start + len(unit)]))
        start += len(unit)
    return answered


def _outcome(unit: Unit, rows: Sequence[Any]) -> Outcome:
    telling = next((number for number, row in enumerate(rows) if row["outcome"] != "-"), None)
    if telling is None:
        raise StoreUnavailable("append_batch answered a unit without a verdict")
    row = rows[telling]
    stream_id, event = [(write.stream_id, event) for write in unit.writes for event in write.events][telling]
    match row["outcome"]:
        case "c":
            return Conflict(stream_id, row["at_version"])
        case "m":
            return Mismatch(event.event_id)
        case "f":
            assert unit.fence is not None
            return Fenced(unit.fence.lease)
        case verdict:
            versions = tuple(row["at_version"] for row in rows)
            return Appended(rows[0]["at_position"], rows[-1]["at_position"], versions, duplicate=verdict == "d")
