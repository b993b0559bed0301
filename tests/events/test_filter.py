"""What a filter matches, and how far a search looks."""

from uuid import UUID

import pytest

from events.envelope import RecordedEvent
from events.filter import SCAN, EventFilter, search
from tests.factories import CAUSE, FRONTEND, event, recorded

OTHER = UUID(int=7)
SEEN = recorded(event(actor=FRONTEND, cause=CAUSE), stream_id="session-s1", position=1)


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(),
        EventFilter(types=("session.*",)),
        EventFilter(stream_id="session-s1"),
        EventFilter(session_id="s1"),
        EventFilter(actor="k1"),
        EventFilter(actor="key:chat"),
        EventFilter(trace_id=CAUSE.trace_id, correlation_id=CAUSE.correlation_id, causation_id=CAUSE.causation_id),
    ],
)
def test_each_part_that_holds_matches(wanted: EventFilter) -> None:
    assert wanted.matches(SEEN)


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(types=("container.*",)),
        EventFilter(stream_id="session-s2"),
        EventFilter(session_id="s2"),
        EventFilter(actor="chat"),
        EventFilter(trace_id=bytes(16)),
        EventFilter(correlation_id=OTHER),
        EventFilter(causation_id=OTHER),
        EventFilter(types=("session.*",), actor="gateway:g1"),
    ],
)
def test_one_part_that_does_not_hold_is_enough(wanted: EventFilter) -> None:
    assert not wanted.matches(SEEN)


def test_a_search_says_how_far_it_looked() -> None:
    log: list[RecordedEvent] = [SEEN] * (SCAN + 5)
    assert search(log, EventFilter(), 0, None, 2).reached == 2
    assert search(log, EventFilter(session_id="s2"), 3, None, 2).reached == SCAN + 3
    assert search(log, EventFilter(session_id="s2"), SCAN, SCAN + 2, 2).reached == SCAN + 2
    assert search(log, EventFilter(), SCAN + 5, None, 2) == search([], EventFilter(), SCAN + 5, None, 2)
