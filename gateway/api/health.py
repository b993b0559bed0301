"""Health: alive, ready, and what an operator wants to know. No key is needed for the first two."""

from collections import Counter

import msgspec
from starlette.responses import Response

from events.errors import EventError
from gateway import errors
from gateway.access.roles import Role
from gateway.api.call import Call, answer
from gateway.proxy.pool import PoolStatus
from projections.lifecycle import SEATED, STATUS, Phase


class Alive(msgspec.Struct, frozen=True):
    status: str


class DatabaseHealth(msgspec.Struct, frozen=True, kw_only=True):
    status: str  # healthy, unavailable
    total_sessions: int
    active_sessions: int


class LogHealth(msgspec.Struct, frozen=True, kw_only=True):
    log_id: str
    head: int | None  # None: the log does not answer
    view: int
    exchanges_waiting: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The bare ``status`` for everybody; the rest for operators."""

    status: str  # healthy, degraded
    storage_backend: str
    database: DatabaseHealth
    log: LogHealth
    runtime: str
    runtime_answers: bool
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
    """The process can serve: the log answers. 503 while draining (``gateway/drain.py``) or without the log."""
    await call.services.store.head()
    return answer(Alive("ready"))


async def health(call: Call) -> Response:
    """Status and figures; always 200 while the process can answer at all."""
    services = call.services
    try:
        head: int | None = (await services.store.head()).position
    except EventError:
        head = None
    answers = await services.docker.ping()
    status = "healthy" if answers and head is not None else "degraded"
    if not await _is_operator(call):
        return answer(Alive(status))
    return answer(_detail(call, status, head, answers))


async def _is_operator(call: Call) -> bool:
    """An operator's key shows more; none, or another one, is no reason to refuse."""
    try:
        caller = await call.services.access.caller(call.request, frozenset({Role.OPERATOR}))
    except Exception as error:
        if errors.refused(error) is None:
            raise
        return False  # no such key, or the log is away: health tells what it can
    return caller is not None


def _detail(call: Call, status: str, head: int | None, answers: bool) -> Health:
    services, states = call.services, call.services.views.sessions.values()
    now = services.recorder.now()
    return Health(
        status=status,
        storage_backend=services.storage,
        database=DatabaseHealth(
            status="healthy" if head is not None else "unavailable",
            total_sessions=len(states),
            active_sessions=sum(state.phase in SEATED for state in states),
        ),
        log=LogHealth(
            log_id=str(services.store.log_id),
            head=head,
            view=services.views.position,
            exchanges_waiting=services.exchanges.waiting,
        ),
        runtime=services.docker.runtime,
        runtime_answers=answers,
        sessions=dict(Counter(STATUS[state.phase].value for state in states if state.phase is not Phase.ABSENT)),
        authenticated_sessions=sum(
            state.token is not None and not state.token.revoked and state.token.expires_at > now for state in states
        ),
        seats_taken=len(services.views.seats.taken),
        seats=services.settings.sessions.max_concurrent_sessions,
        http_connection_pool=services.pool.status(),
        websockets=services.sockets.open,
    )
