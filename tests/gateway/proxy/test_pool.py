"""The pool on real sockets: which connection is used again, retries, limits, cancellation, dead containers."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from docker.service import Address
from gateway.proxy.errors import (
    ContainerBroke,
    ContainerUnreachable,
    GatewayBusy,
)
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.settings import ProxySettings
from tests.gateway.proxy.peers import Peer, Script, answers, container, ok, until

Got = tuple[int, list[tuple[bytes, bytes]], bytes]


@pytest.fixture
async def pool() -> AsyncIterator[UpstreamPool]:
    pool = UpstreamPool(ProxySettings(proxy_read_timeout=2.0, proxy_write_timeout=2.0, proxy_connect_timeout=2.0))
    yield pool
    await pool.aclose()


async def get(pool: UpstreamPool, address: Address, method: str = "GET", target: bytes = b"/") -> Got:
    async with pool.exchange(address, method, target, [(b"host", b"c")]) as response:
        return response.status, response.headers, b"".join([chunk async for chunk in response.body])


@pytest.mark.parametrize(
    ("method", "raw", "body", "reused"),
    [
        ("GET", ok(), b"hi", True),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n1;x=y\r\na\r\n1\r\nb\r\n0\r\nT: x\r\n\r\n",
            b"ab",
            True,
        ),
        ("GET", ok(b"hi", b"connection: close"), b"hi", False),
        ("GET", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi", False),
        ("GET", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nhi", b"hi", True),
        ("GET", b"HTTP/1.1 204 No\r\n\r\n", b"", True),
        ("GET", b"HTTP/1.1 304 Not\r\ncontent-length: 9\r\n\r\n", b"", True),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"", True),
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"", True),
        ("HEAD", ok(), b"", False),
        ("GET", ok() + ok(b"smuggled"), b"hi", False),
        ("GET", ok() + b"x", b"hi", False),
        ("GET", b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nlink: <x>\r\n\r\n" + ok(), b"hi", True),
    ],
)
async def test_a_connection_is_used_again_only_when_clean(
    pool: UpstreamPool, method: str, raw: bytes, body: bytes, reused: bool
) -> None:
    """One answer, whole and nothing after it: otherwise the next request would read the rest of this one."""

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(raw)

    async with container(script) as it:
        assert (await get(pool, it.address, method))[2] == body
        assert (await get(pool, it.address, method))[2] == body
        assert len(it.peers) == (1 if reused else 2)


def dies_after_one(method_answers: bytes = ok()) -> tuple[Script, asyncio.Event]:
    """Answers one request a connection, closes when it reads the second: the idle-connection race, made certain."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(method_answers)
        await peer.head()
        second.set()

    second = asyncio.Event()
    return script, second


async def test_a_dead_idle_connection_is_replaced_once_for_a_safe_request(pool: UpstreamPool) -> None:
    """The container closed while idle and we had not read it yet: nobody acted on the request."""
    script, second = dies_after_one()
    async with container(script) as it:
        await get(pool, it.address)
        assert (await get(pool, it.address))[0] == 200
        assert second.is_set()
        assert len(it.peers) == 2
        assert pool.status().retried == 1


async def test_a_post_is_never_sent_twice(pool: UpstreamPool) -> None:
    """It may have been acted on."""
    script, second = dies_after_one()
    async with container(script) as it:
        await get(pool, it.address, "POST")
        with pytest.raises(ContainerBroke):
            await get(pool, it.address, "POST")
        assert second.is_set()
        assert len(it.peers) == 1


async def test_an_idle_connection_that_the_container_closes_leaves_the_pool(pool: UpstreamPool) -> None:
    """So the next request, of any method, meets a live one."""
    async with container(answers(ok())) as it:
        await get(pool, it.address)
        await until(lambda: pool.status().idle == 0)
        assert (await get(pool, it.address, "POST"))[0] == 200


async def test_a_byte_on_an_idle_connection_closes_it(pool: UpstreamPool) -> None:
    """An answer that nobody asked for must not meet the next question."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(ok())
        await asyncio.wait_for(idle.wait(), 5)
        await peer.send(ok(b"smuggled"))
        await peer.gone()

    idle = asyncio.Event()
    async with container(script) as it:
        await get(pool, it.address)
        idle.set()
        await until(lambda: pool.status().idle == 0)
        await until(lambda: it.peers[0].closed.is_set())


async def test_a_closed_port_is_unreachable(pool: UpstreamPool) -> None:
    """Not a time-out and not a broken answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ContainerUnreachable):
        await get(pool, Address("127.0.0.1", port))
    assert pool.status().busy == 0


async def test_cancelling_closes_the_connection_at_once(pool: UpstreamPool) -> None:
    """An orphaned OpenCode stream leaks about 80 MB a minute (measured)."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with container(script) as it:
        task = asyncio.create_task(get(pool, it.address))
        await until(lambda: bool(it.peers) and bool(it.peers[0].received))
        begun = asyncio.get_running_loop().time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: it.peers[0].closed.is_set())
        closed_at = it.peers[0].closed_at
        assert closed_at is not None
        assert closed_at - begun < 0.5  # the promise is 0.1
    assert pool.status().busy == 0


async def test_more_than_the_limit_waits_and_then_is_told(pool: UpstreamPool) -> None:
    """First come, first served; who waits longer than the connect time-out gets a clear refusal, not a hang."""

    async def script(peer: Peer) -> None:
        while await peer.head():
            await asyncio.wait_for(go.wait(), 5)
            await peer.send(ok())

    go = asyncio.Event()
    pool = UpstreamPool(ProxySettings(proxy_max_connections=2, proxy_connect_timeout=0.3))
    async with container(script) as it:
        first = [asyncio.create_task(get(pool, it.address)) for _ in range(2)]
        await until(lambda: len(it.peers) == 2)
        third = asyncio.create_task(get(pool, it.address))
        await until(lambda: pool.status().waiting == 1)
        with pytest.raises(GatewayBusy):
            await third
        fourth = asyncio.create_task(get(pool, it.address))
        await until(lambda: pool.status().waiting == 1)
        go.set()
        assert [got[0] for got in await asyncio.gather(*first, fourth)] == [200, 200, 200]
        assert len(it.peers) == 2
    await pool.aclose()


async def test_streams_do_not_take_the_connections_of_requests() -> None:
    """Open event streams, one a browser tab, must not starve requests; they have a limit of their own."""

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            if b"/event" in head:
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                await peer.gone()
            else:
                await peer.send(ok())

    pool = UpstreamPool(ProxySettings(proxy_max_connections=1, proxy_max_streams=2))
    async with (
        container(script) as it,
        pool.exchange(it.address, "GET", b"/event", []),
        pool.exchange(it.address, "GET", b"/event", []),
    ):
        assert (await get(pool, it.address))[0] == 200
        with pytest.raises(GatewayBusy, match="PROXY_MAX_STREAMS"):
            await get(pool, it.address, target=b"/event")
        assert (pool.status().streams, pool.status().busy) == (2, 0)
    assert pool.status().streams == 0
    await pool.aclose()


async def test_idle_connections_are_bounded_and_expire() -> None:
    """Kept connections are a cache, not a leak."""

    async def script(peer: Peer) -> None:
        while await peer.head():
            await asyncio.wait_for(go.wait(), 5)
            await peer.send(ok())

    go = asyncio.Event()
    pool = UpstreamPool(ProxySettings(proxy_max_keepalive_connections=2, proxy_keepalive_expiry=0.2))
    async with container(script) as it:
        tasks = [asyncio.create_task(get(pool, it.address)) for _ in range(4)]
        await until(lambda: len(it.peers) == 4)
        go.set()
        await asyncio.gather(*tasks)
        assert pool.status().idle == 2
        await until(lambda: pool.status().idle == 0)


async def test_an_idle_connection_gives_way_to_another_container() -> None:
    """Idle ones count in the limit; the one idle longest goes."""

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(ok())

    pool = UpstreamPool(ProxySettings(proxy_max_connections=2))
    async with container(script) as one, container(script) as two, container(script) as three:
        for it in (one, two, three):
            await get(pool, it.address)
        assert pool.status().idle == 2
        await get(pool, two.address)
        assert (len(one.peers), len(two.peers), len(three.peers)) == (1, 1, 1)
        await get(pool, one.address)
        assert len(one.peers) == 2
    await pool.aclose()


async def test_a_dead_containers_connections_are_dropped(pool: UpstreamPool) -> None:
    """Its port may be another container's in a moment, and its streams have no time-out to end them."""

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            if b"/event" in head:
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                await peer.gone()
            else:
                await peer.send(ok())

    async with container(script) as it, container(script) as other:
        async with pool.exchange(it.address, "GET", b"/event", []) as stream:
            await get(pool, it.address)
            await get(pool, other.address)
            assert pool.close_address(it.address) == 2
            with pytest.raises(ContainerBroke):
                await stream.read()
        assert (pool.status().idle, pool.status().streams) == (1, 0)
