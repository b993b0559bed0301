"""Shapes: what the control routes take and answer, and how state becomes an answer.

``replay`` on the command line shapes the same way, so that what it prints is what ``GET /sessions`` answered.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from docker import host_dirs
from events import codec
from events.catalogue import Payload
from events.envelope import Actor, RecordedEvent, Sealed, session_stream
from events.errors import StoreUnavailable
from events.keyring import Keyring
from events.sealing import ERASED, Place, SubjectKey, sealed_fields, unseal
from gateway.access.caller import MAX_PERSON_CHARACTERS
from gateway.recorder import ACTOR_FIELD
from projections.lifecycle import STATUS
from projections.session_state import SessionState

MAX_METADATA_BYTES = 16 * 1024
LATE: Final = timedelta(seconds=5)  # between what happened and its place in the log: it had waited in a spool
UNAVAILABLE: Final = "[unavailable]"  # a personal field whose key may exist, and cannot be had while the log is away


class CreateSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /sessions``; all of it is optional."""

    image: Annotated[str, Meta(min_length=1, max_length=256, description="one of the allowed images")] | None = None
    owner: (
        Annotated[
            str, Meta(min_length=1, max_length=MAX_PERSON_CHARACTERS, description="whom the session is for; sealed")
        ]
        | None
    ) = None
    host_dir: (
        Annotated[
            str,
            Meta(
                pattern=f"^{host_dirs.NAME}$",
                description="name of a folder beneath HOST_DIR_ROOT that is the workspace instead of a volume; sealed",
            ),
        ]
        | None
    ) = None
    metadata: Annotated[dict[str, Any], Meta(description="the frontend's own words, up to 16 KiB; sealed")] | None = (
        None
    )


class Links(msgspec.Struct, frozen=True, kw_only=True):
    self: str
    progress: str
    proxy: str


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session as of ``position``."""

    session_id: str
    status: str  # creating, running, stopped, error
    phase: str
    generation: int
    image: str
    runtime: str
    container: str
    opened_by: str
    owner: str | None
    metadata: Any
    host_dir: str | None
    created_at: datetime | None
    ready_at: datetime | None
    ended_at: datetime | None
    last_accessed: datetime | None
    reason: str | None
    detail: str | None
    exchanges: int
    token_expires_at: datetime | None
    anomalies: int
    position: int
    waiting_place: int | None = None  # told by GET /sessions/{id} of now, while others are to boot before
    links: Links


class SessionOpened(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an opening: the only one, beside the reveal, that holds a token."""

    session_id: str
    status: str
    position: int
    token: str
    expires_at: datetime
    reason: str | None = None
    detail: str | None = None
    links: Links


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    """``next`` is the cursor of the page behind this one; null at the end of the list."""

    sessions: list[SessionView]
    position: int
    next: str | None = None


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded event with its personal fields opened, or ``[erased]``."""

    position: int
    recorded_at: datetime
    stream_id: str
    version: int
    event_id: str
    type: str
    schema_version: int
    payload: dict[str, Any]
    actor: dict[str, Any]
    causation_id: str | None
    correlation_id: str | None
    trace_id: str | None
    span_id: str | None
    occurred_at: datetime
    unreadable: str | None = None  # why, where the payload is nothing that a release wrote; it then is ``raw`` alone


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """All that was asked for in (``after``, ``next``], up to the limit.

    ``complete``: everything up to the end was looked at, which is ``until`` or else ``head``, the log's at that time.
    ``cursor`` goes on beyond ``next``, also after the head of now; None when the reading has come to its end.
    ``next`` as ``after`` does the same, and knows no log. ``unknown_types``: of the types and families that were asked
    for, those that this release knows no event of: misspelt, or a later release's.
    """

    events: list[EventView]
    after: int
    until: int | None
    next: int
    head: int
    complete: bool
    cursor: str | None
    unknown_types: tuple[str, ...] = ()


def links(session_id: str) -> Links:
    base = f"/sessions/{session_id}"
    return Links(self=base, progress=f"{base}/progress", proxy=f"/s/{session_id}/")


def in_order(states: Iterable[SessionState]) -> list[SessionState]:
    """Sessions as every list of them shows them: by creation. What was never requested is none."""
    return sorted(
        (state for state in states if state.created_at is not None),
        key=lambda state: (state.created_at, state.session_id),
    )


async def sessions(states: Sequence[SessionState], keyring: Keyring) -> list[SessionView]:
    """Views of ``states``, in their order, personal fields opened where their keys still exist.

    Raises StoreUnavailable when a key is not here and the log is away: ``sessions_at_hand`` does without.
    """
    keys = await _keys(_key_ids_of(states), keyring)
    return [_session(state, keys) for state in states]


async def sessions_at_hand(states: Sequence[SessionState], keyring: Keyring) -> list[SessionView]:
    """As ``sessions``; while the log is away a field whose key is not here is ``[unavailable]``."""
    try:
        return await sessions(states, keyring)
    except StoreUnavailable:
        keys = keyring.known(_key_ids_of(states))
        return [_session(state, keys) for state in states]


async def _keys(ids: Iterable[str], keyring: Keyring) -> dict[str, SubjectKey | None]:
    """Each of ``ids`` with its key, or None when it was destroyed. Raises StoreUnavailable."""
    wanted = set(ids)
    return {**dict.fromkeys(wanted), **await keyring.keys(wanted)}


def _key_ids_of(states: Iterable[SessionState]) -> set[str]:
    sealed = (value for state in states for value in (state.owner, state.metadata, state.host_dir))
    return {value.k for value in sealed if value is not None}


def _session(state: SessionState, keys: Mapping[str, SubjectKey | None]) -> SessionView:
    metadata = _open(state.metadata, keys, _place(state, "metadata"))
    return SessionView(
        session_id=state.session_id,
        status=STATUS[state.phase].value,
        phase=state.phase.value,
        generation=state.generation,
        image=state.image,
        runtime=state.runtime,
        container=state.container,
        opened_by=state.opened_by,
        owner=_open(state.owner, keys, _place(state, "owner")),
        metadata=metadata if metadata in (None, ERASED, UNAVAILABLE) else msgspec.json.decode(metadata),
        host_dir=_open(state.host_dir, keys, _place(state, "host_dir")),
        created_at=state.created_at,
        ready_at=state.ready_at,
        ended_at=state.ended_at,
        last_accessed=state.last_accessed,
        reason=state.reason,
        detail=state.detail,
        exchanges=state.exchanges,
        token_expires_at=state.token.expires_at if state.token and not state.token.revoked else None,
        anomalies=state.anomalies,
        position=state.position,
        links=links(state.session_id),
    )


def _place(state: SessionState, field: str) -> Place:
    event_type = "session.imported" if state.imported else "session.requested"
    return Place(session_stream(state.session_id), event_type, field)


async def unsealed(sealed: Sealed | None, state: SessionState, field: str, keyring: Keyring) -> str | None:
    """One personal field of a session in clear; None when there is none, ``[erased]`` when its key is gone."""
    keys = await _keys([sealed.k] if sealed else [], keyring)
    return _open(sealed, keys, _place(state, field))


def _open(sealed: Sealed | None, keys: Mapping[str, SubjectKey | None], place: Place) -> str | None:
    """``keys``: None where it was destroyed."""
    if sealed is None:
        return None
    if sealed.k not in keys:
        return UNAVAILABLE
    key = keys[sealed.k]
    return ERASED if key is None else unseal(key, sealed, place)


async def events(recorded: Sequence[RecordedEvent], keyring: Keyring) -> list[EventView]:
    """Views of events, personal fields opened where their keys still exist."""
    decoded = [(event, codec.decode(event), codec.decode_actor(event)) for event in recorded]
    keys = await _keys(_key_ids(decoded), keyring)
    return [_event(event, payload, actor, keys) for event, payload, actor in decoded]


def _key_ids(decoded: Iterable[tuple[RecordedEvent, Payload | codec.Unknown, Actor]]) -> Iterable[str]:
    for _, payload, actor in decoded:
        if actor.on_behalf_of is not None:
            yield actor.on_behalf_of.k
        if not isinstance(payload, codec.Unknown):
            yield from (sealed.k for sealed in sealed_fields(payload).values())


def _event(
    event: RecordedEvent, payload: Payload | codec.Unknown, actor: Actor, keys: Mapping[str, SubjectKey | None]
) -> EventView:
    shown, problem = codec.fields_of(event.payload), None
    if isinstance(payload, codec.Unreadable) or shown is None:
        problem = payload.problem if isinstance(payload, codec.Unreadable) else "it is no object of JSON"
        shown = {"raw": escaped(event.payload)}
    if not isinstance(payload, codec.Unknown):
        for name, sealed in sealed_fields(payload).items():
            shown[name] = _open(sealed, keys, Place(event.stream_id, event.type, name))
    actor_shown: dict[str, Any] = {"kind": "unreadable", "id": escaped(event.actor)}
    if not isinstance(actor, codec.UnreadableActor):
        actor_shown = codec.fields_of(event.actor) or actor_shown
    actor_shown["on_behalf_of"] = _open(actor.on_behalf_of, keys, Place(event.stream_id, event.type, ACTOR_FIELD))
    return EventView(
        position=event.position,
        recorded_at=event.recorded_at,
        stream_id=event.stream_id,
        version=event.version,
        event_id=str(event.event_id),
        type=event.type,
        schema_version=event.schema_version,
        payload=shown,
        actor=actor_shown,
        causation_id=str(event.causation_id) if event.causation_id else None,
        correlation_id=str(event.correlation_id) if event.correlation_id else None,
        trace_id=event.trace_id.hex() if event.trace_id else None,
        span_id=event.span_id.hex() if event.span_id else None,
        occurred_at=event.occurred_at,
        unreadable=problem,
    )


def escaped(raw: bytes) -> str:
    """Bytes of any kind as ASCII that can be turned back: backslashes are doubled."""
    return raw.decode("latin-1").encode("unicode_escape").decode()


def microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def late_us(event: RecordedEvent) -> int | None:
    """How long after it happened the log had it, in microseconds, where that was over 5 seconds: it had to wait."""
    late = event.recorded_at - event.occurred_at
    return microseconds(late) if late > LATE else None


class ProgressView(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a session, for its owner: no personal field, no credential."""

    type: str
    session_id: str
    position: int
    recorded_at: datetime
    facts: dict[str, Any]


def progress(event: RecordedEvent, payload: Payload, session_id: str) -> ProgressView:
    shown: dict[str, Any] = msgspec.json.decode(event.payload)
    hidden = {
        *sealed_fields(payload),
        "type",
        "session_id",
        "sha256",
        "secret_id",
        "opened_by",
        "host_dir_mac",
        "instance",
        "host",
        "port",
    }
    return ProgressView(
        type=event.type,
        session_id=session_id,
        position=event.position,
        recorded_at=event.recorded_at,
        facts={name: value for name, value in shown.items() if name not in hidden},
    )
