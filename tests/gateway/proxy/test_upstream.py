"""One connection to a container, on real sockets: what goes out byte for byte, what a hostile answer may not do."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from docker.service import Address
from gateway.proxy.errors import (
    ContainerBroke,
    ContainerProtocolError,
    ContainerTimedOut,
    ProxyError,
)
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.settings import ProxySettings
from tests.gateway.proxy.peers import Peer, answers, container, ok, until

Got = tuple[int, list[tuple[bytes, bytes]], bytes]


@pytest.fixture
async def pool() -> AsyncIterator[UpstreamPool]:
    pool = UpstreamPool(ProxySettings(proxy_read_timeout=2.0, proxy_write_timeout=2.0, proxy_connect_timeout=2.0))
    yield pool
    await pool.aclose()


async def get(pool: UpstreamPool, address: Address, method: str = "GET", target: bytes = b"/") -> Got:
    async with pool.exchange(address, method, target, [(b"host", b"c")]) as response:
        return response.status, response.headers, b"".join([chunk async for chunk in response.body])


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_the_request_goes_out_exactly_as_given(pool: UpstreamPool) -> None:
    """Order, duplicates, odd bytes: what the caller gives is what the container reads; nothing is added."""
    headers = [(b"host", b"c"), (b"x-a", b"1"), (b"cookie", b"a=\xff"), (b"x-b", b""), (b"x-a", b"2")]
    target = b'/a/../b//%2e%2E/%zz\\{"k"}|^`;p?q=%ff&&x=[1]'
    async with container(answers(ok())) as it:
        async with pool.exchange(it.address, "PROPFIND", target, headers) as response:
            assert response.status == 200
        assert bytes(it.peers[0].received) == (
            b"PROPFIND " + target + b" HTTP/1.1\r\nhost: c\r\nx-a: 1\r\ncookie: a=\xff\r\nx-b: \r\nx-a: 2\r\n\r\n"
        )


async def test_the_response_comes_back_in_order_with_duplicates(pool: UpstreamPool) -> None:
    """Two Set-Cookie lines and bytes that are not UTF-8 are two lines and those bytes; only names are lower-cased."""
    raw = b"HTTP/1.1 299 \xff\r\nSet-Cookie: a\r\nX-B: \xe9\r\nset-cookie: b\r\nContent-Length: 3\r\n\r\nabc"
    async with container(answers(raw)) as it:
        status, headers, body = await get(pool, it.address)
    assert (status, body) == (299, b"abc")
    assert headers == [(b"set-cookie", b"a"), (b"x-b", b"\xe9"), (b"set-cookie", b"b"), (b"content-length", b"3")]


@pytest.mark.parametrize("bad", [b"/a b", b"/a\r\nx: y", b"/\n", b"/a\0"])
def test_a_target_cannot_break_out_of_its_line(pool: UpstreamPool, bad: bytes) -> None:
    """The last line of defence behind the guard: a request is never split by its own bytes."""
    with pytest.raises(ValueError, match="would break"):
        pool.exchange(Address("127.0.0.1", 1), "GET", bad, [])


def test_a_header_cannot_break_out_of_its_line(pool: UpstreamPool) -> None:
    """Also for values that the gateway writes itself."""
    with pytest.raises(ValueError, match="would break"):
        pool.exchange(Address("127.0.0.1", 1), "GET", b"/", [(b"x", b"a\r\ny: z")])


HOSTILE = {
    "cl and te": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te and cl": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    "a huge length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "xchunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare lf in one header": b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n",
    "bare cr in a value": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "nul in a value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "folded header": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
    "empty name": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
    "http/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "http/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "garbage": b"\x16\x03\x01\x02garbage\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status under 100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "unasked 101": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "a flood of 1xx": b"HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n" * 40 + ok(),
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(1000)),
    "chunk size 0x3": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size of 30 digits": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\nabc",
    "chunk without crlf": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
    "chunk size with bare lf": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "an endless chunk extension": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;" + b"x" * 900_000,
    "an endless trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 900_000,
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
async def test_an_unclear_response_is_refused_and_its_connection_closed(pool: UpstreamPool, raw: bytes) -> None:
    """Two readers could see two different answers in it, or memory would grow without end (RFC 9112 section 11)."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.write(raw)
        await peer.gone()

    async with container(script) as it:
        with pytest.raises(ContainerProtocolError):
            await get(pool, it.address)
        await until(lambda: it.peers[0].closed.is_set())
    assert (pool.status().idle, pool.status().busy) == (0, 0)


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
async def test_an_unclear_response_is_refused_byte_by_byte(pool: UpstreamPool, raw: bytes) -> None:
    """How TCP cuts the response changes nothing. (Floods are cut in larger pieces: the time would go to the loop.)"""
    step = max(1, len(raw) // 300)

    async def script(peer: Peer) -> None:
        await peer.head()
        for start in range(0, len(raw), step):
            await peer.send(raw[start : start + step])
            await asyncio.sleep(0)
        await peer.gone()

    async with container(script) as it:
        with pytest.raises(ContainerProtocolError):
            await get(pool, it.address)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
async def test_a_cut_body_is_never_a_clean_end(pool: UpstreamPool, raw: bytes) -> None:
    """What came is handed on, then the error: half a JSON file must not look whole."""
    async with container(answers(raw)) as it, pool.exchange(it.address, "GET", b"/", []) as response:
        assert await response.read() == b"ab"
        with pytest.raises(ContainerBroke):
            await response.read()


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_a_container_that_closes_instead_of_answering_broke(pool: UpstreamPool, raw: bytes) -> None:
    """A first use is not retried: the container may have acted on the request."""
    async with container(answers(raw)) as it:
        with pytest.raises(ContainerBroke):
            await get(pool, it.address)
        assert len(it.peers) == 1


async def test_a_body_without_a_length_ends_with_the_connection(pool: UpstreamPool) -> None:
    """RFC 9112 section 6.3, rule 8: the only body whose end is the end of the connection."""
    async with container(answers(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as it:
        assert (await get(pool, it.address))[2] == b"all of it"


async def test_a_reset_does_not_end_a_body_without_a_length(pool: UpstreamPool) -> None:
    """RST is not an end in order, so what came may be half."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.wait_for(read.wait(), 5)
        linger_off(peer)

    read = asyncio.Event()
    async with container(script) as it, pool.exchange(it.address, "GET", b"/", []) as response:
        assert await response.read() == b"half"
        read.set()
        with pytest.raises(ContainerBroke):
            await response.read()


def linger_off(peer: Peer) -> None:
    raw: socket.socket = peer.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.writer.transport.abort()


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ([], b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
        ([(b"content-length", b"5")], b"content-length: 5\r\n\r\nabcde"),
    ],
)
async def test_a_body_is_framed_as_announced(
    pool: UpstreamPool, headers: list[tuple[bytes, bytes]], sent: bytes
) -> None:
    """With its length when the client gave one, else in chunks."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.body(len(sent.partition(b"\r\n\r\n")[2]))
        await peer.send(ok())

    async with container(script) as it:
        async with pool.exchange(it.address, "POST", b"/", headers, body=pieces(b"ab", b"cde")) as response:
            assert response.status == 200
        assert bytes(it.peers[0].received) == b"POST / HTTP/1.1\r\n" + sent


async def test_a_body_shorter_than_announced_ends_the_exchange(pool: UpstreamPool) -> None:
    """The container would wait for the rest, and take the next request for it."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.gone()

    async with container(script) as it:
        with pytest.raises(ProxyError, match="as long as it announced"):
            async with pool.exchange(it.address, "POST", b"/", [(b"content-length", b"9")], body=pieces(b"abc")):
                pass
        await until(lambda: it.peers[0].closed.is_set())


async def test_an_answer_may_come_before_the_body_is_sent(pool: UpstreamPool) -> None:
    """A container that refuses an upload says so at once; the connection is then of no more use."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Large\r\ncontent-length: 3\r\n\r\nbig")
        await peer.gone()

    async with container(script) as it:
        async with pool.exchange(it.address, "POST", b"/", [], body=endless()) as response:
            assert response.status == 413
            assert await response.read() == b"big"
        await until(lambda: it.peers[0].closed.is_set())
    assert pool.status().idle == 0


async def test_a_container_that_takes_no_body_times_out() -> None:
    """Nobody reads a blocked upload's client, so only this ends it."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def script(peer: Peer) -> None:
        await peer.head()
        await asyncio.wait_for(stop.wait(), 5)

    stop = asyncio.Event()
    pool = UpstreamPool(ProxySettings(proxy_write_timeout=0.2))
    async with container(script) as it:
        with pytest.raises(ContainerTimedOut, match="proxy_write_timeout"):
            async with pool.exchange(it.address, "POST", b"/", [], body=endless()):
                pass
        stop.set()


async def test_silence_before_and_within_an_answer_times_out() -> None:
    """With a type of its own, so that the client knows who was late."""
    half = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"

    async def script(peer: Peer) -> None:
        head = await peer.head()
        if b"/half" in head:
            await peer.send(half)
        await peer.gone()

    pool = UpstreamPool(ProxySettings(proxy_read_timeout=0.15))
    async with container(script) as it:
        with pytest.raises(ContainerTimedOut, match="proxy_read_timeout"):
            await get(pool, it.address)
        with pytest.raises(ContainerTimedOut, match="proxy_read_timeout"):
            await get(pool, it.address, target=b"/half")
        await until(lambda: all(peer.closed.is_set() for peer in it.peers))


async def test_an_event_stream_may_be_silent_for_longer_than_the_read_timeout() -> None:
    """OpenCode sends a heartbeat every 10 s, others none at all."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\n\r\n")
        await asyncio.sleep(0.5)
        await peer.send(b"data: late\n\n")

    pool = UpstreamPool(ProxySettings(proxy_read_timeout=0.1))
    async with container(script) as it, pool.exchange(it.address, "GET", b"/event", []) as response:
        assert (pool.status().streams, pool.status().busy) == (1, 0)
        assert await response.read() == b"data: late\n\n"
        assert await response.read() == b""


async def test_a_slow_upload_is_not_the_containers_silence() -> None:
    """The read time-out counts from the last byte of the request."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.4)
        yield b"b"

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.body(2)
        await peer.send(ok())

    pool = UpstreamPool(ProxySettings(proxy_read_timeout=0.15))
    headers = [(b"content-length", b"2")]
    async with (
        container(script) as it,
        pool.exchange(it.address, "POST", b"/", headers, body=slow()) as response,
    ):
        assert response.status == 200


async def test_a_slow_reader_stops_the_container(pool: UpstreamPool) -> None:
    """Backpressure: what nobody reads stays with the container, not in our memory."""
    sent, total, block = 0, 50 * 2**20, b"x" * 2**16

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        peer.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        for _ in range(total // len(block)):
            peer.writer.write(block)
            await peer.writer.drain()
            sent += len(block)

    async with container(script) as it, pool.exchange(it.address, "GET", b"/", []) as response:
        await response.read()
        before = -1
        while before != sent:  # until it stands still
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 20 * 2**20  # kernel buffers of loopback, measured 3-6 MB
        read = len(block)
        largest = 0
        while data := await response.read():
            largest = max(largest, len(data))
            read += len(data)
        assert largest <= 2**19
        assert sent == total
