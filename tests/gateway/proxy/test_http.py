"""The HTTP relay under hypercorn, raw sockets on both sides: streaming, backpressure, broken answers, results."""

import asyncio
import gc
import resource
import tracemalloc

import pytest

from gateway.proxy.errors import ContainerBroke, ContainerRefusedUs, ContainerUnreachable, ExchangeCut
from gateway.proxy.result import EndedBy
from gateway.proxy.settings import ProxySettings
from tests.gateway.proxy.peers import WAIT_SECONDS, Peer, answers, container, ok, serving, talk, until
from tests.gateway.proxy.smallest import CREDENTIAL, SSE_HEAD, SmallestGateway, gateway_for, request


async def test_an_exchange_passes_whole_and_is_accounted_for() -> None:
    """Body both ways, the credential added, and a result that an event can be made from."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.body(5)
        await peer.send(b"HTTP/1.1 201 Made\r\ncontent-length: 4\r\nx-own: 1\r\n\r\ndone")
        await peer.gone()

    async with container(script) as it, gateway_for(it.address) as (app, address):
        raw = request(
            b"/a?x=1",
            b"content-length: 5",
            b"authorization: Bearer token",
            b"connection: close",
            method=b"POST",
            body=b"hello",
        )
        answer = await talk(address, raw)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 ")
        assert b"x-own: 1" in head
        assert b"x-request-id: req_1" in head
        assert body == b"done"
        assert b"authorization: " + CREDENTIAL + b"\r\n" in it.peers[0].received
        assert b"token" not in it.peers[0].received
        (result,) = app.results
        assert (result.status, result.bytes_in, result.bytes_out, result.error) == (201, 5, 4, None)
        assert (result.ended_by, result.reason, result.is_stream) == (EndedBy.CONTAINER, "complete", False)
        assert result.first_byte_ns is not None
        assert 0 < result.first_byte_ns <= result.duration_ns
        assert app.opened[0].status == 201


async def test_connections_are_kept_on_both_sides() -> None:
    """Two requests of one client connection meet one container connection."""

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(ok())

    async with container(script) as it, gateway_for(it.address) as (_, address):
        answer = await talk(address, request(b"/1") + request(b"/2", b"connection: close"))
        assert answer.count(b"HTTP/1.1 200") == 2
        assert len(it.peers) == 1


async def test_every_event_passes_at_once() -> None:
    """An event held back for the next one is a chat that stutters."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SSE_HEAD)
        while not await_next.cancelled:
            await await_next.wait()
            await peer.send(b"data: %d\n\n" % await_next.count)

    class Step:
        def __init__(self) -> None:
            self.cancelled, self.count, self._event = False, 0, asyncio.Event()

        async def wait(self) -> None:
            await asyncio.wait_for(self._event.wait(), WAIT_SECONDS)
            self._event.clear()

        def next(self) -> None:
            self.count += 1
            self._event.set()

    await_next = Step()
    async with container(script) as it, gateway_for(it.address) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(request(b"/event"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_SECONDS)
        assert b"x-accel-buffering: no" in head
        for number in range(1, 6):
            await_next.next()
            got = await asyncio.wait_for(reader.readuntil(b"\n\n\r\n"), WAIT_SECONDS)
            assert b"data: %d\n\n" % number in got
        assert app.opened[0].is_stream
        assert app.pool.status().streams == 1
        await_next.cancelled = True
        writer.close()
        await until(lambda: bool(app.results))
        assert app.results[0].ended_by is EndedBy.CLIENT
        assert app.pool.status().streams == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense",
    ],
)
async def test_a_cut_answer_reaches_the_client_cut(raw: bytes) -> None:
    """No last chunk and no padding: the client's own parser says that it is not whole."""
    async with container(answers(raw)) as it, gateway_for(it.address) as (app, address):
        answer = await talk(address, request(b"/"))
        assert b"half" in answer
        assert b"0\r\n\r\n" not in answer
        (result,) = app.results
        assert result.ended_by is EndedBy.CONTAINER
        assert result.error is not None
        assert result.started


async def test_failures_before_the_head_are_the_callers_to_answer() -> None:
    """Nothing was sent, so a clear problem can be."""
    async with container(answers(b"")) as it, gateway_for(it.address) as (app, address):
        assert (await talk(address, request(b"/"))).startswith(b"HTTP/1.1 502 ")
        assert isinstance(app.results[0].error, ContainerBroke)
        assert not app.results[0].started
        assert app.results[0].status is None
    async with gateway_for(it.address) as (app, address):
        assert (await talk(address, request(b"/"))).startswith(b"HTTP/1.1 502 ")
        assert isinstance(app.results[0].error, ContainerUnreachable)


async def test_a_container_that_refuses_our_credential_is_our_problem() -> None:
    """A 401 with a Basic challenge would have a browser ask its user for the container's password."""
    raw = b'HTTP/1.1 401 No\r\nwww-authenticate: Basic realm="Secure Area"\r\ncontent-length: 0\r\n\r\n'
    async with container(answers(raw)) as it, gateway_for(it.address) as (app, address):
        answer = await talk(address, request(b"/"))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"www-authenticate" not in answer.lower()
        (result,) = app.results
        assert isinstance(result.error, ContainerRefusedUs)
        assert (result.status, result.ended_by) == (401, EndedBy.GATEWAY)


async def test_a_cancelled_exchange_is_recorded_as_ours() -> None:
    """A drain or a revoked token cancels the task; its event must not be lost."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SSE_HEAD)
        await peer.gone()

    async with container(script) as it:
        app = SmallestGateway(it.address, ProxySettings())
        tasks: list[asyncio.Task[None]] = []

        async def noting(scope, receive, send):  # type: ignore[no-untyped-def] # an ASGI app
            if scope["type"] != "lifespan":
                tasks.append(asyncio.current_task())  # type: ignore[arg-type] # never None here
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()  # type: ignore[union-attr] # as the drain does

        async with serving(noting) as address:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(request(b"/event"))
            await reader.readuntil(b"\r\n\r\n")
            tasks[0].cancel()
            await until(lambda: bool(app.results))
            (result,) = app.results
            assert isinstance(result.error, ExchangeCut)
            assert result.ended_by is EndedBy.GATEWAY
            await until(lambda: it.peers[0].closed.is_set())
            assert await asyncio.wait_for(reader.read(), WAIT_SECONDS) == b""
            writer.close()
        await app.sockets.aclose()
        await app.pool.aclose()


async def test_a_slow_client_of_a_large_answer_costs_no_memory() -> None:
    """Backpressure to the container: 100 MB wait there, not here."""
    size, block = 100 * 2**20, b"x" * 2**16

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // len(block)):
            peer.writer.write(block)
            await peer.writer.drain()
            sent.append(len(block))

    sent: list[int] = []
    async with container(script) as it, gateway_for(it.address) as (_, address):
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=2**16)
        gc.collect()
        tracemalloc.start()
        try:
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            writer.write(request(b"/"))
            before = -1
            while before != len(sent):  # until everything stands still
                before = len(sent)
                await asyncio.sleep(0.2)
            assert sum(sent) < size / 2
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20  # measured 1-2 MB
        finally:
            tracemalloc.stop()
        got = 0
        while got < size:
            got += len(await asyncio.wait_for(reader.read(2**20), WAIT_SECONDS))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss < 40 * 1024  # KiB
        writer.close()


async def test_a_large_upload_to_a_slow_container_costs_no_memory() -> None:
    """Backpressure to the client."""
    size = 60 * 2**20

    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.wait_for(go.wait(), 20)
        left = size
        while left:
            left -= len(await peer.reader.read(min(left, 2**20)))
        await peer.send(ok())

    go = asyncio.Event()
    async with container(script) as it, gateway_for(it.address) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        gc.collect()
        tracemalloc.start()
        written = 0

        async def upload() -> None:
            nonlocal written
            writer.write(request(b"/", b"content-length: %d" % size, method=b"POST"))
            block = b"x" * 2**16
            for _ in range(size // len(block)):
                writer.write(block)
                await writer.drain()
                written += len(block)

        sending = asyncio.create_task(upload())
        try:
            before = -1
            while before != written:
                before = written
                await asyncio.sleep(0.2)
            assert written < size / 2
            assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
        finally:
            tracemalloc.stop()
        go.set()
        await asyncio.wait_for(sending, 20)
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200 ")
        assert app.results[0].bytes_in == size
        writer.close()
