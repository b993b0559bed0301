"""The table of the lifecycle, walked whole."""

from events.registry import EVENT_TYPES
from projections.lifecycle import SEATED, STATUS, TRANSITIONS, Phase, next_phase


def test_every_phase_can_be_reached() -> None:
    """A phase that nothing leads to is dead code in the table."""
    reached, frontier = {Phase.ABSENT}, [Phase.ABSENT]
    while frontier:
        for phase in TRANSITIONS[frontier.pop()].values():
            if phase not in reached:
                reached.add(phase)
                frontier.append(phase)
    assert reached == set(Phase)


def test_every_phase_has_a_way_out_and_back_to_use() -> None:
    """Nothing is stuck for ever: from wherever a session stands it can become ready, and can come to an end."""
    for start in Phase:
        reached, frontier = set[Phase](), [start]
        while frontier:
            for phase in set(TRANSITIONS[frontier.pop()].values()) - reached:
                reached.add(phase)
                frontier.append(phase)
        assert {Phase.READY, Phase.STOPPED} <= reached, start


def test_every_move_is_an_event_that_exists() -> None:
    assert {tag for moves in TRANSITIONS.values() for tag in moves} <= set(EVENT_TYPES)


def test_every_pair_has_an_answer() -> None:
    """All phases times all lifecycle events: a phase or a refusal, never a surprise."""
    for phase in Phase:
        for tag in EVENT_TYPES:
            assert next_phase(phase, tag) == TRANSITIONS[phase].get(tag)


def test_every_phase_has_a_status_of_the_customer() -> None:
    assert set(STATUS) == set(Phase) - {Phase.ABSENT}
    assert {status.value for status in STATUS.values()} == {"creating", "running", "stopped", "error"}


def test_a_session_that_ended_holds_no_seat() -> None:
    assert {Phase.STOPPED, Phase.FAILED, Phase.ABSENT}.isdisjoint(SEATED)
