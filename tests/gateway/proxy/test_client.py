"""The client's side of the HTTP relay under hypercorn: leaving, uploads answered early, bodies over the limit."""

import asyncio

import pytest

from gateway.proxy.errors import ClientLeft
from gateway.proxy.result import EndedBy
from gateway.proxy.settings import ProxySettings
from tests.gateway.proxy.peers import WAIT_SECONDS, Peer, connection_tasks, container, talk, until
from tests.gateway.proxy.smallest import SSE_HEAD, gateway_for, request

PROMPT_SECONDS = 0.5
"""Five times the promise: a client that leaves closes its container's connection within 100 ms."""


@pytest.mark.parametrize(
    "stage", ["waiting for the head", "silent stream", "busy stream", "stalled download", "upload"]
)
async def test_a_client_that_leaves_closes_its_containers_connection(stage: str) -> None:
    """An orphaned OpenCode stream leaks about 80 MB a minute, an orphaned turn burns a model's time."""

    async def script(peer: Peer) -> None:
        await peer.head()
        watching = asyncio.create_task(peer.gone())
        ready.set()
        try:
            if "stream" in stage:
                await peer.send(SSE_HEAD)
            while stage == "busy stream" and not peer.closed.is_set():
                await peer.send(b"data: x\n\n")
                await asyncio.sleep(0.001)
            if stage == "stalled download":
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * 30_000_000)
        except ConnectionError:
            pass  # expected: the gateway hung up
        await watching

    ready = asyncio.Event()
    async with container(script) as it, gateway_for(it.address) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        upload = stage == "upload"
        writer.write(request(b"/", *([b"content-length: 99"] if upload else []), method=b"POST" if upload else b"GET"))
        if upload:
            writer.write(b"x" * 10)
        await asyncio.wait_for(ready.wait(), WAIT_SECONDS)
        if stage not in ("waiting for the head", "upload"):
            await reader.readuntil(b"\r\n\r\n")
        begun = asyncio.get_running_loop().time()
        writer.transport.abort()
        await until(lambda: it.peers[0].closed.is_set())
        closed_at = it.peers[0].closed_at
        assert closed_at is not None
        assert closed_at - begun < PROMPT_SECONDS
        await until(lambda: bool(app.results))
        (result,) = app.results
        assert isinstance(result.error, ClientLeft)
        assert result.ended_by is EndedBy.CLIENT
        assert app.pool.status().busy == app.pool.status().streams == 0


async def test_a_client_that_only_closes_its_writing_side_has_left() -> None:
    """hypercorn tells no difference, and half-open clients of HTTP do not exist in practice."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with container(script) as it, gateway_for(it.address) as (app, address):
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(request(b"/"))
        writer.write_eof()
        await until(lambda: bool(app.results))
        assert app.results[0].ended_by is EndedBy.CLIENT
        await until(lambda: it.peers[0].closed.is_set())
        writer.close()


async def refuses_uploads(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 413 Large\r\ncontent-length: 3\r\n\r\nbig")
    await peer.gone()


@pytest.mark.parametrize("framing", [b"content-length: 8000000", b"transfer-encoding: chunked"])
async def test_an_early_refusal_of_an_upload_is_read_by_the_client(framing: bytes) -> None:
    """Most clients send first and read then: a close with unread bytes resets the connection before they read why."""
    async with container(refuses_uploads) as it, gateway_for(it.address) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(request(b"/", framing, method=b"PUT"))
        await until(lambda: bool(app.opened))
        chunked = b"chunked" in framing
        for _ in range(80):
            writer.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n" if chunked else b"x" * 100_000)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")
        await writer.drain()
        answer = await asyncio.wait_for(reader.readuntil(b"big"), WAIT_SECONDS)
        assert answer.startswith(b"HTTP/1.1 413 ")
        writer.close()
        await until(lambda: bool(app.results))
        assert app.results[0].error is None
        await until(lambda: it.peers[0].closed.is_set())


async def test_an_upload_without_end_is_not_read_for_ever() -> None:
    """After its answer it gets a second, then the connection and its tasks end."""
    async with container(refuses_uploads) as it, gateway_for(it.address) as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(request(b"/", b"content-length: 250000000", method=b"PUT"))

        async def upload() -> None:
            try:
                while True:
                    writer.write(b"x" * 10_000)
                    await writer.drain()
                    await asyncio.sleep(0.001)
            except ConnectionError:
                pass  # the gateway stopped reading: after its answer

        sending = asyncio.create_task(upload())
        assert (await asyncio.wait_for(reader.readuntil(b"big"), WAIT_SECONDS)).startswith(b"HTTP/1.1 413 ")
        await asyncio.wait_for(sending, WAIT_SECONDS)
        writer.close()
        await until(lambda: connection_tasks() == [])


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"nonsense"])
async def test_an_answer_cut_while_an_upload_stands_still_leaves_no_task_behind(raw: bytes) -> None:
    """hypercorn's reader waits in a full queue then, and would wait for ever for an application that has ended."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.wait_for(go.wait(), WAIT_SECONDS)
        await peer.send(raw)

    go = asyncio.Event()
    async with container(script) as it, gateway_for(it.address) as (app, address):
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(request(b"/", b"content-length: 250000000", method=b"PUT") + b"x" * 60_000_000)
        transport = writer.transport
        before = -1
        while before != transport.get_write_buffer_size():  # until everything stands still
            before = transport.get_write_buffer_size()
            await asyncio.sleep(0.2)
        go.set()
        await until(lambda: bool(app.results))
        assert app.results[0].error is not None
        await until(lambda: connection_tasks() == [])
        transport.abort()


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused(declared: bool) -> None:
    """By its announced length before the container is asked, else by counting."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    settings = ProxySettings(proxy_max_body_bytes=1000)
    async with container(script) as it, gateway_for(it.address, settings) as (app, address):
        if declared:
            raw = request(b"/", b"content-length: 1001", method=b"POST", body=b"x" * 1001)
        else:
            raw = request(
                b"/", b"transfer-encoding: chunked", method=b"POST", body=b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
            )
        assert (await talk(address, raw)).startswith(b"HTTP/1.1 413 ")
        assert app.results[0].ended_by is EndedBy.CLIENT
        assert len(it.peers) == (0 if declared else 1)
        await until(lambda: all(peer.closed.is_set() for peer in it.peers))
