"""The projection ``sessions``: what is true of each session."""

from collections.abc import Callable
from datetime import datetime
from sys import intern
from typing import Any, Final, cast, get_args
from uuid import UUID

import msgspec
from msgspec.structs import replace

from events.catalogue import (
    ContainerAdopted,
    ContainerCreated,
    ContainerDied,
    ContainerEvent,
    ContainerLost,
    ContainerMemoryExhausted,
    ContainerRemoved,
    ContainerStarted,
    ExchangeCompleted,
    ExchangeEvent,
    ExchangeOpened,
    ExchangeSummarized,
    Payload,
    SessionDataRemoved,
    SessionEvent,
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
from events.registry import tags
from projections.lifecycle import SEATED, Phase, next_phase


class Token(msgspec.Struct, frozen=True, gc=False):
    """The newest token of a session; every earlier one ended when it was issued."""

    serial: int
    sha256: str
    secret_id: str
    expires_at: datetime
    revoked: bool = False
    event_id: UUID | None = None  # of its token.issued: what an exchange that showed it is caused by


class SessionState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A session as of ``position``. Times are the log's."""

    session_id: str
    phase: Phase = Phase.ABSENT
    version: int = 0  # of the stream session-{id}: what the next command expects
    position: int = 0  # of the last event that concerned it
    generation: int = 0
    intent_position: int = 0  # of the event that asked for this generation: its place among those who wait
    container: str = ""  # of this generation
    containers: tuple[str, ...] = ()  # of every generation
    container_id: str | None = None
    image: str = ""
    runtime: str = ""
    volumes: tuple[str, ...] = ()  # its kept data; none when that was removed
    host_dir: Sealed | None = None  # folder of HOST_DIR_ROOT that is the workspace
    host_dir_mac: str | None = None
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


class Sessions:
    """The fold. Total: what the lifecycle does not allow changes nothing but ``anomalies``."""

    name: Final = "sessions"
    version: Final = 5
    types: Final = tags(SessionEvent, ContainerEvent, ExchangeEvent)

    def key(self, payload: Payload) -> str | None:
        return cast(_Concerned, payload).session_id if type(payload) in _RULES else None

    def evolve(self, state: SessionState | None, event: RecordedEvent, payload: Payload) -> SessionState | None:
        rule = _RULES.get(type(payload))
        if rule is None:
            return state
        before = state or SessionState(session_id=cast(_Concerned, payload).session_id)
        if event.position <= before.position:
            return state  # told twice
        after = rule(before, event, payload)
        return state if after is before else after


_Concerned = SessionEvent | ContainerEvent | ExchangeEvent


def _in_stream(state: SessionState, event: RecordedEvent, payload: SessionEvent) -> SessionState:
    after = _told(state, event, payload)
    version = event.version if event.stream_id.startswith("session-") else after.version
    return replace(after, position=event.position, version=version)


def _told(state: SessionState, event: RecordedEvent, payload: SessionEvent) -> SessionState:
    match payload:
        case TokenIssued() if state.token is None or payload.serial > state.token.serial:
            told = UUID(int=event.event_id.int)
            secret_id = intern(payload.secret_id)
            token = Token(payload.serial, payload.sha256, secret_id, payload.expires_at, event_id=told)
            return replace(state, token=token)
        case TokenRevoked() if state.token is not None and payload.serial == state.token.serial:
            return replace(state, token=replace(state.token, revoked=True))
        case TokenRevealed():
            return state  # but the stream has moved
        case TokenIssued() | TokenRevoked():
            return _anomaly(state)
        case SessionImported():
            return _imported(state, event, payload)
        case SessionDataRemoved():
            return replace(state, volumes=(), host_dir=None)
        case _:
            return _lifecycle(state, event, payload)


def _used(state: SessionState, event: RecordedEvent, payload: ExchangeEvent) -> SessionState:
    """Nine of ten events are of this kind: one copy, nothing else."""
    if payload.container not in state.containers:
        return state  # no container of this session: its stream is not among those that the session is read from
    exchanges, seen, last = state.exchanges, event.occurred_at, state.last_accessed
    match payload:
        case ExchangeCompleted() | ExchangeOpened():
            exchanges += 1
        case ExchangeSummarized():
            exchanges += payload.exchanges
            if payload.last_at is None:
                return replace(state, position=event.position, exchanges=exchanges)
            seen = payload.last_at
    if last is not None and last > seen:
        seen = last
    return replace(state, position=event.position, exchanges=exchanges, last_accessed=seen)


_Move = SessionRequested | SessionReady | SessionFailed | SessionStopRequested | SessionStopped | SessionResumed


def _lifecycle(state: SessionState, event: RecordedEvent, payload: _Move) -> SessionState:
    phase = next_phase(state.phase, event.type)
    opens = isinstance(payload, SessionRequested | SessionResumed)
    if phase is None or payload.generation != state.generation + (1 if opens else 0):
        return _anomaly(state)
    moved = replace(state, phase=phase)
    match payload:
        case SessionRequested():
            return replace(
                _open(moved, event, payload),
                volumes=payload.volumes,
                host_dir=payload.host_dir,
                host_dir_mac=payload.host_dir_mac,
                opened_by=intern(payload.opened_by),
                owner=payload.owner,
                metadata=payload.metadata,
                asked=payload.asked,
                created_at=event.recorded_at,
            )
        case SessionResumed():
            return _open(moved, event, payload)
        case SessionReady():
            return replace(moved, ready_at=event.recorded_at)
        case SessionFailed():
            return replace(
                moved, reason=payload.reason, detail=payload.detail, ended_at=event.recorded_at, host=None, port=None
            )
        case SessionStopRequested():
            return replace(moved, reason=payload.reason, detail=None)
        case SessionStopped():
            return replace(moved, ended_at=event.recorded_at, host=None, port=None, container_id=None)


def _imported(state: SessionState, event: RecordedEvent, payload: SessionImported) -> SessionState:
    phase = next_phase(state.phase, event.type)
    if phase is None:
        return _anomaly(state)
    return replace(
        state,
        phase=phase,
        imported=True,
        opened_by=intern(payload.opened_by),
        owner=payload.owner,
        metadata=payload.metadata,
        created_at=payload.created_at,
        last_accessed=payload.last_accessed,
        ended_at=event.recorded_at,
        reason="imported",
    )


def _open(state: SessionState, event: RecordedEvent, payload: SessionRequested | SessionResumed) -> SessionState:
    return replace(
        state,
        generation=payload.generation,
        intent_position=event.position,
        container=payload.container,
        containers=(*state.containers, payload.container),
        container_id=None,
        image=intern(payload.image),
        runtime=intern(payload.runtime),
        instance=intern(payload.instance),
        host=None,
        port=None,
        ready_at=None,
        ended_at=None,
        reason=None,
        detail=None,
    )


def _fact(state: SessionState, event: RecordedEvent, payload: ContainerEvent) -> SessionState:
    if payload.container not in state.containers:
        return state  # as in ``_used``
    version = event.version if event.stream_id.startswith("session-") else state.version
    return replace(_container(state, payload), position=event.position, version=version)


def _container(state: SessionState, payload: ContainerEvent) -> SessionState:
    if payload.container != state.container:
        # The end of a former generation may well be told after its successor began; nothing else may.
        return state if isinstance(payload, _LATE) else _anomaly(state)
    match payload:
        case ContainerCreated():
            return replace(state, container_id=payload.container_id)
        case ContainerStarted() | ContainerAdopted() if state.phase not in SEATED:
            return replace(state, container_id=payload.container_id)  # told late: nothing is to be reached there
        case ContainerStarted():
            return replace(state, container_id=payload.container_id, host=intern(payload.host), port=payload.port)
        case ContainerAdopted():
            return replace(
                state,
                container_id=payload.container_id,
                host=intern(payload.host),
                port=payload.port,
                instance=intern(payload.instance),
            )
        case ContainerDied() | ContainerLost():
            return replace(state, host=None, port=None)
        case ContainerMemoryExhausted():
            return state
        case ContainerRemoved():
            return replace(state, host=None, port=None, container_id=None)


_LATE: Final = (ContainerRemoved, ContainerDied, ContainerLost, ContainerMemoryExhausted)


def _anomaly(state: SessionState) -> SessionState:
    return replace(state, anomalies=state.anomalies + 1)


_RULES: Final[dict[type, Callable[[SessionState, RecordedEvent, Any], SessionState]]] = {
    **dict.fromkeys(get_args(SessionEvent), _in_stream),
    **dict.fromkeys(get_args(ContainerEvent), _fact),
    **dict.fromkeys(get_args(ExchangeEvent), _used),
}
