"""``decide``: a command against folded state -> the events it makes, or a refusal. Pure: no clock, no I/O.

A decision without events means that what was asked for is so already. A seat is taken in the same unit as the session
is granted, and released in the same unit as it ends: no crash can come between.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, assert_never
from uuid import UUID

import msgspec

from events.catalogue import (
    AdmissionEvent,
    AdmissionGranted,
    AdmissionReleased,
    SessionDataRemoved,
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
    RemoveData,
    ResumeSession,
    RevealToken,
    StopSession,
)
from projections.admission import Seats
from projections.lifecycle import ENDED, SEATED, Phase, next_phase
from projections.session_state import SessionState


class Decision(msgspec.Struct, frozen=True):
    """Events for the session's stream and for the seats; ``grants`` when the seats' version must hold."""

    session: tuple[SessionEvent, ...] = ()
    admission: tuple[AdmissionEvent, ...] = ()

    @property
    def grants(self) -> bool:
        return any(isinstance(event, AdmissionGranted) for event in self.admission)


DONE = Decision()
NOBODY: Final[Mapping[str, UUID]] = MappingProxyType({})


def decide(
    command: Command,
    state: SessionState | None,
    seats: Seats,
    limit: int,
    *,
    sharing: Collection[SessionState] = (),
    erased: Mapping[str, UUID] = NOBODY,
) -> Decision | Refused:
    """``limit`` is the number of seats; ``sharing``: the sessions whose workspace is the same folder of the host;
    ``erased``: keys and sessions, each with the event that told it.

    A folder is granted with a seat, so under the seats' version: of two that ask at once one is told of the other.
    """
    if isinstance(command, OpenSession):
        return DONE if state is not None else _open(command, seats, limit, sharing)
    if state is None:
        return Refused("session-unknown", "No such session.")
    match command:
        case ResumeSession() if erasure_of(state, erased):
            return Refused("illegal-move", "This session's subject was erased, and its data goes: open a new session.")
        case ResumeSession():
            return _resume(command, state, seats, limit, sharing)
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
        case RemoveData():
            return _give_up(command, state)
        case _:
            assert_never(command)


def _open(command: OpenSession, seats: Seats, limit: int, sharing: Collection[SessionState]) -> Decision | Refused:
    if refusal := _folder_refusal(whose(command), sharing):
        return refusal
    if len(seats.taken) >= limit:
        return _full(limit)
    requested = SessionRequested(
        session_id=command.session_id,
        container=command.container,
        image=command.image,
        runtime=command.runtime,
        volumes=command.volumes,
        host_dir=command.host_dir,
        host_dir_mac=command.host_dir_mac,
        opened_by=command.opened_by,
        owner=command.owner,
        metadata=command.metadata,
        asked=command.asked,
        instance=command.instance,
    )
    return Decision((requested, command.mint(1)), (_grant(command.session_id, 1, seats, limit),))


def _resume(
    command: ResumeSession, state: SessionState, seats: Seats, limit: int, sharing: Collection[SessionState]
) -> Decision | Refused:
    if next_phase(state.phase, "session.resumed") is None:
        return Refused("illegal-move", f"A session that is {state.phase} cannot be resumed; only an ended one can.")
    if state.imported:
        return Refused("illegal-move", "An imported session is a record of the former manager; open a new session.")
    if not state.volumes:
        return Refused("illegal-move", "The data of this session was removed; there is nothing to resume.")
    others = [other for other in sharing if other.session_id != state.session_id]
    if refusal := _folder_refusal(whose(state), others):
        return refusal
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


def erasure_of(state: SessionState, erased: Mapping[str, UUID]) -> UUID | None:
    """The event that erased its subject. A session for nobody may have no sealed field: its own id tells it then."""
    sealed = state.owner or state.metadata or state.host_dir or state.asked
    return (erased.get(sealed.k) if sealed else None) or erased.get(state.session_id)


def whose(session: SessionState | OpenSession) -> tuple[str, str | None]:
    """Who may use its folder: the key that opened it, for the person it was opened for."""
    return session.opened_by, session.owner.k if session.owner else None


def _folder_refusal(asking: tuple[str, str | None], sharing: Collection[SessionState]) -> Refused | None:
    if any(whose(other) != asking for other in sharing):
        return Refused("host-dir-not-yours", "This host_dir has been the workspace of somebody else's session.")
    # A session that failed has its container until that is removed.
    if any(other.phase in SEATED or other.container_id is not None for other in sharing):
        return Refused("host-dir-in-use", "This host_dir is the workspace of another session: stop that one first.")
    return None


def _give_up(command: RemoveData, state: SessionState) -> Decision:
    """From here on the session cannot be resumed, so that nobody runs on what is being removed."""
    if state.phase not in ENDED or not state.volumes:
        return DONE
    return Decision((SessionDataRemoved(session_id=state.session_id, volumes=state.volumes, reason=command.reason),))


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
