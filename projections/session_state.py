"""The projection ``sessions``: what is true of each session."""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from events.catalogue import (
    ContainerAdopted,
    ContainerCreated,
    ContainerDied,
    ContainerLost,
    ContainerRemoved,
    ContainerStarted,
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    ExchangeSummarized,
    Payload,
    SessionDataRemoved,
    SessionFailed,
    SessionImported,
    SessionReady,
    SessionRequested,
    SessionResumed,
    SessionStopped,
    SessionStopRequested,
    TokenIssued,
    TokenRevealed,
    TokenRevoked,
)
from events.envelope import RecordedEvent, Sealed
from projections.lifecycle import Phase, next_phase


class Token(msgspec.Struct, frozen=True):
    """The newest token of a session; every earlier one ended when it was issued."""

    serial: int
    sha256: str
    secret_id: str
    expires_at: datetime
    revoked: bool = False
    event_id: UUID | None = None  # of its token.issued: what an exchange that showed it is caused by


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """A session as of ``position``. Times are the log's."""

    session_id: str
    phase: Phase = Phase.ABSENT
    version: int = 0  # of the stream session-{id}: what the next command expects
    position: int = 0  # of the last event that concerned it
    generation: int = 0
    container: str = ""  # of this generation
    containers: tuple[str, ...] = ()  # of every generation
    container_id: str | None = None
    image: str = ""
    runtime: str = ""
    volumes: tuple[str, ...] = ()  # its kept data; none when that was removed
    opened_by: str = ""
    instance: str = ""
    owner: Sealed | None = None
    metadata: Sealed | None = None
    asked: Sealed | None = None
    token: Token | None = None
    host: str | None = None
    port: int | None = None
    created_at: datetime | None = None
    ready_at: datetime | None = None
    ended_at: datetime | None = None
    last_accessed: datetime | None = None
    reason: str | None = None  # why it failed or was stopped
    detail: str | None = None
    imported: bool = False  # from the manager before this gateway: a record, nothing of it can be used
    exchanges: int = 0
    anomalies: int = 0  # events that the lifecycle does not allow where they came


_LIFECYCLE = (SessionRequested, SessionReady, SessionFailed, SessionStopRequested, SessionStopped, SessionResumed)
_STREAM = (
    *_LIFECYCLE,
    SessionImported,
    SessionDataRemoved,
    TokenIssued,
    TokenRevealed,
    TokenRevoked,
)  # what session-{id} holds
_CONTAINER = (
    ContainerCreated,
    ContainerStarted,
    ContainerDied,
    ContainerRemoved,
    ContainerAdopted,
    ContainerLost,
)
_USE = (ExchangeCompleted, ExchangeOpened, ExchangeClosed, ExchangeSummarized)


class Sessions:
    """The fold. Total: what the lifecycle does not allow changes nothing but ``anomalies``."""

    name: Final = "sessions"
    version: Final = 3

    def key(self, payload: Payload) -> str | None:
        return payload.session_id if isinstance(payload, (*_STREAM, *_CONTAINER, *_USE)) else None

    def evolve(self, state: SessionState | None, event: RecordedEvent, payload: Payload) -> SessionState | None:
        before = state or SessionState(session_id=self.key(payload) or "")
        if event.position <= before.position:
            return state  # told twice
        if isinstance(payload, (*_CONTAINER, *_USE)) and payload.container not in before.containers:
            return state  # no container of this session: its stream is not among those that the session is read from
        after = _evolve(before, event, payload)
        in_stream = event.stream_id.startswith("session-")
        return msgspec.structs.replace(
            after, position=event.position, version=event.version if in_stream else after.version
        )


def _evolve(state: SessionState, event: RecordedEvent, payload: Payload) -> SessionState:
    match payload:
        case (
            SessionRequested()
            | SessionReady()
            | SessionFailed()
            | SessionStopRequested()
            | SessionStopped()
            | SessionResumed()
        ):
            return _lifecycle(state, event, payload)
        case TokenIssued() if state.token is None or payload.serial > state.token.serial:
            told = UUID(int=event.event_id.int)
            token = Token(payload.serial, payload.sha256, payload.secret_id, payload.expires_at, event_id=told)
            return msgspec.structs.replace(state, token=token)
        case SessionImported():
            return _imported(state, event, payload)
        case SessionDataRemoved():
            return msgspec.structs.replace(state, volumes=())
        case TokenRevealed():
            return state  # but the stream has moved
        case TokenRevoked() if state.token is not None and payload.serial == state.token.serial:
            return msgspec.structs.replace(state, token=msgspec.structs.replace(state.token, revoked=True))
        case (
            ContainerCreated()
            | ContainerStarted()
            | ContainerDied()
            | ContainerRemoved()
            | ContainerAdopted()
            | ContainerLost()
        ):
            return _container(state, payload)
        case ExchangeCompleted() | ExchangeOpened():
            seen = max(event.occurred_at, state.last_accessed or event.occurred_at)
            return msgspec.structs.replace(state, last_accessed=seen, exchanges=state.exchanges + 1)
        case ExchangeSummarized():
            known = [moment for moment in (state.last_accessed, payload.last_at) if moment is not None]
            return msgspec.structs.replace(
                state, last_accessed=max(known, default=None), exchanges=state.exchanges + payload.exchanges
            )
        case ExchangeClosed():
            seen = max(event.occurred_at, state.last_accessed or event.occurred_at)
            return msgspec.structs.replace(state, last_accessed=seen)
        case _:
            return _anomaly(state)


_Move = SessionRequested | SessionReady | SessionFailed | SessionStopRequested | SessionStopped | SessionResumed


def _lifecycle(state: SessionState, event: RecordedEvent, payload: _Move) -> SessionState:
    phase = next_phase(state.phase, event.type)
    opens = isinstance(payload, SessionRequested | SessionResumed)
    if phase is None or payload.generation != state.generation + (1 if opens else 0):
        return _anomaly(state)
    moved = msgspec.structs.replace(state, phase=phase)
    match payload:
        case SessionRequested():
            return msgspec.structs.replace(
                _open(moved, payload),
                volumes=payload.volumes,
                opened_by=payload.opened_by,
                owner=payload.owner,
                metadata=payload.metadata,
                asked=payload.asked,
                created_at=event.recorded_at,
            )
        case SessionResumed():
            return _open(moved, payload)
        case SessionReady():
            return msgspec.structs.replace(moved, ready_at=event.recorded_at)
        case SessionFailed():
            return msgspec.structs.replace(
                moved, reason=payload.reason, detail=payload.detail, ended_at=event.recorded_at, host=None, port=None
            )
        case SessionStopRequested():
            return msgspec.structs.replace(moved, reason=payload.reason, detail=None)
        case SessionStopped():
            return msgspec.structs.replace(moved, ended_at=event.recorded_at, host=None, port=None, container_id=None)


def _imported(state: SessionState, event: RecordedEvent, payload: SessionImported) -> SessionState:
    phase = next_phase(state.phase, event.type)
    if phase is None:
        return _anomaly(state)
    return msgspec.structs.replace(
        state,
        phase=phase,
        imported=True,
        opened_by=payload.opened_by,
        owner=payload.owner,
        metadata=payload.metadata,
        created_at=payload.created_at,
        last_accessed=payload.last_accessed,
        ended_at=event.recorded_at,
        reason="imported",
    )


def _open(state: SessionState, payload: SessionRequested | SessionResumed) -> SessionState:
    return msgspec.structs.replace(
        state,
        generation=payload.generation,
        container=payload.container,
        containers=(*state.containers, payload.container),
        container_id=None,
        image=payload.image,
        runtime=payload.runtime,
        instance=payload.instance,
        host=None,
        port=None,
        ready_at=None,
        ended_at=None,
        reason=None,
        detail=None,
    )


_Fact = ContainerCreated | ContainerStarted | ContainerDied | ContainerRemoved | ContainerAdopted | ContainerLost


def _container(state: SessionState, payload: _Fact) -> SessionState:
    if payload.container != state.container:
        # The end of a former generation may well be told after its successor began; nothing else may.
        return state if isinstance(payload, ContainerRemoved | ContainerDied | ContainerLost) else _anomaly(state)
    match payload:
        case ContainerCreated():
            return msgspec.structs.replace(state, container_id=payload.container_id)
        case ContainerStarted():
            return msgspec.structs.replace(
                state, container_id=payload.container_id, host=payload.host, port=payload.port
            )
        case ContainerAdopted():
            return msgspec.structs.replace(
                state,
                container_id=payload.container_id,
                host=payload.host,
                port=payload.port,
                instance=payload.instance,
            )
        case ContainerDied() | ContainerLost():
            return msgspec.structs.replace(state, host=None, port=None)
        case ContainerRemoved():
            return msgspec.structs.replace(state, host=None, port=None, container_id=None)


def _anomaly(state: SessionState) -> SessionState:
    return msgspec.structs.replace(state, anomalies=state.anomalies + 1)
