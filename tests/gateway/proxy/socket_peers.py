"""Websocket peers for the byte path's tests: an aiohttp container, an aiohttp client, a raw handshake."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from yarl import URL

from docker.service import Address
from tests.gateway.proxy.smallest import PREFIX

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


def handshake(target: bytes = b"/pty") -> bytes:
    return (
        b"GET " + PREFIX + target + b" HTTP/1.1\r\nhost: gateway\r\nconnection: keep-alive, Upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
