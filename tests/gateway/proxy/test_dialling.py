"""A container that refuses is dialled again for a moment; whatever else is wrong is told at once."""

import asyncio
import socket
import time

import aiohttp
import pytest

from gateway.proxy.dialling import dialled


class Refusing:
    """Refuses ``times`` times, then answers."""

    def __init__(self, times: int, error: OSError) -> None:
        self.left, self.error, self.dials = times, error, 0

    async def __call__(self) -> str:
        self.dials += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "connected"


async def test_a_container_whose_port_comes_back_is_reached() -> None:
    dial = Refusing(2, ConnectionRefusedError())
    assert await dialled(dial, seconds=60) == "connected"
    assert dial.dials == 3


async def test_a_container_that_goes_on_refusing_is_told() -> None:
    dial = Refusing(10**9, ConnectionRefusedError("still"))
    with pytest.raises(ConnectionRefusedError, match="still"):
        await dialled(dial, seconds=0.12)
    assert dial.dials >= 2


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), OSError(113, "No route to host")])
async def test_another_failure_is_told_at_once(error: OSError) -> None:
    """Something may have been sent, or waiting would not help."""
    dial = Refusing(1, error)
    with pytest.raises(type(error)):
        await dialled(dial, seconds=60)
    assert dial.dials == 1


async def test_a_websockets_client_wraps_it() -> None:
    """A real port where nobody listens until the second dial."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    dials = 0
    servers: list[asyncio.Server] = []

    async def dial() -> str:
        nonlocal dials
        dials += 1
        if dials == 2:
            servers.append(await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port))
        async with aiohttp.ClientSession() as session:
            await session.ws_connect(f"ws://127.0.0.1:{port}/")
        return "never"

    began = time.monotonic()
    with pytest.raises(aiohttp.ClientError) as caught:
        await dialled(dial, seconds=60)
    assert dials == 2 and time.monotonic() - began < 30
    assert not isinstance(caught.value, aiohttp.ClientConnectorError), "it was reached, and spoke no websocket"
    for server in servers:
        server.close()
        await server.wait_closed()
