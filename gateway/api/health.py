"""Health: alive, ready, and what an operator wants to know. No key is needed for the first two.

None of them waits for a log that is away, and none adds to its load: figures are looked up at most once a second.
"""

from collections import Counter
from datetime import datetime

import msgspec
from starlette.responses import Response

from docker.aiodocker_service import AiodockerService
from docker.service import DockerService
from gateway import errors
from gateway.access.roles import Role
from gateway.api.call import Call, answer
from gateway.look import size_text
from gateway.proxy.pool import PoolStatus
from gateway.workers.certs import InUse
from projections.lifecycle import SEATED, STATUS, Phase
from projections.table_report import Proved


class Alive(msgspec.Struct, frozen=True):
    status: str


class DatabaseHealth(msgspec.Struct, frozen=True, kw_only=True):
    """In the words of the product's first description."""

    status: str  # healthy, unavailable
    total_sessions: int
    active_sessions: int
    database_size: str | None  # "25 MB", at most a minute old; while the log is away the last that was seen


class LogHealth(msgspec.Struct, frozen=True, kw_only=True):
    log_id: str
    kept_in: str  # database, embedded, json, memory
    head: int | None  # None: the log does not answer
    view: int
    tables: int | None  # the position that every table holds; None: there are none, or they do not answer
    proofs: dict[str, Proved] | None  # the last comparison of each table with the log, a minute old; None: no tables
    forked_at: int | None  # the first position known to hold another event than this process has read
    seen_ms_ago: int  # since when something may be in the log that this process does not know
    stale: bool  # for longer than STALE_LIMIT: tokens and keys are refused
    away_since: datetime | None
    spooled_units: int  # durable here, not in the log yet
    spooled_bytes: int
    rejected_units: int  # refused by the log at a replay, and put aside: a fault of ours
    unreadable: int  # events that nobody can read and every fold passes over; each has an alert.raised
    turned_away: int  # requests answered 503 for want of the log (view-stale too), since the process started
    exchanges_waiting: int


class HostAddressHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Where the gateway reaches the ports that the daemon publishes, and by which method it knows."""

    address: str
    method: str
    confirmed: bool  # the daemon answers there
    age_seconds: int  # since it was looked for


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The bare ``status`` for everybody; the rest for operators."""

    status: str  # healthy, degraded, forked
    storage_backend: str
    database: DatabaseHealth
    log: LogHealth
    runtime: str
    runtime_answers: bool
    certificates: tuple[InUse, ...] | None  # between us and the daemon; None: the runtime has none
    warnings: tuple[str, ...]  # sentences for an operator; what is warned of works still
    host_address: HostAddressHealth | None  # None: no daemon, or not known yet
    sessions: dict[str, int]
    authenticated_sessions: int
    seats_taken: int
    seats: int
    http_connection_pool: PoolStatus
    websockets: int


async def livez(call: Call) -> Response:
    """The process runs."""
    return answer(Alive("alive"))


async def readyz(call: Call) -> Response:
    """The process can serve. ``degraded`` while the log is away: running sessions are, and can be stopped.

    503 while draining (``gateway/drain.py``), and when the log has been away for longer than STALE_LIMIT.
    """
    call.services.outages.refuse_stale()
    return answer(Alive("ready" if call.services.store.status.available else "degraded"))


async def health(call: Call) -> Response:
    """Status and figures; always 200 while the process can answer at all."""
    services = call.services
    head = await services.head.now()
    answers = await services.docker.ping()
    status = "healthy" if answers and head is not None else "degraded"
    if services.views.forked is not None:
        status = "forked"
    if not await _is_operator(call):
        return answer(Alive(status))
    await services.size.now()
    tables = await services.tables.now() if services.tables is not None else None
    return answer(_detail(call, status, head, answers, tables))


async def _is_operator(call: Call) -> bool:
    """An operator's key shows more; none, or another one, is no reason to refuse."""
    try:
        caller = await call.services.access.caller(call.request, frozenset({Role.OPERATOR}), always=True, look=False)
    except Exception as error:
        if errors.refused(error) is None:
            raise
        return False  # no such key, as far as is known here: nobody who asks after our health waits for the log
    return caller is not None


def _detail(call: Call, status: str, head: int | None, answers: bool, tables: int | None) -> Health:
    services, states = call.services, call.services.views.sessions.values()
    now = services.recorder.now()
    certificates = None if services.certificates is None else services.certificates.standing
    return Health(
        status=status,
        storage_backend="database" if services.storage == "embedded" else services.storage,
        database=DatabaseHealth(
            status="healthy" if head is not None else "unavailable",
            total_sessions=len(states),
            active_sessions=sum(state.phase in SEATED for state in states),
            database_size=None if services.size.last is None else size_text(services.size.last),
        ),
        log=_log(call, head, tables),
        runtime=services.docker.runtime,
        runtime_answers=answers,
        certificates=None if certificates is None else certificates.certificates,
        warnings=() if certificates is None else certificates.warnings,
        host_address=_host_address(services.docker),
        sessions=dict(Counter(STATUS[state.phase].value for state in states if state.phase is not Phase.ABSENT)),
        authenticated_sessions=sum(
            state.token is not None and not state.token.revoked and state.token.expires_at > now for state in states
        ),
        seats_taken=len(services.views.seats.taken),
        seats=services.settings.sessions.max_concurrent_sessions,
        http_connection_pool=services.pool.status(),
        websockets=services.sockets.open,
    )


def _host_address(docker: DockerService) -> HostAddressHealth | None:
    if not isinstance(docker, AiodockerService) or (last := docker.host.last) is None:
        return None
    return HostAddressHealth(
        address=last.address, method=last.method.value, confirmed=last.confirmed, age_seconds=int(docker.host.age)
    )


def _log(call: Call, head: int | None, tables: int | None) -> LogHealth:
    services, status = call.services, call.services.store.status
    return LogHealth(
        log_id=str(services.store.log_id),
        kept_in=services.storage,
        head=None if head is None else max(head, services.views.position),  # the look may be older than the view
        view=services.views.position,
        tables=tables,
        proofs=None if services.proving is None else dict(services.proving.last),
        forked_at=None if services.views.forked is None else services.views.forked.differs_from,
        seen_ms_ago=round(services.outages.unseen() * 1000),
        stale=services.outages.is_stale,
        away_since=status.away_since,
        spooled_units=status.spooled_units,
        spooled_bytes=status.spooled_bytes,
        rejected_units=status.rejected_units,
        unreadable=services.unreadables.count,
        turned_away=services.outages.turned_away,
        exchanges_waiting=services.exchanges.waiting,
    )
