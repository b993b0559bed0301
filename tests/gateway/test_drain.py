"""The drain on a real server: what is under way finishes, what cannot is told, and nothing new begins."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from starlette.types import Receive, Scope, Send

from gateway.drain import Drain, Drained
from gateway.server import Server
from tests.gateway.served import Client, connected, get, problem, reached, served

SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]


class App:
    """Does what its path says; ``go`` lets slow ones finish."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await getattr(self, scope["path"].strip("/"))(scope, receive, send)

    async def slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.go.wait()
        await whole(send, b"done")

    async def livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        await whole(send, b"alive")

    async def readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        await whole(send, b"ready")

    async def half(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await part(send, b"half")
        await asyncio.Event().wait()

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*SSE, *([(b"content-encoding", b"br")] if scope["query_string"] == b"encoded" else [])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        texts = {b"middle": b"data: 1\n\ndata: 2\n", b"crlf": b"data: 1\r\n\r\n", b"nothing": b""}
        await part(send, texts.get(scope["query_string"], b"data: 1\n\n"))
        await asyncio.Event().wait()

    async def socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message.get("text") == "close":
                await send({"type": "websocket.close", "code": 4401})
                return

    async def handshake(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def falls(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError("on being cancelled") from None

    async def swallows(self, scope: Scope, receive: Receive, send: Send) -> None:
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue


async def whole(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def part(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


@asynccontextmanager
async def opened(server: Server, drain: Drain, *targets: str) -> AsyncIterator[list[Client]]:
    """Connections on which each target was asked for, and is under way."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server.address)) for _ in targets]
        for client, target in zip(clients, targets, strict=True):
            await client.send(target)
        await reached(lambda: sum(drain.open().values()) == len(targets))
        yield clients


async def drained(server: Server) -> tuple[Drained, float]:
    began = time.monotonic()
    server.begin_drain()
    return await server.wait(), time.monotonic() - began


async def test_what_is_under_way_finishes() -> None:
    app = App()
    async with served(app) as (server, drain), opened(server, drain, "/slow") as (client,):
        server.begin_drain()
        app.go.set()
        status, headers = await client.head()
        body = await client.rest()
        result = await server.wait()
    assert (status, body, dict(headers)["connection"]) == (200, b"done", "close")
    assert result == Drained(cut={}, left=0)


async def test_nothing_new_begins_but_the_process_is_alive() -> None:
    """New connections are answered, not refused: a load balancer has to learn it."""
    app = App()
    async with served(app) as (server, drain), opened(server, drain, "/slow"):
        assert (await get(server.address, "/readyz"))[0] == 200
        server.begin_drain()
        alive = await get(server.address, "/livez")
        ready = await get(server.address, "/readyz")
        other = await get(server.address, "/slow")
        app.go.set()
        await server.wait()
    assert (alive[0], alive[2], alive[1]["connection"]) == (200, b"alive", "close")
    for status, headers, _ in (ready, other):
        assert (status, headers["connection"], headers["content-type"]) == (503, "close", "application/problem+json")
        assert headers["x-request-id"]


async def test_a_handshake_is_refused_too() -> None:
    app = App()
    async with served(app) as (server, drain), opened(server, drain, "/slow"), aiohttp.ClientSession() as session:
        server.begin_drain()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await session.ws_connect(f"ws://{server.address}/socket")
        app.go.set()
    assert refusal.value.status == 503


async def test_what_takes_too_long_is_refused_or_cut() -> None:
    """Not begun: 503, and may be repeated. Begun: no last chunk, so that nobody takes half an answer for a whole."""
    async with served(App(), drain_seconds=0.1) as (server, drain), opened(server, drain, "/slow", "/half") as clients:
        await clients[1].until(b"half\r\n")
        result, took = await drained(server)
        status, _ = await clients[0].head()
        rest = await clients[1].rest()
    assert (status, rest) == (503, b"")
    assert result == Drained(cut={"http": 2}, left=0)
    assert 0.1 <= took < 3.0


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("/stream", b"d\r\nretry: 1000\n\n\r\n0\r\n\r\n"),
        ("/stream?nothing", b"d\r\nretry: 1000\n\n\r\n0\r\n\r\n"),
        ("/stream?middle", b"0\r\n\r\n"),
        ("/stream?crlf", b"0\r\n\r\n"),
        ("/stream?encoded", b"0\r\n\r\n"),
    ],
)
async def test_a_stream_is_ended_between_two_events_with_when_to_come_back(target: str, last: bytes) -> None:
    """Written into half an event, the line would become a part of it."""
    async with served(App()) as (server, drain), opened(server, drain, target) as (client,):
        await reached(lambda: drain.open() == {"stream": 1})
        await client.head()
        result, took = await drained(server)
        assert (await client.rest()).endswith(last)
    assert result == Drained(cut={"stream": 1}, left=0)
    assert took < 3.0, "streams are not waited for"


async def test_websockets_are_told_that_the_service_restarts() -> None:
    async with (
        served(App()) as (server, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://{server.address}/socket") as socket,
    ):
        told = asyncio.create_task(socket.receive())
        result, took = await drained(server)
        await told
        assert socket.close_code == 1012
    assert result == Drained(cut={"websocket": 1}, left=0)
    assert took < 3.0


async def test_a_handshake_under_way_is_refused() -> None:
    async with served(App()) as (server, drain), aiohttp.ClientSession() as session:
        asking = asyncio.create_task(session.ws_connect(f"ws://{server.address}/handshake"))
        await reached(lambda: drain.open() == {"websocket": 1})
        await drained(server)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await asking
    assert refusal.value.status == 503


async def test_streams_are_kept_as_long_as_requests_are_waited_for() -> None:
    """Their requests may be what the streams tell about."""
    app = App()
    async with served(app) as (server, drain), opened(server, drain, "/slow", "/stream") as clients:
        await reached(lambda: drain.open() == {"http": 1, "stream": 1})
        server.begin_drain()
        assert (await get(server.address, "/livez"))[0] == 200
        assert drain.open() == {"http": 1, "stream": 1}
        app.go.set()
        assert (await clients[0].head())[0] == 200
        assert await server.wait() == Drained(cut={"stream": 1}, left=0)


async def test_a_second_word_ends_the_waiting() -> None:
    async with served(App(), drain_seconds=60) as (server, drain), opened(server, drain, "/slow") as (client,):
        server.begin_drain()
        server.begin_drain()
        assert await server.wait() == Drained(cut={"http": 1}, left=0)
        assert (await client.head())[0] == 503


async def test_a_call_that_falls_on_being_ended_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with served(App(), drain_seconds=0) as (server, drain), opened(server, drain, "/falls") as (client,):
        result, _ = await drained(server)
        assert (await client.head())[0] == 503
    assert result.left == 0
    assert [record.name for record in caplog.records if record.exc_info] == ["session_gateway.drain"]


async def test_a_call_that_does_not_end_is_counted_and_the_server_returns() -> None:
    """Whoever swallows a cancellation must not hold the process."""
    app = App()
    async with served(app, drain_seconds=0) as (server, drain), opened(server, drain, "/swallows"):
        result, took = await drained(server)
        app.go.set()
    assert result == Drained(cut={"http": 1}, left=1)
    assert took < 20.0


async def test_an_upload_that_never_comes_is_answered() -> None:
    async with served(App(), drain_seconds=0) as (server, drain), connected(server.address) as client:
        await client.send("/slow", "content-length: 1000000", method="POST", body=b"x")
        await reached(lambda: bool(drain.open()))
        await drained(server)
        assert (await client.head())[0] == 503


async def test_a_refused_upload_can_be_read_before_the_connection_goes() -> None:
    """The server closes with unread bytes, and the answer is lost in the reset (40 of 40) unless they are read."""
    app = App()
    async with served(app) as (server, drain), opened(server, drain, "/slow"):
        server.begin_drain()
        for _ in range(5):
            async with connected(server.address) as client:
                size = 4 * 1024 * 1024
                sending = asyncio.create_task(
                    client.send("/slow", f"content-length: {size}", method="POST", body=b"x" * size)
                )
                assert (await client.head())[0] == 503
                await asyncio.gather(sending, return_exceptions=True)
        app.go.set()


async def test_websockets_that_we_close_leave_no_task_behind() -> None:
    """hypercorn 0.18 kept two tasks for each whose client went on sending (7 -> 87 with 40 of them)."""
    async with served(App()) as (server, drain), aiohttp.ClientSession() as session:
        await get(server.address, "/livez")
        before = len(asyncio.all_tasks())
        for _ in range(10):
            async with session.ws_connect(f"ws://{server.address}/socket") as socket:
                await socket.send_str("close")
                for _ in range(100):
                    await socket.send_str("x" * 100)
                while not socket.closed:
                    await socket.receive()
        await reached(lambda: not drain.open() and len(asyncio.all_tasks()) <= before)


async def test_a_drain_with_flooding_websockets_is_quick() -> None:
    async with served(App()) as (server, _), aiohttp.ClientSession() as session:
        sockets = [await session.ws_connect(f"ws://{server.address}/socket") for _ in range(10)]
        floods = [asyncio.create_task(flood(socket)) for socket in sockets]
        result, took = await drained(server)
        codes = await asyncio.gather(*floods)
    assert codes == [1012] * 10
    assert result == Drained(cut={"websocket": 10}, left=0)
    assert took < 4.0


async def flood(socket: aiohttp.ClientWebSocketResponse[bool]) -> int | None:
    async def read() -> None:
        while not socket.closed:
            await socket.receive()

    reading = asyncio.create_task(read())
    while not reading.done():
        try:
            await socket.send_str("x" * 50)
        except ConnectionError:
            break
        await asyncio.sleep(0.001)
    await reading
    return socket.close_code


async def test_a_cancellation_that_is_not_the_drains_passes() -> None:
    """A server that gives up a request must not be told that it was answered."""
    drain = Drain(App(), refuse=problem(503))
    scope = {"type": "http", "path": "/slow", "http_version": "1.1", "headers": []}

    async def nothing(*_: object) -> dict[str, str]:
        return {}

    task = asyncio.create_task(drain(scope, nothing, nothing))  # type: ignore[arg-type]  # never called
    await reached(lambda: bool(drain.open()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert drain.open() == {}
