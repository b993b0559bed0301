"""A batch as arrays, and its answer as outcomes: what goes with what, without a database."""

from datetime import timedelta, timezone
from typing import Any

import pytest

from events import batch
from events.envelope import ANY, NEW, Fence
from events.errors import StoreUnavailable
from events.store import Appended, Conflict, Fenced, Mismatch
from events.writer import Unit
from tests.factories import CAUSE, MOMENT, event, events, write

NAMES = ("streams", "unit", "stream", "expected")


def row(outcome: str, position: int | None = None, version: int | None = None) -> dict[str, Any]:
    return {"outcome": outcome, "at_position": position, "at_version": version}


def test_streams_are_named_once_and_expected_at_a_units_first_event() -> None:
    """The later events of a unit stand behind its first; another unit's expectation of the same stream is its own."""
    units = [
        Unit((write("session-a", *events(2), expected=NEW), write("session-b", expected=ANY)), Fence("job", 3)),
        Unit((write("session-a", *events(2), expected=2),), None),
    ]
    columns = batch.columns(units, notify=False)
    assert dict(zip(NAMES, columns, strict=False)) == {
        "streams": "{session-a,session-b}",
        "unit": "{1,1,1,2,2}",
        "stream": "{1,1,2,1,1}",
        "expected": "{0,null,null,2,null}",
    }
    assert columns[-3:] == (["job", None], [3, None], False)


@pytest.mark.parametrize("expected", [-(2**70), -1, 2**31, 2**70])
def test_version_that_postgres_cannot_hold_is_one_that_no_stream_is_at(expected: int) -> None:
    assert batch.columns([Unit((write("session-a", expected=expected),), None)])[3] == "{-1}"


def test_arrays_are_the_same_whether_a_units_texts_were_made_before_or_not() -> None:
    writes = (
        write("session-a", event(cause=CAUSE), event(occurred_at=MOMENT.astimezone(timezone(timedelta(hours=1))))),
    )
    columns = batch.columns([Unit(writes, None)])
    assert batch.columns([batch.unit(writes, None)]) == columns
    assert columns[11] == f'{{"\\\\x{(CAUSE.trace_id or b"").hex()}",null}}'
    assert columns[13] == "{2026-01-18T22:29:04+00:00,2026-01-18T22:29:04+00:00}"


def test_a_batch_that_went_in_as_a_whole_is_answered_by_one_row() -> None:
    units = [Unit((write("session-a"),), None), Unit((write("session-b"),), None)]
    answer = {"outcome": "A", "at_position": 7, "versions": [3, 1]}
    assert batch.outcomes(units, [answer]) == [Appended(7, 7, (3,)), Appended(8, 8, (1,))]


def test_each_unit_gets_what_its_own_rows_say() -> None:
    [two, one, fenced, mixed] = units = [
        Unit((write("session-a"), write("session-b")), None),
        Unit((write("session-c", *events(2)),), None),
        Unit((write("session-d"),), Fence("job", 1)),
        Unit((write("session-e", *events(2)),), None),
    ]
    answer = [row("-"), row("c", None, 7), row("d", 4, 1), row("d", 5, 2), row("f"), row("-"), row("m")]
    assert batch.outcomes(units, answer) == [
        Conflict("session-b", 7),
        Appended(4, 5, (1, 2), duplicate=True),
        Fenced("job"),
        Mismatch(mixed.writes[0].events[1].event_id),
    ]
    assert batch.outcomes([two, one], [row("a", n, 1) for n in range(1, 5)])[1] == Appended(3, 4, (1, 1))
    with pytest.raises(StoreUnavailable):
        batch.outcomes([fenced], [row("-")])
