"""An application behind our server, drain and middleware on a real socket in this process, and a raw client for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import context
from gateway.drain import Drain
from gateway.middleware import RequestMiddleware
from gateway.server import Address, Server, serving
from gateway.server_settings import ServerSettings

WAIT_SECONDS = 10.0


def problem(status: int) -> ASGIApp:
    """Answers everything with ``status`` and a problem document, websockets' handshakes too."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        body = b'{"status":%d,"request_id":"%b"}' % (status, context.request_id().encode())
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
        await send({"type": f"{kind}.start", "status": status, "headers": headers})
        await send({"type": f"{kind}.body", "body": body})

    return answer


@asynccontextmanager
async def served(
    app: ASGIApp, *, drain_seconds: float = 5.0, trusts: Callable[[str | None], bool] = lambda peer: False
) -> AsyncIterator[tuple[Server, Drain]]:
    """``app`` behind all of it; drained at the end."""
    drain = Drain(app, refuse=problem(503))
    whole = RequestMiddleware(drain, failed=problem(500), trusts=trusts)
    settings = ServerSettings(gateway_bind="127.0.0.1:0", drain_seconds=drain_seconds)
    async with serving(whole, settings, drain=drain) as server:
        yield server, drain


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> None:
        lines = [f"{method} {target} HTTP/1.1", "host: gateway", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1") + body)
        await self.writer.drain()

    async def until(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(end), WAIT_SECONDS)

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and headers, names in lower case."""
        first, *lines = (await self.until(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(first.split(" ")[1]), [(name.lower(), value.strip()) for name, _, value in pairs]

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), WAIT_SECONDS)

    async def body(self, headers: list[tuple[str, str]]) -> bytes:
        length = int(dict(headers)["content-length"])
        return await asyncio.wait_for(self.reader.readexactly(length), WAIT_SECONDS)


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass  # the server was first


async def get(address: Address, target: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    async with connected(address) as client:
        await client.send(target, "connection: close", *headers)
        status, lines = await client.head()
        return status, dict(lines), await client.rest()


async def reached(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)
