"""The timeline: every step once and in order, what went through it added up, and when nothing did."""

from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import (
    AccessDenied,
    ContainerCreated,
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    ExchangeSummarized,
    HealthChanged,
    HealthSummarized,
    Payload,
    SessionReady,
    SessionRequested,
    SessionStopped,
    SessionStopRequested,
    TokenRevealed,
)
from events.envelope import Actor, ActorKind, RecordedEvent
from projections.lifecycle import Phase
from projections.projection import fold
from projections.session_state import Sessions
from projections.timeline import QUIET, Entry, Gap, Step, Timeline, Use
from tests.factories import MOMENT, payload, recorded
from tests.projections.histories import ALL, record


def line(*told: tuple[float, Payload]) -> Timeline:
    """Payloads and when they came, in minutes."""
    made = Timeline("s1")
    assert made.add(
        recorded(each, position=position, version=position, recorded_at=MOMENT + timedelta(minutes=minutes))
        for position, (minutes, each) in enumerate(told, start=1)
    )
    return made


def kinds(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.event.type if isinstance(entry, Step) else type(entry).__name__ for entry in entries]


REQUESTED = payload(SessionRequested)
READY = payload(SessionReady)
COMPLETED = payload(ExchangeCompleted, bytes_in=1, bytes_out=10, error=None)


def test_a_step_says_how_long_it_was_since_the_one_before_and_what_the_session_became() -> None:
    """What was proxied between two steps is no step."""
    told = line(
        (0, REQUESTED), (0.5, payload(ContainerCreated)), (1, READY), (2, COMPLETED), (3, payload(HealthChanged))
    )
    steps = [entry for entry in told.finish() if isinstance(entry, Step)]
    assert [(step.phase, step.generation) for step in steps] == [
        (Phase.CREATING, 1),
        (Phase.CREATING, 1),
        (Phase.READY, 1),
        (Phase.READY, 1),
    ]
    assert [step.since for step in steps] == [None, *(timedelta(minutes=minutes) for minutes in (0.5, 0.5, 2))]


def test_exchanges_and_checks_between_two_steps_are_added_up() -> None:
    opened = payload(ExchangeOpened, exchange_id="a")
    told = line(
        (0, READY),
        (1, COMPLETED),
        (1, payload(ExchangeCompleted, bytes_in=2, bytes_out=20, error="container_broke")),
        (2, opened),
        (2, payload(ExchangeOpened, exchange_id="b")),
        (3, payload(ExchangeClosed, exchange_id="a", bytes_in=4, bytes_out=40, error=None)),
        (3, payload(ExchangeSummarized, exchanges=100, failed=7, closed=0, bytes_in=8, bytes_out=80)),
        (4, payload(HealthSummarized, checks=20, failed=3)),
        (5, payload(SessionStopRequested)),
        (6, payload(ExchangeSummarized, exchanges=0, failed=0, closed=1, bytes_in=0, bytes_out=0)),
    ).finish()
    assert kinds(told) == ["session.ready", "Use", "session.stop_requested", "Use"]
    use, end = told[1], told[3]
    assert isinstance(use, Use) and isinstance(end, Use)
    assert (use.exchanges, use.failed, use.open) == (104, 8, 1)
    assert (use.bytes_in, use.bytes_out) == (15, 150)
    assert (use.checks, use.checks_failed) == (20, 3)
    assert (use.first.position, use.last.position) == (2, 8)
    assert (end.exchanges, end.open) == (0, 0)


def test_nothing_for_long_is_a_gap_between_exchanges_too() -> None:
    """A check of health is nothing that happened; of a stream that is open its end tells."""
    told = line(
        (0, READY),
        (4, COMPLETED),
        (9, payload(ExchangeOpened)),
        (12, payload(HealthSummarized)),
        (30, COMPLETED),
        (34, payload(SessionStopRequested)),
    ).finish()
    assert kinds(told) == ["session.ready", "Use", "Gap", "Use", "session.stop_requested"]
    gap = told[2]
    assert isinstance(gap, Gap)
    assert (gap.since - MOMENT, gap.until - MOMENT, gap.open) == (timedelta(minutes=9), timedelta(minutes=30), 1)


def test_exactly_as_long_is_no_gap() -> None:
    quiet = QUIET / timedelta(minutes=1)
    assert kinds(line((0, REQUESTED), (quiet, READY)).finish()) == ["session.requested", "session.ready"]
    assert kinds(line((0, REQUESTED), (quiet + 0.001, READY)).finish())[1] == "Gap"


def test_a_session_that_lives_may_be_quiet_up_to_now() -> None:
    now = MOMENT + timedelta(hours=1)
    assert kinds(line((0, REQUESTED), (1, READY)).finish(now))[-1] == "Gap"
    ended = line((0, REQUESTED), (1, payload(SessionStopRequested)), (2, payload(SessionStopped)))
    assert kinds(ended.finish(now))[-1] == "session.stopped"


def test_a_type_of_a_later_release_is_a_step() -> None:
    event = recorded(REQUESTED)
    later = msgspec.structs.replace(event, type="session.teleported", position=2)
    made = Timeline("s1")
    assert made.add([event, later])
    assert kinds(made.finish()) == ["session.requested", "session.teleported"]


def test_whom_strangers_are_refused_as_is_added_up() -> None:
    """Anybody may knock as often as he likes; the session's own steps stand beside each other all the same."""
    knocks = [
        (minutes, payload(AccessDenied, session_id="s1", reason="bad_credential" if minutes % 2 else "not_owner"))
        for minutes in range(2, 3000)
    ]
    told = line((0, REQUESTED), (1, READY), *knocks, (3001, COMPLETED), (3002, payload(SessionStopRequested))).finish()
    assert kinds(told) == ["session.requested", "session.ready", "Use", "Gap", "Use", "session.stop_requested"]
    knocking, gap = told[2], told[3]
    assert isinstance(knocking, Use) and isinstance(gap, Gap)
    assert knocking.denials == {"not_owner": 1499, "bad_credential": 1499}
    assert (knocking.exchanges, knocking.last.position) == (0, 3000)
    assert gap.until - gap.since == timedelta(minutes=3000), "nothing went on in the session"


def test_reasons_of_denials_are_few_whatever_the_log_says() -> None:
    made = line(*((0, payload(AccessDenied, session_id="s1", reason=f"r{number}")) for number in range(100)))
    (use,) = made.finish()
    assert isinstance(use, Use) and len(use.denials) == 21 and use.denials["other"] == 80


def test_a_token_that_is_shown_again_to_the_same_key_is_counted() -> None:
    """To whom it was first shown, and to whom else, are steps."""

    keys = ["k1"] * 3000 + ["k2"] * 2 + ["k1"] * 2
    made = Timeline("s1", most=6)
    assert made.add(
        recorded(TokenRevealed, position=position, actor=Actor(kind=ActorKind.KEY, id="chat", key_id=key))
        for position, key in enumerate(keys, start=1)
    )
    told = made.finish()
    assert kinds(told) == ["token.revealed", "Use"] * 3
    assert [entry.revealed for entry in told if isinstance(entry, Use)] == [2999, 1, 1]


def test_what_there_is_no_room_for_is_left_out_and_said() -> None:
    made = Timeline("s1", most=3)
    assert not made.add(recorded(READY, position=position) for position in range(1, 9))
    assert (len(made.finish()), made.reached) == (3, 3)


@given(history=st.lists(st.sampled_from(ALL), max_size=60).map(record), most=st.integers(1, 9))
def test_parts_that_go_on_are_the_whole(history: list[RecordedEvent], most: int) -> None:
    """Steps with their times and phases, and gaps, are those of the whole; sums add up to the same."""
    own = [each for each in history if b'"session_id":"a"' in each.payload]
    whole, parts, after, carried = Timeline("a"), list[Entry](), 0, None
    assert whole.add(own)
    while True:
        part = Timeline("a", most=most, carried=carried)
        part.recall(each for each in own if each.position <= after and each.type.startswith("session."))
        done = part.add(each for each in own if each.position > after)
        parts += part.finish()
        if done:
            break
        assert part.reached > after, "it goes on"
        after, carried = part.reached, part.carried
    told = whole.finish()
    assert [each for each in parts if not isinstance(each, Use)] == [each for each in told if not isinstance(each, Use)]
    for name in ("exchanges", "failed", "bytes_in", "bytes_out", "checks", "revealed"):
        sums = [sum(getattr(each, name) for each in some if isinstance(each, Use)) for some in (parts, told)]
        assert sums[0] == sums[1], name


def test_any_number_of_exchanges_is_one_entry() -> None:
    made = Timeline("s1", most=3)
    assert made.add(
        recorded(COMPLETED if position > 1 else READY, position=position, stream_id="container-c1")
        for position in range(1, 5002)
    )
    told = made.finish()
    assert kinds(told) == ["session.ready", "Use"]
    assert isinstance(told[1], Use) and told[1].exchanges == 5000


@given(history=st.lists(st.sampled_from(ALL), max_size=60).map(record), cut=st.integers(0, 60))
def test_every_event_is_a_step_or_counted_and_pages_do_not_matter(history: list[RecordedEvent], cut: int) -> None:
    """And the phases are those that the session had."""
    own = [event for event in history if b'"session_id":"a"' in event.payload]
    made, paged = Timeline("a"), Timeline("a")
    assert made.add(own) and paged.add(own[:cut]) and paged.add(own[cut:])
    told = made.finish()
    assert told == paged.finish()
    steps = [entry for entry in told if isinstance(entry, Step)]
    used = [event for event in own if event.type.startswith("exchange.")]
    assert [step.event for step in steps] == [event for event in own if event not in used]
    assert sum(isinstance(entry, Use) for entry in told) <= len(used)
    assert made.state == fold(Sessions(), {}, own).get("a")
    for step in steps:
        then = fold(Sessions(), {}, [event for event in own if event.position <= step.event.position]).get("a")
        assert (step.phase, step.generation) == ((then.phase, then.generation) if then else (Phase.ABSENT, 0))
