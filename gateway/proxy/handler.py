"""The order of steps for one proxied request, and nothing else.

Target, session, token, headers, relay, record. In memory all the way: no database round trip before the last byte,
except for what is refused, and for the opening of an exchange where ACCESS_DURABILITY=before.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from docker.service import Address
from events import ids
from events.envelope import ActorKind
from gateway import context, errors, telemetry
from gateway.access import tokens
from gateway.access.caller import Access, bearer
from gateway.access.tokens import Tokens
from gateway.errors import Refused
from gateway.outages import Outages
from gateway.proxy import guard, headers, http, target
from gateway.proxy.client import answer, has_body
from gateway.proxy.errors import ClientLeft, ProxyError, Unrecorded
from gateway.proxy.exchange_records import Exchange
from gateway.proxy.exchanges import UNRECORDED, ExchangeLog
from gateway.proxy.headers import Hop, Network
from gateway.proxy.http import Forward
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.result import ExchangeResult, Opened
from gateway.proxy.target import Target
from gateway.proxy.websocket import ContainerSockets
from gateway.recorder import Who
from gateway.sessions.runner import address_of
from projections.session_state import SessionState
from projections.views import Views

ROUTE = "/s/{session_id}/{path}"
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
CLIENT_LEFT = 499  # what the record says when there was nobody to answer


class ProxyParts(msgspec.Struct, frozen=True, kw_only=True):
    """What the proxy works with."""

    views: Views
    access: Access
    outages: Outages
    tokens: Tokens
    pool: UpstreamPool
    sockets: ContainerSockets
    exchanges: ExchangeLog
    now: Callable[[], datetime]
    trusted: tuple[Network, ...]
    origins: frozenset[str]


class Proxy:
    """Raw ASGI: whatever is under ``/s/``."""

    def __init__(self, parts: ProxyParts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context.set_route(ROUTE)
        found = target.parse(scope["raw_path"], scope["query_string"])
        session_id = found.session_id if isinstance(found, Target) else None
        try:
            if not isinstance(found, Target):
                raise Refused.of(found)
            context.set_session(found.session_id)
            state = await self._admit(scope, found)
        except Exception as error:
            refusal = errors.refused(error)
            if refusal is None:
                raise
            await self._refuse(scope, receive, send, refusal, session_id)
            return
        await self._forward(scope, receive, send, state, found)

    async def _admit(self, scope: Scope, found: Target) -> SessionState:
        """The ready session that this request may use. Raises Refused; looks at the log's head before it does."""
        views = self._parts.views
        presented = _token(scope)
        refusal = self._check(scope, views.sessions.get(found.session_id), presented)
        if refusal is not None and presented is not None and await self._parts.access.news(refusal):
            refusal = self._check(scope, views.sessions.get(found.session_id), presented)
        if refusal is not None:
            raise refusal
        self._parts.outages.refuse_stale()
        return views.sessions[found.session_id]

    def _check(self, scope: Scope, state: SessionState | None, presented: str | None) -> Refused | None:
        if scope["type"] == "websocket":
            secure = scope["scheme"] == "wss"
            origin = guard.refuse_origin(scope["headers"], secure=secure, allowed=self._parts.origins)
            if origin is not None:
                return Refused.of(origin)
        if state is None or state.created_at is None:
            # Without a token nobody learns which sessions exist.
            return Refused("session-unknown" if presented else "no-credential", "No such session, or no token for it.")
        refusal = tokens.check(presented, state.token, self._parts.now())
        if refusal is not None:
            return refusal
        if address_of(state) is not None:
            return None
        # An ended session's token was revoked in the same unit: what is left is being made, or has just died.
        return Refused("session-not-ready", "The session's container does not serve yet; try again.", retry_after=1)

    async def _forward(self, scope: Scope, receive: Receive, send: Send, state: SessionState, found: Target) -> None:
        address = address_of(state)
        assert address is not None
        exchange = _exchange(scope, state, found)
        with telemetry.span("proxy.upstream", kind="client", attributes=_attributes(scope, state)) as span:
            hop = Hop(
                container_host=_authority(address),
                credential=self._parts.tokens.authorization(state.container),
                peer=scope["client"][0] if scope.get("client") else None,
                scheme=_SCHEMES[scope["scheme"]],
                request_id=context.request_id(),
                traceparent=span.traceparent,
                prefix=f"/s/{state.session_id}".encode(),
                trusted=self._parts.trusted,
            )
            forward = Forward(
                address=address,
                raw_target=found.raw_target,
                headers=headers.to_container(scope["headers"], hop),
            )
            record = _Recording(self._parts.exchanges, exchange)
            await self._relay(scope, receive, send, forward, record)
            span.set("http.response.status_code", record.status)

    async def _relay(self, scope: Scope, receive: Receive, send: Send, forward: Forward, record: "_Recording") -> None:
        relay: Any = self._parts.sockets.relay
        more: dict[str, Any] = {}
        if scope["type"] == "http":
            relay, more = http.relay, {"pool": self._parts.pool}
        try:
            await record.begin()
        except Unrecorded as error:
            refusal = _refusal(error)
            self._parts.outages.count(refusal)
            await answer_problem(scope, receive, send, refusal)
            return
        result: ExchangeResult = await relay(
            scope, receive, send, forward=forward, on_open=record.opened, on_end=record.ended, **more
        )
        if result.started or isinstance(result.error, ClientLeft) or result.error is None:
            return
        await _answer(scope, receive, send, _refusal(result.error), unread=result.unread)

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, refusal: Refused, session_id: str | None
    ) -> None:
        connection = HTTPConnection(scope)
        self._parts.outages.count(refusal)
        if refusal.denial is not None:
            await self._parts.access.deny(
                refusal,
                method=scope.get("method", "WEBSOCKET"),
                route=ROUTE,
                who=Who(kind=ActorKind.ANONYMOUS, id="unknown"),
                session_id=session_id,
                client=connection.client.host if connection.client else None,
            )
        await answer_problem(scope, receive, send, refusal)


class _Recording:
    """Turns the beginning and the end of one exchange into its records."""

    def __init__(self, log: ExchangeLog, exchange: Exchange) -> None:
        self._log = log
        self._exchange = exchange
        self._was_opened = False
        self.status = UNRECORDED

    async def begin(self) -> None:
        """Before anything is forwarded. Raises Unrecorded: then nothing may be."""
        if self._log.opens_before:
            await self._log.begin(self._exchange)
            self._was_opened = True

    def opened(self, opened: Opened) -> None:
        if opened.is_stream and not self._was_opened:
            self._was_opened = self._log.opened(self._exchange, opened)

    def ended(self, result: ExchangeResult) -> None:
        self.status = _status(result)
        self._log.ended(self._exchange, result, self.status, was_opened=self._was_opened)


def _status(result: ExchangeResult) -> int:
    """What the client got."""
    if result.started or result.error is None:
        return result.status or 0
    if isinstance(result.error, ClientLeft):
        return CLIENT_LEFT
    return _refusal(result.error).status


def _refusal(error: ProxyError) -> Refused:
    return errors.refused(error) or Refused("internal", "The gateway failed.")


def _exchange(scope: Scope, state: SessionState, found: Target) -> Exchange:
    return Exchange(
        exchange_id=ids.uuid7(),
        session_id=state.session_id,
        container=state.container,
        owner_key=state.owner.k if state.owner else None,
        kind=scope["type"],
        method=scope.get("method", "GET"),
        path=found.raw_target.partition(b"?")[0].decode("ascii", "replace"),
        client=scope["client"][0] if scope.get("client") else None,
        who=Who(kind=ActorKind.SESSION, id=state.session_id),
        cause=msgspec.structs.replace(context.cause(), causation_id=state.token.event_id if state.token else None),
    )


def _authority(address: Address) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}".encode()


def _attributes(scope: Scope, state: SessionState) -> dict[str, str]:
    return {"http.request.method": scope.get("method", "GET"), "session.id": state.session_id}


def _token(scope: Scope) -> str | None:
    """The session token: a bearer, or (websockets) the subprotocol ``session-token.<token>``; never a cookie here."""
    presented = bearer(HTTPConnection(scope))
    if presented is None and scope["type"] == "websocket":
        raw = headers.token_subprotocol(scope["headers"])
        presented = raw.decode("latin-1") if raw else None
    return presented


async def answer_problem(scope: Scope, receive: Receive, send: Send, refusal: Refused) -> None:
    """Refuse a request, or a websocket's handshake, that nothing was read of yet."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
    await _answer(scope, receive, send, refusal, unread=scope["type"] == "http" and has_body(scope))


async def _answer(scope: Scope, receive: Receive, send: Send, refusal: Refused, *, unread: bool) -> None:
    """A problem answer of our own; for a websocket the handshake's, where the server can send one (ASGI extension)."""
    document = errors.body(refusal, context.request_id())
    lines = [*errors.headers(refusal), (b"content-length", str(len(document)).encode())]
    if scope["http_version"] == "2":
        lines = [line for line in lines if line[0] != b"connection"]  # RFC 9113 section 8.2.2
    if scope["type"] == "http":
        await answer(receive, send, status=refusal.status, headers=lines, body=document, unread=unread)
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": lines})
        await send({"type": "websocket.http.response.body", "body": document})
    else:
        await send({"type": "websocket.close", "code": 1008})
