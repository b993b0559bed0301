"""Real peers for the byte path's tests: scripted containers on raw sockets, hypercorn in this process, raw clients."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import ASGIApp, Receive, Scope, Send

from docker.service import Address
from gateway.proxy import hypercorn_websocket

Script = Callable[["Peer"], Awaitable[None]]
WAIT_SECONDS = 5.0


class Peer:
    """One connection as the container sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.received = bytearray()
        self.closed_at: float | None = None
        self.closed = asyncio.Event()

    async def head(self) -> bytes:
        """The next request's head, raw; b"" when the gateway closed instead."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            self.received += error.partial
            return b""
        self.received += head
        return head

    async def body(self, size: int) -> bytes:
        data = await self.reader.readexactly(size)
        self.received += data
        return data

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the gateway closed its side; what comes before is kept in ``received``."""
        try:
            while data := await self.reader.read(65536):
                self.received += data
        except ConnectionError:
            pass  # reset: gone as well
        self.closed_at = asyncio.get_running_loop().time()
        self.closed.set()


class Container:
    """A scripted container: its address and the connections it has had."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.peers: list[Peer] = []
        self.new_peer = asyncio.Event()


@asynccontextmanager
async def container(script: Script) -> AsyncIterator[Container]:
    """Run ``script`` for each connection; the connection is closed when it returns."""
    tasks: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    async def run(peer: Peer) -> None:
        try:
            await script(peer)
        except ConnectionError:
            pass  # the gateway hung up: what many of these tests are about
        finally:
            peer.writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        it.peers.append(peer)
        it.new_peer.set()
        task = asyncio.create_task(run(peer))
        tasks.add(task)
        task.add_done_callback(finished)

    def finished(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**20)
    it = Container(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    try:
        yield it
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        assert not failures, failures


def answers(*raw: bytes) -> Script:
    """A container that answers each request on a connection with the next of ``raw``, then closes."""

    async def script(peer: Peer) -> None:
        for response in raw:
            if not await peer.head():
                return
            await peer.send(response)

    return script


def ok(body: bytes = b"hi", *extra: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *extra, b"", b""]
    return b"\r\n".join(lines) + body


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Address]:
    """hypercorn in this process, as the product runs it, on a port of its own. The application must not raise."""
    failures: list[Exception] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            failures.append(error)
            raise

    hypercorn_websocket.install()
    listener = socket.create_server(("127.0.0.1", 0))
    address = Address("127.0.0.1", listener.getsockname()[1])
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = 1
    config.include_date_header = False
    stop = asyncio.Event()
    server = asyncio.create_task(serve(watched, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type] # Starlette's types
    try:
        yield address
    finally:
        stop.set()
        await asyncio.wait_for(server, WAIT_SECONDS)
        assert not failures, failures


def connection_tasks() -> list[str]:
    """hypercorn's tasks of open connections, its application tasks, and ours that read on."""
    names = (repr(task.get_coro()) for task in asyncio.all_tasks())
    return [name for name in names if any(word in name for word in ("_server_callback", " _handle ", "_until_quiet"))]


async def talk(address: Address, raw: bytes, *, wait: float = WAIT_SECONDS) -> bytes:
    """Send ``raw`` and read until the other side closes, or has nothing to say for ``wait`` seconds."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(raw)
    answer = bytearray()
    try:
        async with asyncio.timeout(wait):
            while data := await reader.read(65536):
                answer += data
    except (TimeoutError, ConnectionError):
        pass  # kept open, or reset after the answer
    finally:
        writer.close()
    return bytes(answer)


async def until(condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> float:
    """Wait for ``condition``; answers how long it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of any kind, with a bound
            await asyncio.sleep(0.002)
    return loop.time() - begun
