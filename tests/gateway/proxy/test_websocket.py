"""The websocket relay under hypercorn, aiohttp on both sides: messages, subprotocols, handshakes, refusals."""

import asyncio
import gc
import tracemalloc

import aiohttp
import pytest
from aiohttp import web

from gateway.proxy.errors import (
    ContainerBroke,
    ContainerProtocolError,
    ContainerRefusedUs,
    ContainerTimedOut,
    ContainerUnreachable,
)
from gateway.proxy.result import EndedBy
from gateway.proxy.settings import ProxySettings
from gateway.proxy.websocket import offered_subprotocols
from tests.gateway.proxy.peers import WAIT_SECONDS, Peer, answers, container, until
from tests.gateway.proxy.smallest import CREDENTIAL, gateway_for
from tests.gateway.proxy.socket_peers import echo, handshake, open_socket, sockets


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
