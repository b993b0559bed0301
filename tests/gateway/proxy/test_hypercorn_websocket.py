"""What hypercorn alone gets wrong about websockets, on the wire. Close codes: test_websocket_ends.py."""

import asyncio

import pytest
from aiohttp import web
from hypercorn.protocol import h2, h11

from gateway.proxy import hypercorn_websocket
from gateway.proxy.result import EndedBy
from tests.gateway.proxy.peers import WAIT_SECONDS, connection_tasks, until
from tests.gateway.proxy.smallest import gateway_for
from tests.gateway.proxy.socket_peers import handshake, sockets


@pytest.mark.parametrize("stays", [True, False])
async def test_a_byte_before_the_handshakes_answer_leaves_no_socket_behind(stays: bool) -> None:
    """hypercorn alone refuses the client and leaves the application, and its container's socket, waiting for ever."""
    ended = asyncio.Event()

    async def wait(socket: web.WebSocketResponse, request: web.Request) -> None:
        await socket.receive()
        ended.set()

    async with sockets(wait) as container, gateway_for(container) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(handshake() + b"\x82\x85\0\0\0\0hello")
        assert (await asyncio.wait_for(reader.read(12), WAIT_SECONDS)) == b"HTTP/1.1 400"
        if not stays:
            writer.transport.abort()
        await until(lambda: bool(app.results))
        assert app.results[0].ended_by is EndedBy.CLIENT
        assert app.sockets.open == 0
        writer.close()
        await until(lambda: connection_tasks() == [])


def test_installing_twice_changes_nothing() -> None:
    """Each process installs it where it starts to serve."""
    hypercorn_websocket.install()
    hypercorn_websocket.install()
    assert vars(h11)["WSStream"] is vars(h2)["WSStream"] is hypercorn_websocket.WebsocketStream
