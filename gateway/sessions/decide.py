"""``decide``: a command against folded state -> the events it makes, or a refusal. Pure: no clock, no I/O.

A decision without events means that what was asked for is so already. A seat is taken in the same unit as the session
is granted, and released in the same unit as it ends: no crash can come between.
"""

from typing import assert_never

import msgspec

from events.catalogue import (
    AdmissionEvent,
    AdmissionGranted,
    AdmissionReleased,
    SessionEvent,
    SessionFailed,
    SessionReady,
    SessionRequested,
    SessionResumed,
    SessionStopped,
    SessionStopRequested,
    TokenRevealed,
    TokenRevoked,
)
from events.registry import tag_of
from gateway.errors import Refused
from gateway.sessions.commands import (
    Command,
    MarkFailed,
    MarkReady,
    MarkStopped,
    OpenSession,
    ResumeSession,
    RevealToken,
    StopSession,
)
from projections.admission import Seats
from projections.lifecycle import Phase, next_phase
from projections.session_state import SessionState


class Decision(msgspec.Struct, frozen=True):
    """Events for the session's stream and for the seats; ``grants`` when the seats' version must hold."""

    session: tuple[SessionEvent, ...] = ()
    admission: tuple[AdmissionEvent, ...] = ()

    @property
    def grants(self) -> bool:
        return any(isinstance(event, AdmissionGranted) for event in self.admission)


DONE = Decision()


def decide(command: Command, state: SessionState | None, seats: Seats, limit: int) -> Decision | Refused:
    """``limit`` is the number of seats."""
    if isinstance(command, OpenSession):
        return DONE if state is not None else _open(command, seats, limit)
    if state is None:
        return Refused("session-unknown", "No such session.")
    match command:
        case ResumeSession():
            return _resume(command, state, seats, limit)
        case StopSession():
            return _stop(command, state)
        case RevealToken():
            return _reveal(state)
        case MarkReady():
            event = SessionReady(
                session_id=state.session_id,
                generation=command.generation,
                container=state.container,
                boot_us=command.boot_us,
            )
            return Decision((event,)) if _allowed(state, event, command.generation) else DONE
        case MarkFailed():
            return _fail(command, state)
        case MarkStopped():
            ended = SessionStopped(session_id=state.session_id, generation=command.generation)
            return _end(state, seats, ended) if _allowed(state, ended, command.generation) else DONE
        case _:
            assert_never(command)


def _open(command: OpenSession, seats: Seats, limit: int) -> Decision | Refused:
    if len(seats.taken) >= limit:
        return _full(limit)
    requested = SessionRequested(
        session_id=command.session_id,
        container=command.container,
        image=command.image,
        runtime=command.runtime,
        volumes=command.volumes,
        opened_by=command.opened_by,
        owner=command.owner,
        metadata=command.metadata,
        asked=command.asked,
        instance=command.instance,
    )
    return Decision((requested, command.mint(1)), (_grant(command.session_id, 1, seats, limit),))


def _resume(command: ResumeSession, state: SessionState, seats: Seats, limit: int) -> Decision | Refused:
    if next_phase(state.phase, "session.resumed") is None:
        return Refused("illegal-move", f"A session that is {state.phase} cannot be resumed; only an ended one can.")
    if state.imported:
        return Refused("illegal-move", "An imported session is a record of the former manager; open a new session.")
    if not state.volumes:
        return Refused("illegal-move", "The data of this session was removed; there is nothing to resume.")
    if len(seats.taken) >= limit:
        return _full(limit)
    generation = state.generation + 1
    resumed = SessionResumed(
        session_id=state.session_id,
        generation=generation,
        container=command.container,
        image=state.image,
        runtime=command.runtime,
        instance=command.instance,
    )
    return Decision(
        (resumed, command.mint(state.token.serial + 1 if state.token else 1)),
        (_grant(state.session_id, generation, seats, limit),),
    )


def _stop(command: StopSession, state: SessionState) -> Decision | Refused:
    if state.phase in (Phase.STOPPING, Phase.STOPPED):
        return DONE
    asked = SessionStopRequested(session_id=state.session_id, generation=state.generation, reason=command.reason)
    return Decision((asked, *_revoke(state, "stopped")))


def _reveal(state: SessionState) -> Decision | Refused:
    if state.token is None or state.token.revoked:
        return Refused("session-ended", "The session has ended, and its token with it; resume it to get a new one.")
    return Decision((TokenRevealed(session_id=state.session_id, serial=state.token.serial),))


def _fail(command: MarkFailed, state: SessionState) -> Decision:
    failed = SessionFailed(
        session_id=state.session_id, generation=command.generation, reason=command.reason, detail=command.detail
    )
    if not _allowed(state, failed, command.generation):
        return DONE
    return Decision((failed, *_revoke(state, "failed")), (_release(state),))


def _end(state: SessionState, seats: Seats, ended: SessionStopped) -> Decision:
    """A failed session gave its seat back when it failed."""
    holds = seats.taken.get(state.session_id) == state.generation
    return Decision((ended,), (_release(state),) if holds else ())


def _allowed(state: SessionState, event: SessionEvent, generation: int) -> bool:
    """Facts of a former generation, and facts told twice, decide nothing."""
    return generation == state.generation and next_phase(state.phase, tag_of(event)) is not None


def _revoke(state: SessionState, reason: str) -> tuple[TokenRevoked, ...]:
    if state.token is None or state.token.revoked:
        return ()
    return (TokenRevoked(session_id=state.session_id, serial=state.token.serial, reason=reason),)


def _grant(session_id: str, generation: int, seats: Seats, limit: int) -> AdmissionGranted:
    return AdmissionGranted(session_id=session_id, generation=generation, taken=len(seats.taken) + 1, limit=limit)


def _release(state: SessionState) -> AdmissionReleased:
    return AdmissionReleased(session_id=state.session_id, generation=state.generation)


def _full(limit: int) -> Refused:
    return Refused(
        "too-many-sessions",
        f"All {limit} seats are taken (MAX_CONCURRENT_SESSIONS); stop a session or try again later.",
        retry_after=5,
    )
