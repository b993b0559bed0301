"""Clients of a whole gateway: raw bytes, nobody in particular, websockets, server-sent events."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import httpx
import msgspec
from yarl import URL

from tests.gateway_fixtures import Gateway

SECONDS: Final = 10.0
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reading the trusted certificates takes 30 ms
CLIENT_HOST: Final = "127.0.0.9"  # of a client that must be told apart from the containers' addresses
HANDSHAKE: Final = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
Socket = aiohttp.ClientWebSocketResponse[bool]


class Answer(msgspec.Struct, frozen=True):
    """An answer as bytes on the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    closed: bool  # the gateway closed the connection after it

    @property
    def slug(self) -> str:
        return str(msgspec.json.decode(self.body)["type"]).removeprefix("/problems/")


async def raw(gateway: Gateway, request: bytes) -> Answer:
    """What the gateway answers to exactly these bytes. Raises TimeoutError when it answers nothing."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(request)
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            is_head = request.startswith(b"HEAD ")
            body = b"" if is_head else await reader.readexactly(int(headers.get("content-length", 0)))
            closed = headers.get("connection", "").lower() == "close" and await reader.read() == b""
        return Answer(int(first.split(" ")[1]), headers, body, closed)
    finally:
        writer.close()


@asynccontextmanager
async def nobody(gateway: Gateway, *, host: str = CLIENT_HOST, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key, from an address of its own."""
    transport = httpx.AsyncHTTPTransport(local_address=host, verify=NO_TLS)
    async with httpx.AsyncClient(base_url=gateway.url, transport=transport, headers=headers, timeout=SECONDS) as client:
        yield client


class Served(Protocol):
    """A gateway in this process or in one of its own."""

    @property
    def url(self) -> str: ...


@asynccontextmanager
async def websocket(
    gateway: Served, path: str, *, headers: Mapping[str, str] | None = None, protocols: tuple[str, ...] = ()
) -> AsyncIterator[Socket]:
    """An open websocket. Raises aiohttp.WSServerHandshakeError when it is refused."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(URL(gateway.url + path, encoded=True), headers=headers or {}, protocols=protocols) as socket,
    ):
        yield socket


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event; ``id`` alone when it has no data."""

    id: str | None
    event: str | None
    data: str | None

    @property
    def position(self) -> int:
        assert self.id is not None
        return int(self.id)

    @property
    def json(self) -> Any:
        assert self.data is not None
        return msgspec.json.decode(self.data)


async def frames(answer: httpx.Response) -> AsyncIterator[Frame]:
    """The events of a stream, heartbeats left out. Raises TimeoutError when nothing comes for SECONDS."""
    fields: dict[str, str] = {}
    lines = answer.aiter_lines()
    while True:
        try:
            async with asyncio.timeout(SECONDS):
                line = await anext(lines)
        except StopAsyncIteration:
            return
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        fields.pop("", None)
        if fields:
            yield Frame(fields.get("id"), fields.get("event"), fields.get("data"))
        fields = {}


@asynccontextmanager
async def stream(
    gateway: Gateway, path: str, *, headers: Mapping[str, str] | None = None
) -> AsyncIterator[AsyncIterator[Frame]]:
    """An open stream of server-sent events with the operator's key, unless ``headers`` say otherwise."""
    async with gateway.client.stream("GET", path, headers=headers or {}) as answer:
        assert answer.status_code == 200, answer.status_code
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield frames(answer)
