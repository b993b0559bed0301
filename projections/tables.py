"""Tables: every projection that stands in Postgres, with its columns. ``sql/15x`` makes them, one a file."""

import sys
from typing import Any, Final

import msgspec

from events.envelope import Sealed
from projections.admission import Admission, Seats
from projections.api_keys import ApiKey, ApiKeys
from projections.erasures import Erased, Erasures
from projections.exchanges import Exchanges, ExchangeState
from projections.gateways import Gateways, GatewayState
from projections.health_history import HealthHistories, HealthHistory
from projections.lifecycle import STATUS
from projections.session_state import Sessions, SessionState
from projections.table import Column, Table, as_jsonb
from projections.tokens import Tokens, TokenState


def _session(session_id: str, state: SessionState) -> tuple[Any, ...]:
    return (
        session_id,
        state.container or None,
        state.container_id,
        state.volumes[1] if len(state.volumes) > 1 else None,  # home and workspace; a folder of the host is sealed
        state.port,
        state.token.sha256 if state.token else None,
        state.created_at,
        state.last_accessed,
        STATUS.get(state.phase),
        _json(state.metadata),
    )


def _lean_session(session_id: str, state: SessionState) -> SessionState:
    """Read from JSON every text is an object of its own: a fifth of what a session takes, for the same few words."""
    owner, token = state.owner, state.token
    return msgspec.structs.replace(
        state,
        session_id=session_id if session_id == state.session_id else state.session_id,
        container=state.containers[-1] if state.container in state.containers[-1:] else state.container,
        image=sys.intern(state.image),
        runtime=sys.intern(state.runtime),
        opened_by=sys.intern(state.opened_by),
        instance=sys.intern(state.instance),
        host=None if state.host is None else sys.intern(state.host),
        metadata=_under_key(owner, state.metadata),
        asked=_under_key(owner, state.asked),
        token=None if token is None else msgspec.structs.replace(token, secret_id=sys.intern(token.secret_id)),
    )


def _under_key(owner: Sealed | None, other: Sealed | None) -> Sealed | None:
    """A session's sealed fields are mostly of one subject, under one key."""
    if owner is None or other is None or owner.k != other.k:
        return other
    return Sealed(owner.k, other.n, other.c)


def _api_key(key_id: str, state: ApiKey) -> tuple[Any, ...]:
    return key_id, state.name, state.role, state.sha256, state.created_at, state.expires_at, state.revoked_at


def _seats(name: str, state: Seats) -> tuple[Any, ...]:
    return name, state.version, len(state.taken), as_jsonb(state.taken)


def _gateway(instance: str, state: GatewayState) -> tuple[Any, ...]:
    return instance, state.started_at, state.ended_at, state.crashed


def _erased(name: str, state: Erased) -> tuple[Any, ...]:
    return name, len(state.key_ids)


def _health(session_id: str, state: HealthHistory) -> tuple[Any, ...]:
    return (
        *(session_id, state.status, state.since, state.container, state.checks, state.healthy, state.failed),
        *(state.average_us, state.p95_us, state.slowest_us, state.first_at, state.last_at, state.dropped),
    )


def _exchange(exchange_id: str, state: ExchangeState) -> tuple[Any, ...]:
    return (
        exchange_id,
        state.session_id,
        state.container,
        state.kind,
        state.method,
        state.status,
        state.bytes_in,
        state.bytes_out,
        state.first_byte_us,
        state.duration_us,
        state.began_at,
        state.ended_at,
        state.ended_by,
        state.error,
        state.reason,
        state.exchanges,
        state.failed,
        state.closed,
    )


def _token(token: str, state: TokenState) -> tuple[Any, ...]:
    return (
        *(token, state.session_id, state.serial, state.sha256, state.secret_id, state.issued_at, state.expires_at),
        *(state.revealed, state.revealed_at, state.revoked_at, state.reason),
    )


def _json(sealed: Sealed | None) -> str | None:
    return None if sealed is None else as_jsonb(sealed)


SESSIONS: Final = Table(
    projection=Sessions(),
    state=SessionState,
    columns=(
        Column("session_id", "text", indexed=True),
        Column("container_name", "text"),
        Column("container_id", "text"),
        Column("host_dir", "text"),
        Column("port", "bigint"),
        Column("auth_token", "text"),
        Column("created_at", "timestamptz"),
        Column("last_accessed", "timestamptz"),
        Column("status", "text", indexed=True),
        Column("metadata", "jsonb"),
    ),
    row=_session,
    lean=_lean_session,
)
API_KEYS: Final = Table(
    projection=ApiKeys(),
    state=ApiKey,
    columns=(
        Column("key_id", "text", indexed=True),
        Column("name", "text"),
        Column("role", "text"),
        Column("sha256", "text"),
        Column("created_at", "timestamptz"),
        Column("expires_at", "timestamptz"),
        Column("revoked_at", "timestamptz"),
    ),
    row=_api_key,
)
ADMISSION: Final = Table(
    projection=Admission(),
    state=Seats,
    columns=(
        Column("name", "text", indexed=True),
        Column("version", "bigint"),
        Column("seats", "bigint"),
        Column("taken", "jsonb"),
    ),
    row=_seats,
)
GATEWAYS: Final = Table(
    projection=Gateways(),
    state=GatewayState,
    columns=(
        Column("instance", "text", indexed=True),
        Column("started_at", "timestamptz"),
        Column("ended_at", "timestamptz"),
        Column("crashed", "boolean"),
    ),
    row=_gateway,
)
ERASURES: Final = Table(
    projection=Erasures(),
    state=Erased,
    columns=(Column("name", "text", indexed=True), Column("subjects", "bigint")),
    row=_erased,
)
HEALTH_HISTORY: Final = Table(
    projection=HealthHistories(),
    state=HealthHistory,
    columns=(
        *(Column("session_id", "text", indexed=True), Column("status", "text", indexed=True)),
        Column("since", "timestamptz"),
        *(Column("container", "text"), Column("checks", "bigint"), Column("healthy", "bigint")),
        *(Column("failed", "bigint"), Column("average_us", "bigint"), Column("p95_us", "bigint")),
        *(Column("slowest_us", "bigint"), Column("first_at", "timestamptz"), Column("last_at", "timestamptz")),
        Column("dropped", "bigint"),
    ),
    row=_health,
)
EXCHANGES: Final = Table(
    projection=Exchanges(),
    state=ExchangeState,
    columns=(
        *(Column(name, "text", indexed=True) for name in ("exchange_id", "session_id")),
        *(Column(name, "text") for name in ("container", "kind", "method")),
        *(Column(name, "bigint") for name in ("status", "bytes_in", "bytes_out", "first_byte_us", "duration_us")),
        *(Column(name, "timestamptz") for name in ("began_at", "ended_at")),
        *(Column(name, "text") for name in ("ended_by", "error", "reason")),
        *(Column(name, "bigint") for name in ("exchanges", "failed", "closed")),
    ),
    row=_exchange,
)
TOKENS: Final = Table(
    projection=Tokens(),
    state=TokenState,
    columns=(
        *(
            Column("token", "text", indexed=True),
            Column("session_id", "text", indexed=True),
            Column("serial", "bigint"),
        ),
        *(Column("sha256", "text", indexed=True), Column("secret_id", "text"), Column("issued_at", "timestamptz")),
        *(Column("expires_at", "timestamptz"), Column("revealed", "bigint"), Column("revealed_at", "timestamptz")),
        *(Column("revoked_at", "timestamptz"), Column("reason", "text")),
    ),
    row=_token,
)

VIEWED: Final[tuple[Table[Any], ...]] = (SESSIONS, API_KEYS, ADMISSION, GATEWAYS, ERASURES)  # in memory everywhere
TABLES: Final[tuple[Table[Any], ...]] = (*VIEWED, HEALTH_HISTORY, EXCHANGES, TOKENS)
