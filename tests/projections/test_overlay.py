"""The overlay: what is spooled shows at once, leaves as the log has it, and never touches the states below."""

from typing import Any, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events import codec
from events.catalogue import (
    AccessDenied,
    ContainerDied,
    ContainerStarted,
    ExchangeCompleted,
    ExchangeEvent,
    Payload,
    SessionReady,
    SessionRequested,
)
from events.envelope import SYSTEM, EventData, RecordedEvent
from projections.admission import Admission
from projections.overlay import Overlay
from projections.projection import Projection, apply
from projections.session_state import Sessions, SessionState
from tests.factories import LOG_ID, payload, recorded
from tests.projections.histories import ALL, one_of_each, stream_of
from tests.projections.spooled import Spooled

BEYOND: Final = 10**9
SAMPLES: Final = {type(each): each for each in one_of_each("a", 1)}


class Process:
    """States folded from a log, a spool, and the overlay between them."""

    def __init__(self) -> None:
        self.log: list[RecordedEvent] = []
        self.spool = Spooled()
        self.sessions: dict[str, SessionState] = {}
        self.folds: tuple[tuple[Projection[Any], dict[str, Any]], ...] = (
            (Sessions(), self.sessions),
            (Admission(), {}),
        )
        self.overlay = Overlay(self.folds, LOG_ID)
        self.spool.on_spooled(lambda: self.overlay.take(self.spool))

    def append(self, payload: Payload, data: EventData | None = None) -> None:
        """The log has an event, and the tail brings it."""
        event = self.recorded(payload, data)
        for projection, states in self.folds:
            apply(projection, states, event, payload)
        self.overlay.passed(event, payload)

    def recorded(self, payload: Payload, data: EventData | None = None) -> RecordedEvent:
        stream = stream_of(payload)
        version = 1 + sum(event.stream_id == stream for event in self.log)
        event = recorded(data or payload, stream_id=stream, position=len(self.log) + 1, version=version)
        self.log.append(event)
        return event

    def replay(self) -> None:
        """The oldest write of the spool enters the log."""
        (data,) = self.spool.leave().events
        self.append(_payload(data), data)

    def shown(self) -> list[dict[str, Any]]:
        return [
            {key: _last_in_line(state) for key, state in self.overlay.shown(states).items()} for _, states in self.folds
        ]

    def expected(self) -> list[dict[str, Any]]:
        """By the definition: all that waits, folded on top; the places in the log stay what they are."""
        found = []
        for projection, states in self.folds:
            above = dict(states)
            for nth, write in enumerate(self.spool.pending(), start=BEYOND):
                said = _payload(write.events[0])
                if not isinstance(said, ExchangeEvent):
                    event = recorded(write.events[0], stream_id=write.stream_id, position=nth, version=nth)
                    apply(projection, above, event, said)
            found.append({key: _last_in_line(_placed(state, states.get(key))) for key, state in above.items()})
        return found


def _payload(data: EventData) -> Payload:
    said = codec.decode(recorded(data))
    assert not isinstance(said, codec.Unknown)
    return said


def _last_in_line(state: Any) -> Any:
    """An intent that waits in the spool stands behind all in the log, wherever that is."""
    waits = getattr(state, "intent_position", 0) >= BEYOND
    return msgspec.structs.replace(state, intent_position=BEYOND) if waits else state


def _placed(state: Any, base: Any) -> Any:
    names = {"version", "position"} & set(state.__struct_fields__)
    return msgspec.structs.replace(state, **{name: getattr(base, name, 0) for name in names})


def with_session() -> Process:
    process = Process()
    process.append(SAMPLES[SessionRequested])
    process.append(SAMPLES[ContainerStarted])
    process.append(SAMPLES[SessionReady])
    return process


steps = st.lists(st.tuples(st.sampled_from(["append", "spool", "replay"]), st.sampled_from(ALL)), max_size=40)


@given(steps=steps)
def test_what_is_shown_is_base_and_spool_folded_and_in_the_end_the_log(steps: list[tuple[str, Payload]]) -> None:
    """At every step, whatever other processes write between; and when the spool is empty, nothing is left on top."""
    process = Process()
    for what, said in steps:
        match what:
            case "append":
                process.append(said)
            case "spool":
                process.spool.put(said)
            case _ if process.spool.pending():
                process.replay()
        assert process.shown() == process.expected()
    while process.spool.pending():
        process.replay()
    assert len(process.overlay) == 0
    again = Process()
    for event in process.log:
        again.append(_payload(_data(event)), _data(event))
    assert process.shown() == [states for _, states in process.folds] == again.shown()


def _data(event: RecordedEvent) -> EventData:
    return EventData(**{name: getattr(event, name) for name in EventData.__struct_fields__})


def test_states_below_are_not_touched() -> None:
    process = with_session()
    before = dict(process.sessions)
    process.spool.put(payload(ContainerDied, session_id="a", container="a-c1"))
    assert process.sessions == before and process.sessions["a"].host == "127.0.0.1"
    assert process.overlay.shown(process.sessions)["a"].host is None


def test_an_event_that_is_in_the_log_already_leaves_too() -> None:
    """Its answer was lost, so it was spooled, after the tail had brought it: it will not come again."""
    process = with_session()
    died = payload(ContainerDied, session_id="a", container="a-c1")
    data = process.spool.put(died)
    process.overlay.settle(process.spool.replayed)
    assert len(process.overlay) == 1  # it may still come
    process.spool.leave()
    process.overlay.settle(process.spool.replayed)
    assert len(process.overlay) == 0 and data.event_id not in {event.event_id for event in process.log}


def test_what_left_before_it_was_looked_at_is_not_missed() -> None:
    """Numbers run on: a spool that emptied between two looks shifts nothing."""
    process = with_session()
    spool = Spooled()
    late = Overlay(process.folds, LOG_ID)
    for said in (SAMPLES[SessionReady], SAMPLES[ContainerDied]):
        spool.put(said)
    spool.leave()
    late.take(spool)
    late.take(spool)
    assert len(late) == 1
    spool.leave()
    late.take(spool)
    late.settle(spool.replayed)
    assert len(late) == 0


def test_exchanges_and_what_nobody_folds_stay_out() -> None:
    """They come by the thousand, and all that they change is a figure that the log will bring."""
    process = with_session()
    process.spool.put(SAMPLES[ExchangeCompleted])
    process.spool.put(payload(AccessDenied), SYSTEM)
    assert len(process.overlay) == 0
    assert process.overlay.shown(process.sessions) is process.sessions
