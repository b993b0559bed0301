"""How a websocket ends under hypercorn: close codes both ways, lost peers, floods, cancellation."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.proxy.dialling import Dials
from gateway.proxy.errors import (
    ClientLeft,
    ContainerBroke,
    ContainerTimedOut,
    ExchangeCut,
)
from gateway.proxy.http import Forward
from gateway.proxy.result import EndedBy
from gateway.proxy.settings import ProxySettings
from gateway.proxy.websocket import ContainerSockets, close_code_for_container
from tests.gateway.proxy.peers import WAIT_SECONDS, Peer, connection_tasks, container, serving, until
from tests.gateway.proxy.smallest import SmallestGateway, gateway_for
from tests.gateway.proxy.socket_peers import handshake, open_socket, sockets


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


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        (b"\x88\x82\0\0\0\0\x03\xe8", 1000, ""),
        (b"\x88\x85\0\0\0\0\x0f\xa2why", 4002, "why"),
        (b"\x88\x80\0\0\0\0", 1000, ""),
        (None, 1001, ""),
    ],
    ids=["1000", "4002 with a reason", "no code", "connection lost"],
)
async def test_a_client_that_leaves_closes_the_containers_websocket(
    frame: bytes | None, code: int, reason: str
) -> None:
    """At once, and with its own code and reason: a terminal may end its shell on one and keep it on another."""
    said: list[tuple[int | None, str | None]] = []
    ended = asyncio.Event()

    async def wait(socket: web.WebSocketResponse, request: web.Request) -> None:
        message = await socket.receive()
        said.append((message.data, message.extra))
        ended.set()

    async with sockets(wait) as container, gateway_for(container) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        begun = asyncio.get_running_loop().time()
        if frame is None:
            writer.transport.abort()
        else:
            writer.write(frame)
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
        assert asyncio.get_running_loop().time() - begun < 0.5  # the promise is 0.1
        assert said == [(code, reason)]
        await until(lambda: bool(app.results))
        assert app.results[0].ended_by is EndedBy.CLIENT
        writer.close()


def test_codes_that_may_not_be_sent_are_replaced() -> None:
    """RFC 6455 section 7.4.1: 1005, 1006 and 1015 are never in a frame; uvicorn reports the client's own code."""
    assert [close_code_for_container(code) for code in (1000, 1005, 1006, 1015, 4002)] == [1000, 1000, 1001, 1001, 4002]


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
        app = ContainerSockets(ProxySettings(), Dials())
        forward = Forward(address=container, raw_target=b"/pty", headers=[])
        scope = {"type": "websocket", "subprotocols": []}
        result = await asyncio.wait_for(app.relay(scope, receive, send, forward=forward), WAIT_SECONDS)
        assert isinstance(result.error, ClientLeft)
        assert result.ended_by is EndedBy.CLIENT
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
        await app.aclose()
