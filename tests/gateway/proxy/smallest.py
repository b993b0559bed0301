"""The smallest gateway that shows the byte path: guard, target, headers, relay, one container; no tokens, no events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope, Send

from docker.service import Address
from gateway.proxy.client import answer
from gateway.proxy.errors import BodyTooLarge, ClientLeft, ContainerTimedOut, GatewayBusy, ProxyError
from gateway.proxy.guard import Refusal, refuse
from gateway.proxy.headers import Hop, to_container
from gateway.proxy.http import Forward, relay
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.result import ExchangeResult, Opened
from gateway.proxy.settings import ProxySettings
from gateway.proxy.target import parse
from gateway.proxy.websocket import ContainerSockets
from tests.gateway.proxy.peers import serving

ID = "ses_0123456789abcdefghjkmnpqrs"
PREFIX = b"/s/" + ID.encode()
CREDENTIAL = b"Basic b3BlbmNvZGU6cHc="
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\n\r\n"
STATUS: dict[type[ProxyError], int] = {BodyTooLarge: 413, ContainerTimedOut: 504, GatewayBusy: 503}


def request(
    target: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"1.1", body: bytes = b""
) -> bytes:
    """A raw request for the session's container."""
    lines = [method + b" " + PREFIX + target + b" HTTP/" + version, b"host: gateway", *headers, b"", b""]
    return b"\r\n".join(lines) + body


class SmallestGateway:
    """An ASGI application. ``results`` and ``opened`` hold what a caller would make events from."""

    def __init__(self, container: Address, settings: ProxySettings) -> None:
        self.container = container
        self.settings = settings
        self.pool = UpstreamPool(settings)
        self.sockets = ContainerSockets(settings, self.pool.dials)
        self.results: list[ExchangeResult] = []
        self.opened: list[Opened] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        refusal = refuse(
            scope,
            max_headers=self.settings.proxy_max_request_headers,
            max_header_bytes=self.settings.proxy_max_request_header_bytes,
        )
        target = refusal or parse(scope["raw_path"], scope["query_string"])
        if isinstance(target, Refusal):
            await self.refuse(scope, receive, send, status=target.status, close=target.close)
            return
        forward = Forward(
            address=self.container,
            raw_target=target.raw_target,
            headers=to_container(scope["headers"], self.hop(scope)),
            added=((b"x-request-id", b"req_1"),),
        )
        if scope["type"] == "websocket":
            result = await self.sockets.relay(
                scope, receive, send, forward=forward, on_open=self.opened.append, on_end=self.results.append
            )
            if not result.started and result.error is not None and not isinstance(result.error, ClientLeft):
                await send({"type": "websocket.http.response.start", "status": 502, "headers": []})
                await send({"type": "websocket.http.response.body", "body": b"", "more_body": False})
            return
        result = await relay(
            scope,
            receive,
            send,
            pool=self.pool,
            forward=forward,
            on_open=self.opened.append,
            on_end=self.results.append,
        )
        if not result.started and result.error is not None and not isinstance(result.error, ClientLeft):
            status = STATUS.get(type(result.error), 502)
            await self.refuse(scope, receive, send, status=status, close=True, unread=result.unread)

    def hop(self, scope: Scope) -> Hop:
        return Hop(
            container_host=f"{self.container.host}:{self.container.port}".encode(),
            credential=CREDENTIAL,
            peer=scope["client"][0],
            scheme="http",
            request_id="req_1",
            prefix=PREFIX,
        )

    async def refuse(
        self, scope: Scope, receive: Receive, send: Send, *, status: int, close: bool, unread: bool = True
    ) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
            return
        headers = [(b"content-length", b"7"), *([(b"connection", b"close")] if close else [])]
        await answer(receive, send, status=status, headers=headers, body=b"refused", unread=unread)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


@asynccontextmanager
async def gateway_for(
    container: Address, settings: ProxySettings | None = None
) -> AsyncIterator[tuple[SmallestGateway, Address]]:
    """The smallest gateway under hypercorn, and where it listens."""
    app = SmallestGateway(container, settings or ProxySettings())
    try:
        async with serving(app) as address:
            yield app, address
    finally:
        await app.sockets.aclose()
        await app.pool.aclose()
