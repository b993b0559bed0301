"""Given a state, when a command comes, then these events; and the law that no legal command makes an illegal event."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import Payload, SessionDataRemoved, SessionImported, TokenIssued
from events.ids import named
from events.registry import tag_of
from gateway.errors import Refused
from gateway.sessions.commands import (
    Command,
    MarkFailed,
    MarkReady,
    MarkStopped,
    OpenSession,
    RemoveData,
    ResumeSession,
    RevealToken,
    StopSession,
)
from gateway.sessions.decide import DONE, Decision, decide
from projections.admission import Admission, Seats
from projections.lifecycle import SEATED, Phase
from projections.projection import fold
from projections.session_state import Sessions, SessionState
from tests.factories import MOMENT, SEALED
from tests.projections.histories import record

ID = "ses_0000000000000000000000000a"


def mint(serial: int) -> TokenIssued:
    return TokenIssued(session_id=ID, serial=serial, sha256=f"h{serial}", secret_id="s", expires_at=MOMENT)


OPEN = OpenSession(
    session_id=ID,
    container="c1",
    image="echo",
    runtime="mock",
    volumes=("h", "w"),
    opened_by="k1",
    owner=None,
    metadata=None,
    instance="g1",
    mint=mint,
)
RESUME = ResumeSession(session_id=ID, container="c2", runtime="mock", instance="g1", mint=mint)
STOP = StopSession(session_id=ID)
READY = MarkReady(session_id=ID, generation=1, boot_us=1)
FAILED = MarkFailed(session_id=ID, generation=1, reason="not_ready", detail="No answer.")
STOPPED = MarkStopped(session_id=ID, generation=1)
REMOVE = RemoveData(session_id=ID, reason="policy")


class World:
    """A session and the seats, moved by commands alone."""

    def __init__(self, *commands: Command, limit: int = 3) -> None:
        self.limit = limit
        self.sessions: dict[str, SessionState] = {}
        self.seats: dict[str, Seats] = {}
        self.payloads: list[Payload] = []
        for command in commands:
            self.give(command)

    @property
    def state(self) -> SessionState | None:
        return self.sessions.get(ID)

    def decide(self, command: Command) -> Decision | Refused:
        return decide(command, self.state, self.seats.get("admission") or Seats(), self.limit)

    def give(self, command: Command) -> Decision | Refused:
        decision = self.decide(command)
        if isinstance(decision, Decision):
            self.payloads += [*decision.session, *decision.admission]
            self.fold()
        return decision

    def fold(self) -> None:
        events = record(self.payloads)
        self.sessions = fold(Sessions(), {}, events)
        self.seats = fold(Admission(), {}, events)


def tags(decision: Decision | Refused) -> list[str]:
    assert isinstance(decision, Decision)
    return [tag_of(event) for event in (*decision.session, *decision.admission)]


def test_opening_grants_a_seat_and_a_token_in_one_unit() -> None:
    assert tags(World().decide(OPEN)) == ["session.requested", "token.issued", "admission.granted"]


def test_opening_again_is_done() -> None:
    """A repeated Idempotency-Key finds the session there."""
    assert World(OPEN).decide(OPEN) == DONE


def test_no_seat_no_session() -> None:
    refusal = World(limit=0).decide(OPEN)
    assert isinstance(refusal, Refused) and refusal.status == 429 and refusal.retry_after
    assert "MAX_CONCURRENT_SESSIONS" in refusal.detail


def test_failing_releases_the_seat_and_the_token() -> None:
    assert tags(World(OPEN).decide(FAILED)) == ["session.failed", "token.revoked", "admission.released"]


def test_stopping_keeps_the_seat_until_the_container_is_gone() -> None:
    """Its memory is still in use."""
    world = World(OPEN, READY)
    assert tags(world.give(STOP)) == ["session.stop_requested", "token.revoked"]
    assert tags(world.give(STOPPED)) == ["session.stopped", "admission.released"]


def test_stopping_twice_is_done() -> None:
    assert World(OPEN, READY, STOP).decide(STOP) == DONE
    assert World(OPEN, READY, STOP, STOPPED).decide(STOP) == DONE


def test_stopping_a_failed_session_releases_no_second_seat() -> None:
    world = World(OPEN, FAILED, STOP)
    assert tags(world.decide(STOPPED)) == ["session.stopped"]


def test_a_running_session_cannot_be_resumed() -> None:
    refusal = World(OPEN, READY).decide(RESUME)
    assert isinstance(refusal, Refused) and refusal.slug == "illegal-move"


def test_resuming_is_the_next_generation_with_the_next_token() -> None:
    world = World(OPEN, READY, STOP, STOPPED)
    decision = world.give(RESUME)
    assert tags(decision) == ["session.resumed", "token.issued", "admission.granted"]
    assert world.state is not None and world.state.generation == 2
    assert world.state.token is not None and world.state.token.serial == 2


def test_a_session_without_its_data_is_not_resumed() -> None:
    """Its subject was erased: starting on empty volumes would be another session under the same name."""
    world = World(OPEN, READY, STOP, STOPPED)
    world.payloads.append(SessionDataRemoved(session_id=ID, volumes=("h", "w"), reason="erased"))
    world.fold()
    refusal = world.decide(RESUME)
    assert isinstance(refusal, Refused) and refusal.slug == "illegal-move"


@pytest.mark.parametrize("end", [(READY, STOP, STOPPED), (FAILED,)], ids=["stopped", "failed"])
def test_kept_data_is_given_up_once_and_then_nothing_is_resumed(end: tuple[Command, ...]) -> None:
    """The event precedes the removal, so that nobody starts on what is going."""
    world = World(OPEN, *end)
    assert world.give(REMOVE) == Decision((SessionDataRemoved(session_id=ID, volumes=("h", "w"), reason="policy"),))
    assert world.give(REMOVE) == DONE
    refusal = world.decide(RESUME)
    assert isinstance(refusal, Refused) and "data of this session was removed" in refusal.detail


def test_the_data_of_a_session_that_runs_is_not_given_up() -> None:
    for commands in ((OPEN,), (OPEN, READY), (OPEN, READY, STOP), (OPEN, READY, STOP, STOPPED, RESUME)):
        assert World(*commands).decide(REMOVE) == DONE


def test_a_session_of_an_erased_subject_is_not_resumed() -> None:
    """Nobody runs again on what is about to go; that its data is not given up yet changes nothing."""
    world = World(OPEN, READY, STOP, STOPPED)
    assert world.state is not None
    owned = msgspec.structs.replace(world.state, owner=SEALED)
    for state, key in ((world.state, ID), (owned, SEALED.k)):
        refusal = decide(RESUME, state, Seats(), 3, erased={key: named("erased")})
        assert isinstance(refusal, Refused) and "subject was erased" in refusal.detail
        assert isinstance(decide(RESUME, state, Seats(), 3, erased={"sk_other": named("erased")}), Decision)


def test_an_imported_session_is_not_resumed() -> None:
    """Its files lie where the former manager kept them: a container without them would be another session."""
    world = World()
    world.payloads.append(SessionImported(session_id=ID, status="running", created_at=MOMENT, opened_by="k1"))
    world.fold()
    for command in (RESUME, RevealToken(session_id=ID)):
        assert isinstance(world.decide(command), Refused)
    assert world.decide(STOP) == DONE


def test_a_late_fact_of_a_former_generation_decides_nothing() -> None:
    """The runner of generation 1 may still report after generation 2 began."""
    world = World(OPEN, READY, STOP, STOPPED, RESUME)
    for late in (READY, FAILED, STOPPED):
        assert world.decide(late) == DONE


@pytest.mark.parametrize("command", [RESUME, STOP, READY, FAILED, STOPPED, REMOVE, RevealToken(session_id=ID)])
def test_nothing_can_be_asked_of_a_session_that_is_not(command: Command) -> None:
    refusal = World().decide(command)
    assert isinstance(refusal, Refused) and refusal.slug == "session-unknown"


def test_a_token_that_ended_is_not_shown_again() -> None:
    assert tags(World(OPEN).decide(RevealToken(session_id=ID))) == ["token.revealed"]
    refusal = World(OPEN, READY, STOP).decide(RevealToken(session_id=ID))
    assert isinstance(refusal, Refused) and refusal.slug == "session-ended"


def any_command() -> st.SearchStrategy[Command]:
    generation = st.integers(1, 3)
    return st.one_of(
        st.sampled_from([OPEN, RESUME, STOP, REMOVE, RevealToken(session_id=ID)]),
        st.builds(lambda g: msgspec.structs.replace(READY, generation=g), generation),
        st.builds(lambda g: msgspec.structs.replace(FAILED, generation=g), generation),
        st.builds(lambda g: msgspec.structs.replace(STOPPED, generation=g), generation),
    )


@given(commands=st.lists(any_command(), max_size=25))
def test_no_command_makes_an_event_that_the_fold_refuses(commands: list[Command]) -> None:
    """``decide`` and ``evolve`` read the same table; and no seat is held by a session that ended."""
    world = World()
    for command in commands:
        world.give(command)
        if world.state is None:
            continue
        assert world.state.anomalies == 0
        held = ID in (world.seats.get("admission") or Seats()).taken
        # A failed session gave its seat back; told to stop, it is stopping without one.
        assert held or world.state.phase not in (Phase.CREATING, Phase.READY)
        assert not held or world.state.phase in SEATED
        assert world.state.token is not None
        assert world.state.token.revoked == (world.state.phase not in (Phase.CREATING, Phase.READY))
