"""Gives every request its ids, its server span and its access line, and the answer their headers (rows G2, G3).

Plain ASGI, outermost. The span has the names of OpenTelemetry's HTTP conventions; it holds no path (file names are
personal), no query, no client address. What the application lets fall is logged once, with its traceback, and answered
by ``failed``; an answer under way is left without its end, so that nobody takes it for whole.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import context, telemetry, trace_context
from gateway.context import REQUEST_ID_HEADER, RequestContext
from gateway.span import Span
from gateway.trace_context import TRACEPARENT, Header, without

ACCESS_LOGGER: Final = "session_gateway.access"
DENIED: Final = 403
INTERNAL_ERROR_CLOSE: Final = 1011  # RFC 6455, 7.4.1
# What OpenTelemetry calls a known method; another one is a word of the client's and must not become a label.
_METHODS: Final = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"])
_STARTS: Final = ("http.response.start", "websocket.http.response.start")
_BODIES: Final = ("http.response.body", "websocket.http.response.body")

access = logging.getLogger(ACCESS_LOGGER)
log = logging.getLogger("session_gateway.middleware")


class RequestMiddleware:
    """``trusts(peer address)``: whether the peer's ``traceparent`` is continued; another's is linked, in a new trace.

    ``failed`` answers, as an ASGI application, what the application raised on before it began to answer.
    """

    def __init__(self, app: ASGIApp, *, failed: ASGIApp, trusts: Callable[[str | None], bool]) -> None:
        self._app = app
        self._failed = failed
        self._trusts = trusts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        caller = trace_context.extract(scope["headers"])
        continued = caller is not None and self._trusts(_peer(scope))
        with telemetry.span(
            _method(scope),
            "server",
            _attributes(scope),
            parent=caller if continued else None,
            root=not continued,
            linked=None if continued else caller,
        ) as span:
            request = _request(scope, span, began_here=not continued)
            with context.begin(request):
                await self._answer(_Exchange(scope, receive, send, span, request.request_id))

    async def _answer(self, exchange: "_Exchange") -> None:
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.left:
                log.debug("a request ended with its client: %s", type(error).__name__)
            else:
                log.exception("a request failed", extra={"operation": "request"})
                await exchange.fail(self._failed, error)
        finally:
            exchange.end()


class _Exchange:
    """One request and its answer, as they pass through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, span: Span, request_id: str) -> None:
        self.scope = scope
        self.left = False
        self._receive, self._send = receive, send
        self._span = span
        self._lines: tuple[Header, Header] = (
            (REQUEST_ID_HEADER, request_id.encode("ascii")),
            (TRACEPARENT, span.traceparent),
        )
        self._began = time.perf_counter_ns()
        self._received = False  # all of the request, or the websocket's connect
        self._status: int | None = None
        self._close_code: int | None = None
        self._bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        kind = message["type"]
        if kind in ("http.disconnect", "websocket.disconnect"):
            self.left = True
        elif kind != "http.request" or not message.get("more_body", False):
            self._received = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in _STARTS:
            self._status = message["status"]
            message = {**message, "headers": self._marked(message.get("headers", ()), dated=True)}
        elif kind in _BODIES:
            self._bytes += len(message.get("body", b""))
        elif kind == "websocket.accept":
            self._status = 101
            message = {**message, "headers": self._marked(message.get("headers", ()))}
        elif kind == "websocket.send":
            self._bytes += len(message.get("bytes") or (message.get("text") or "").encode())
        elif kind == "websocket.close":
            if self._status is None and "websocket.http.response" in (self.scope.get("extensions") or {}):
                await self._deny()
                return
            self._close_code = message.get("code", 1000)
        await self._send(message)

    async def fail(self, failed: ASGIApp, error: Exception) -> None:
        """Answer for an application that raised, as far as an answer is still possible."""
        self._span.fail(type(error).__qualname__)
        try:
            if self._status is None:
                await failed(self.scope, self._rest, self.send)
            elif self._status == 101:
                await self.send({"type": "websocket.close", "code": INTERNAL_ERROR_CLOSE})
        except OSError as gone:
            log.debug("nobody is left to answer: %s", type(gone).__name__)

    def end(self) -> None:
        """Name the span, and write the line of the access log."""
        now, method = context.current(), _method(self.scope)
        route = now.route if now else None
        self._tell_span(f"{method} {route}" if route else method, route, now.session_id if now else None)
        more = {"close_code": self._close_code} if self._close_code is not None else {}
        access.info(
            "%s %s %s",
            method,
            route or "-",
            "-" if self._status is None else self._status,
            extra={
                "operation": "request",
                "duration_ms": (time.perf_counter_ns() - self._began) // 1000 / 1000,
                "method": method,
                "route": route,
                "status": self._status,
                "bytes": self._bytes,
                **more,
            },
        )

    def _tell_span(self, name: str, route: str | None, session_id: str | None) -> None:
        span = self._span
        if not span.recording:
            return
        if route is not None:
            span.rename(name)
            span.set("http.route", route)
        if session_id is not None:
            span.set("session.id", session_id)
        if self._status is not None:
            span.set("http.response.status_code", self._status)
            if self._status >= 500:
                span.fail(str(self._status))

    async def _deny(self) -> None:
        """A handshake refused by ``websocket.close``: the server's own 403 would carry no header of ours."""
        await self.send(
            {"type": "websocket.http.response.start", "status": DENIED, "headers": [(b"content-length", b"0")]}
        )
        await self.send({"type": "websocket.http.response.body", "body": b""})

    async def _rest(self) -> Message:
        """What ``failed`` receives: what the application left of the request, and then that there is no more."""
        if not self._received:
            return await self.receive()
        if self.scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    def _marked(self, headers: Iterable[Header], *, dated: bool = False) -> list[Header]:
        lines = without(list(headers), REQUEST_ID_HEADER, TRACEPARENT)
        # RFC 9110, 6.6.1: whoever has a clock dates an answer that is not; hypercorn would date proxied ones twice.
        if dated and not any(name.lower() == b"date" for name, _ in lines):
            lines.append((b"date", _date(int(time.time()))))
        lines.extend(self._lines)
        return lines


def _request(scope: Scope, span: Span, *, began_here: bool) -> RequestContext:
    presented = [value for name, value in scope["headers"] if name == REQUEST_ID_HEADER]
    request_id = context.request_id_for(presented, span.trace_id, began_here=began_here)
    span.set("gateway.request_id", request_id)
    return RequestContext(
        request_id=request_id,
        correlation_id=context.correlation_id_of(request_id),
        trace_id=span.trace_id,
        span_id=span.span_id,
    )


def _attributes(scope: Scope) -> dict[str, str]:
    return {
        "http.request.method": _method(scope),
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }


def _method(scope: Scope) -> str:
    method = scope.get("method", "GET")  # a websocket's handshake is a GET
    return method if method in _METHODS else "_OTHER"


def _peer(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


@functools.lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")
