"""The websocket relay under hypercorn, aiohttp on both sides: messages, subprotocols, close codes, refusals."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from docker.service import Address
from gateway.proxy.errors import (
    ClientLeft,
    ContainerBroke,
    ContainerProtocolError,
    ContainerRefusedUs,
    ContainerTimedOut,
    ContainerUnreachable,
    ExchangeCut,
)
from gateway.proxy.http import Forward
from gateway.proxy.result import EndedBy
from gateway.proxy.settings import ProxySettings
from gateway.proxy.websocket import ContainerSockets, close_code_for_container, offered_subprotocols
from tests.gateway.proxy.peers import WAIT_SECONDS, Peer, answers, connection_tasks, container, serving, until
from tests.gateway.proxy.smallest import CREDENTIAL, PREFIX, SmallestGateway, gateway_for

Handler = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]
Socket = aiohttp.ClientWebSocketResponse[bool]


@asynccontextmanager
async def sockets(handler: Handler, protocols: tuple[str, ...] = ()) -> AsyncIterator[Address]:
    """A container that accepts every websocket and hands it to ``handler``."""

    async def accept(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=protocols, max_msg_size=32 * 2**20, timeout=1.0)
        await socket.prepare(request)
        await handler(socket, request)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", accept)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Address("127.0.0.1", runner.addresses[0][1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def open_socket(address: Address, target: str = "/pty", protocols: tuple[str, ...] = ()) -> AsyncIterator[Socket]:
    """A client's websocket through the gateway."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            URL(f"http://{address.host}:{address.port}{PREFIX.decode()}{target}", encoded=True),
            protocols=protocols,
            max_msg_size=32 * 2**20,
            autoclose=False,
            headers={"Authorization": "Bearer token"},
        ) as socket,
    ):
        yield socket


async def echo(socket: web.WebSocketResponse, request: web.Request) -> None:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)


async def test_messages_of_every_kind_pass_both_ways() -> None:
    """Text stays text and bytes stay bytes, empty and large ones too."""
    async with sockets(echo) as container, gateway_for(container) as (app, address):
        async with open_socket(address) as socket:
            for text in ("", "hi", "zß水🍌", "x" * 2**20):
                await socket.send_str(text)
                assert await socket.receive_str(timeout=WAIT_SECONDS) == text
            for data in (b"", b"\0{}\xff", b"y" * 2**20):
                await socket.send_bytes(data)
                assert await socket.receive_bytes(timeout=WAIT_SECONDS) == data
            assert app.sockets.open == 1
            await socket.close()
        await until(lambda: bool(app.results))
        (result,) = app.results
        size = len("hizß水🍌".encode()) + 2**20 + 4 + 2**20
        assert (result.bytes_in, result.bytes_out, result.status) == (size, size, 101)
        assert (result.ended_by, result.is_stream, result.error) == (EndedBy.CLIENT, True, None)
        assert app.opened[0].status == 101
        assert app.sockets.open == 0


async def test_the_largest_message_passes_and_a_larger_one_ends_the_socket() -> None:
    """16 MiB, as hypercorn's own limit on the other leg."""
    limit = 2**20

    async def large(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_bytes(b"x" * limit)
        await socket.send_bytes(b"x" * (limit + 1))
        await socket.receive()

    settings = ProxySettings(proxy_websocket_max_message_bytes=limit)
    async with sockets(large) as container, gateway_for(container, settings) as (app, address):
        async with open_socket(address) as socket:
            assert len(await socket.receive_bytes(timeout=WAIT_SECONDS)) == limit
            message = await socket.receive(timeout=WAIT_SECONDS)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        await until(lambda: bool(app.results))
        assert isinstance(app.results[0].error, ContainerProtocolError)
    assert ProxySettings().proxy_websocket_max_message_bytes == 16 * 2**20


async def test_the_handshake_carries_the_credential_and_the_raw_target() -> None:
    """And neither the client's token nor its Origin's rights."""
    seen: list[web.Request] = []

    async def note(socket: web.WebSocketResponse, request: web.Request) -> None:
        seen.append(request)
        await socket.close()

    async with sockets(note) as container, gateway_for(container) as (_, address):
        protocols = ("session-token.secret", "chat")
        async with open_socket(address, "/pty/%7Ex//y?a=%2F&auth_token=secret", protocols) as socket:
            await socket.receive(timeout=WAIT_SECONDS)
    (request,) = seen
    assert request.raw_path == "/pty/%7Ex//y?a=%2F"
    assert request.headers.getall("Authorization") == [CREDENTIAL.decode()]
    assert request.headers["Host"] == f"{container.host}:{container.port}"
    assert request.headers["Sec-WebSocket-Protocol"] == "chat"
    assert "secret" not in str(request.raw_headers)
    assert "Accept-Encoding" not in {name for name in request.headers if name == "Sec-WebSocket-Extensions"}


@pytest.mark.parametrize(
    ("offered", "known", "chosen"),
    [
        (("a", "b"), ("b",), "b"),
        (("session-token.x", "b"), ("b", "session-token.x"), "b"),
        (("session-token.x",), (), None),
        (("session-token.x", "session-gateway"), (), "session-gateway"),
        (("session-gateway", "b"), ("b",), "b"),
        ((), ("b",), None),
    ],
)
async def test_the_container_chooses_the_subprotocol(
    offered: tuple[str, ...], known: tuple[str, ...], chosen: str | None
) -> None:
    """Of what is meant for it. A browser that offers some and gets none gives up: for it there is the gateway's own."""
    async with (
        sockets(echo, known) as container,
        gateway_for(container) as (_, address),
        open_socket(address, protocols=offered) as socket,
    ):
        assert socket.protocol == chosen


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1000, "bye"), (1011, "böse"), (4001, "why"), (3000, "x" * 100)]
)
async def test_a_containers_close_reaches_the_client(code: int, reason: str) -> None:
    """Code and reason tell a terminal that its shell ended."""

    async def close(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.close(code=code, message=reason.encode())

    async with sockets(close) as container, gateway_for(container) as (app, address):
        async with open_socket(address) as socket:
            message = await socket.receive(timeout=WAIT_SECONDS)
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, code, reason)
        await until(lambda: bool(app.results))
        (result,) = app.results
        assert (result.ended_by, result.close_code, result.error) == (EndedBy.CONTAINER, code, None)


async def test_a_containers_lost_connection_is_not_a_normal_close() -> None:
    """The client may reconnect; 1000 would tell it that all was said."""

    async def drop(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str("half")
        assert request.transport is not None
        request.transport.abort()

    async with sockets(drop) as container, gateway_for(container) as (app, address):
        async with open_socket(address) as socket:
            await socket.receive(timeout=WAIT_SECONDS)
            message = await socket.receive(timeout=WAIT_SECONDS)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1011)
        await until(lambda: bool(app.results))
        assert isinstance(app.results[0].error, ContainerBroke)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_client_that_leaves_closes_the_containers_websocket(how: str) -> None:
    """At once, with a code that may stand in a frame: hypercorn says 1006 for every end, so 1001 goes on."""
    codes: list[int | None] = []
    ended = asyncio.Event()

    async def wait(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        codes.append(socket.close_code)
        ended.set()

    async with sockets(wait) as container, gateway_for(container) as (app, address):
        loop = asyncio.get_running_loop()
        async with open_socket(address) as socket:
            await until(lambda: bool(app.opened))
            begun = loop.time()
            if how == "close":
                await socket.close(code=4002, message=b"why")
            else:
                transport = socket.get_extra_info("socket")
                assert transport is not None
                socket._response.close()
            await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
            assert loop.time() - begun < 0.5  # the promise is 0.1
        assert codes == [1001]
        await until(lambda: bool(app.results))
        assert app.results[0].ended_by is EndedBy.CLIENT


def test_codes_that_may_not_be_sent_are_replaced() -> None:
    """RFC 6455 section 7.4.1: 1005, 1006 and 1015 are never in a frame; uvicorn reports the client's own code."""
    assert [close_code_for_container(code) for code in (1000, 1005, 1006, 1015, 4002)] == [1000, 1001, 1001, 1001, 4002]


def test_what_is_meant_for_the_gateway_is_not_offered_on() -> None:
    """The token above all."""
    assert offered_subprotocols(["a", "session-token.x", "session-gateway", "b"]) == ("a", "b")


@pytest.mark.parametrize("status", [404, 403, 302, 500])
async def test_a_containers_refusal_is_passed_on_and_no_redirect_followed(status: int) -> None:
    """The client learns why; the gateway's credential goes to no other address."""
    other = answers(b"HTTP/1.1 200 OK\r\n\r\n")
    async with container(other) as elsewhere:
        location = b"http://127.0.0.1:%d/x" % elsewhere.address.port
        raw = b"HTTP/1.1 %d No\r\nlocation: %b\r\nx-why: z\r\ncontent-length: 4\r\n\r\ngone" % (status, location)
        async with container(answers(raw)) as it, gateway_for(it.address) as (app, address):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(handshake())
            answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"x-why: z" in answer
            assert answer.endswith(b"\r\n\r\ngone")
            assert not elsewhere.peers
            await until(lambda: bool(app.results))
            assert (app.results[0].status, app.results[0].ended_by) == (status, EndedBy.CONTAINER)
            assert app.results[0].started


def handshake(target: bytes = b"/pty") -> bytes:
    return (
        b"GET " + PREFIX + target + b" HTTP/1.1\r\nhost: gateway\r\nconnection: keep-alive, Upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )


BAD_HANDSHAKES = {
    "our credential refused": (b'HTTP/1.1 401 No\r\nwww-authenticate: Basic realm="x"\r\n\r\n', ContainerRefusedUs),
    "closed": (b"", ContainerBroke),
    "wrong accept": (
        b"HTTP/1.1 101 S\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: x\r\n\r\n",
        ContainerProtocolError,
    ),
    "garbage": (b"\x16\x03garbage\r\n\r\n", ContainerProtocolError),
}


@pytest.mark.parametrize(("raw", "kind"), BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES.keys())
async def test_a_broken_handshake_is_named_and_left_to_the_caller(raw: bytes, kind: type[Exception]) -> None:
    """Nothing was accepted, so a status can still say whose fault it is."""
    async with container(answers(raw)) as it, gateway_for(it.address) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(handshake())
        answer = await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 502 ")
        await until(lambda: bool(app.results))
        assert type(app.results[0].error) is kind
        assert not app.results[0].started


async def test_an_unreachable_and_a_silent_container_are_told_apart() -> None:
    """Each has a problem type of its own."""

    async def silent(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with (
        container(silent) as it,
        gateway_for(it.address, ProxySettings(proxy_read_timeout=0.1)) as (app, address),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with open_socket(address):
                pass
        assert isinstance(app.results[0].error, ContainerTimedOut)
        await until(lambda: it.peers[0].closed.is_set())
        closed_port = it.address
    async with gateway_for(closed_port) as (app, address):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with open_socket(address):
                pass
        assert isinstance(app.results[0].error, ContainerUnreachable)


async def test_a_client_that_leaves_during_the_handshake_ends_it() -> None:
    """The container need not open what nobody waits for."""

    async def silent(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with container(silent) as it, gateway_for(it.address) as (app, address):
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(handshake())
        await until(lambda: bool(it.peers) and bool(it.peers[0].received))
        writer.transport.abort()
        assert await until(lambda: it.peers[0].closed.is_set()) < 0.5
        await until(lambda: bool(app.results))
        assert isinstance(app.results[0].error, ClientLeft)


async def test_a_slow_client_stops_the_container() -> None:
    """Backpressure: a terminal that floods waits for its reader, in its own memory."""
    sent: list[int] = []
    size, block = 100 * 2**20, b"x" * 2**16

    async def flood(socket: web.WebSocketResponse, request: web.Request) -> None:
        for _ in range(size // len(block)):
            await socket.send_bytes(block)
            sent.append(len(block))
        await socket.receive()

    async with sockets(flood) as container, gateway_for(container) as (_, address):
        _, writer = await asyncio.open_connection(address.host, address.port, limit=2**16)
        gc.collect()
        tracemalloc.start()
        try:
            writer.write(handshake())
            before = -1
            while before != len(sent) or not sent:
                before = len(sent)
                await asyncio.sleep(0.2)
            assert sum(sent) < size / 2
            assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
        finally:
            tracemalloc.stop()
            writer.transport.abort()


async def test_a_container_that_reads_nothing_ends_the_socket_by_time() -> None:
    """Else a stalled container would hold every byte its client sends, and the client's leaving would go unseen."""

    async def deaf(socket: web.WebSocketResponse, request: web.Request) -> None:
        assert request.transport is not None
        request.transport.pause_reading()
        await asyncio.wait_for(over.wait(), WAIT_SECONDS)
        request.transport.abort()

    over = asyncio.Event()
    settings = ProxySettings(proxy_write_timeout=0.3)
    async with (
        sockets(deaf) as container,
        gateway_for(container, settings) as (app, address),
        open_socket(address) as socket,
    ):

        async def flood() -> None:
            while True:
                await socket.send_bytes(b"x" * 2**20)

        flooding = asyncio.create_task(flood())
        await until(lambda: bool(app.results))
        assert isinstance(app.results[0].error, ContainerTimedOut)
        flooding.cancel()
        over.set()
        await asyncio.wait([flooding])


async def test_a_flooding_client_leaves_no_task_behind_when_the_container_closes() -> None:
    """hypercorn's reader would wait for ever in a full queue for an application that has ended (2 tasks a socket)."""

    async def close_soon(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        await socket.close(code=4000)

    async with sockets(close_soon) as container, gateway_for(container) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: bool(app.opened))
        assert len(connection_tasks()) >= 2
        writer.write(b"\x82\x85\0\0\0\0hello" * 5000)
        await until(lambda: bool(app.results))
        writer.close()
        await until(lambda: connection_tasks() == [])


async def test_a_cancelled_socket_is_recorded_and_closed_on_the_containers_side() -> None:
    """A drain or a revoked token cancels the task."""
    ended = asyncio.Event()

    async def wait(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        ended.set()

    async with sockets(wait) as container:
        app = SmallestGateway(container, ProxySettings())
        tasks: list[asyncio.Task[None]] = []

        async def noting(scope, receive, send):  # type: ignore[no-untyped-def] # an ASGI app
            if scope["type"] != "lifespan":
                tasks.append(asyncio.current_task())  # type: ignore[arg-type] # never None here
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()  # type: ignore[union-attr] # as the drain does
                await send({"type": "websocket.close", "code": 1012})

        async with serving(noting) as address, open_socket(address) as socket:
            tasks[0].cancel()
            message = await socket.receive(timeout=WAIT_SECONDS)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012)
            await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
            assert isinstance(app.results[0].error, ExchangeCut)
            assert app.results[0].ended_by is EndedBy.GATEWAY
        await app.sockets.aclose()
        await app.pool.aclose()


async def test_a_server_may_raise_instead_of_telling_that_the_client_left() -> None:
    """ASGI 2.4 lets ``send`` raise OSError; uvicorn does. It is no error of ours and no error of the container."""

    async def talkative(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.send_str("hello")
        await socket.receive()
        ended.set()

    ended = asyncio.Event()

    async def receive() -> dict[str, str]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] != "websocket.accept":
            raise OSError("client disconnected")

    messages = [{"type": "websocket.connect"}]
    async with sockets(talkative) as container:
        app = ContainerSockets(ProxySettings())
        forward = Forward(address=container, raw_target=b"/pty", headers=[])
        scope = {"type": "websocket", "subprotocols": []}
        result = await asyncio.wait_for(app.relay(scope, receive, send, forward=forward), WAIT_SECONDS)
        assert isinstance(result.error, ClientLeft)
        assert result.ended_by is EndedBy.CLIENT
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
        await app.aclose()
