"""A batch of units on its way to Postgres and back: the arguments of ``append_batch``, and what its rows say."""

from collections.abc import Sequence
from typing import Any, Final

from events.envelope import EventData
from events.errors import StoreUnavailable
from events.store import Appended, Conflict, Fenced, Mismatch, Outcome, expected_number
from events.writer import Unit

_MAX_VERSION: Final = 2**31 - 1
# The condition is asked first: in another log nothing is called. It is part of the statement, since a pooler may lead a
# connection elsewhere without our learning it.
APPEND: Final = (
    "select * from log.append_batch($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)"
    " where (select log_id from log.identity) = $17"
)


def columns(units: Sequence[Unit]) -> tuple[list[Any], ...]:
    """The arguments of ``append_batch``: one array a column, one element an event."""
    streams: dict[str, int] = {}
    rows: list[tuple[int, int, int | None, EventData]] = []
    for number, unit in enumerate(units, start=1):
        for write in unit.writes:
            stream = streams.setdefault(write.stream_id, len(streams) + 1)
            expected = _expected(expected_number(write.expected_version))
            for event in write.events:
                rows.append((number, stream, expected, event))
                expected = None
    events = [row[3] for row in rows]
    return (
        list(streams),
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [event.event_id for event in events],
        [event.type for event in events],
        [event.schema_version for event in events],
        [event.payload for event in events],
        [event.actor.decode() for event in events],
        _sparse([event.causation_id for event in events]),
        _sparse([event.correlation_id for event in events]),
        _sparse([event.trace_id for event in events]),
        _sparse([event.span_id for event in events]),
        [event.occurred_at for event in events],
        _sparse([unit.fence.lease if unit.fence else None for unit in units]),
        _sparse([unit.fence.epoch if unit.fence else None for unit in units]),
    )


def _sparse(values: list[Any]) -> list[Any]:
    """A column without any value is an empty array, which costs nothing to send: beyond its end everything is null."""
    return values if any(value is not None for value in values) else []


def _expected(number: int | None) -> int | None:
    """No head is -1, as none is what Postgres cannot hold."""
    return number if number is None or 0 <= number <= _MAX_VERSION else -1


def outcomes(units: Sequence[Unit], rows: Sequence[Any]) -> list[Outcome]:
    answered, start = [], 0
    for unit in units:
        answered.append(_outcome(unit, rows[start : start + len(unit)]))
        start += len(unit)
    return answered


def _outcome(unit: Unit, rows: Sequence[Any]) -> Outcome:
    if len(rows) == 1 and rows[0]["outcome"] == "a":  # nearly always
        return Appended(rows[0]["at_position"], rows[0]["at_position"], (rows[0]["at_version"],))
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
