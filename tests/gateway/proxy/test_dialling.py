"""A container that refuses is dialled again for a moment of its address; whatever else is wrong is told at once."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from docker.service import Address
from gateway.proxy.dialling import PAUSE, REFUSED_SECONDS, Dials
from gateway.proxy.errors import ContainerUnreachable
from gateway.proxy.http import Forward
from gateway.proxy.pool import UpstreamPool
from gateway.proxy.settings import ProxySettings
from gateway.proxy.websocket import ContainerSockets
from tests.gateway.proxy.peers import WAIT_SECONDS, Peer, until
from tests.gateway.proxy.peers import ok as answer_ok

HERE, THERE = Address("127.0.0.1", 1), Address("127.0.0.1", 2)


class Time:
    """A clock that only pauses move. ``at_pause`` is called with the number of the pause."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, 0
        self.held = asyncio.Event()
        self.held.set()

    async def pause(self, seconds: float) -> None:
        self.pauses += 1
        await self.held.wait()
        await self.at_pause()
        self.now += seconds

    async def at_pause(self) -> None:
        await asyncio.sleep(0)

    def dials(self, seconds: float = REFUSED_SECONDS) -> Dials:
        return Dials(seconds=seconds, clock=lambda: self.now, pause=self.pause)


class Refusing:
    """Refuses ``times`` times, then answers."""

    def __init__(self, times: int, error: OSError | None = None) -> None:
        self.left, self.error, self.dials = times, error or ConnectionRefusedError("still"), 0

    async def __call__(self) -> str:
        self.dials += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "connected"


@pytest.fixture
def port() -> Iterator[int]:
    """Bound by us and listened on by nobody: refused until a test listens."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def listening(port: int, answer: bytes, got: list[bytes]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await Peer(reader, writer).head())
        writer.write(answer)
        await reader.read()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port, reuse_port=True)


async def test_a_container_whose_port_comes_back_is_reached() -> None:
    dial = Refusing(2)
    assert await Time().dials().dial(HERE, dial) == "connected"
    assert dial.dials == 3


async def test_a_container_that_goes_on_refusing_is_told() -> None:
    time, dial = Time(), Refusing(10**9)
    with pytest.raises(ConnectionRefusedError, match="still"):
        await time.dials().dial(HERE, dial)
    assert REFUSED_SECONDS <= time.now < REFUSED_SECONDS + 2 * PAUSE
    assert dial.dials == time.pauses, "the last pause ends the moment"


async def test_all_requests_share_one_moment_and_its_dials() -> None:
    """A hundred requests wait no longer than one, and dial hardly more often."""
    time, dial = Time(), Refusing(10**9)
    dials = time.dials()
    ended = await asyncio.gather(*(dials.dial(HERE, dial) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(error, ConnectionRefusedError) for error in ended)
    assert time.now < REFUSED_SECONDS + 2 * PAUSE
    assert dial.dials - 100 <= REFUSED_SECONDS / PAUSE + 1, "one dial a pause"


async def test_all_that_wait_go_on_once_it_accepts() -> None:
    time = Time()
    dials = time.dials()
    first = Refusing(1)

    async def attempt() -> str:
        connected = await first()
        dials.accepted(HERE)
        return connected

    others = [Refusing(1) for _ in range(50)]
    ended = await asyncio.gather(dials.dial(HERE, attempt), *(dials.dial(HERE, other) for other in others))
    assert set(ended) == {"connected"}
    assert time.pauses == 1


async def test_an_address_that_refused_for_long_fails_at_once_until_it_has_accepted() -> None:
    time = Time()
    dials = time.dials()
    with pytest.raises(ConnectionRefusedError):
        await dials.dial(HERE, Refusing(10**9))
    before, again = time.pauses, Refusing(10**9)
    with pytest.raises(ConnectionRefusedError):
        await dials.dial(HERE, again)
    assert (again.dials, time.pauses) == (1, before)
    assert await dials.dial(THERE, Refusing(1)) == "connected", "another address has its own moment"
    dials.accepted(HERE)
    assert await dials.dial(HERE, Refusing(1)) == "connected"


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), OSError(113, "No route to host")])
async def test_another_failure_is_told_at_once(error: OSError) -> None:
    """Something may have been sent, or waiting would not help."""
    dial = Refusing(1, error)
    with pytest.raises(type(error)):
        await Time().dials().dial(HERE, dial)
    assert dial.dials == 1


async def test_a_closed_address_ends_its_dials_alone() -> None:
    time = Time()
    time.held.clear()
    dials = time.dials()
    here, there = (asyncio.create_task(dials.dial(at, Refusing(1))) for at in (HERE, THERE))
    await until(lambda: time.pauses == 2)
    assert dials.close_address(HERE) == 1
    with pytest.raises(ContainerUnreachable, match="ended before"):
        await here
    time.held.set()
    assert await there == "connected"
    assert dials.addresses == set()


class Opening(Time):
    """Somebody listens at ``port`` after the first pause."""

    def __init__(self, port: int, answer: bytes) -> None:
        super().__init__()
        self.port, self.answer = port, answer
        self.got: list[bytes] = []
        self.server: asyncio.Server | None = None

    async def at_pause(self) -> None:
        if self.server is None:
            self.server = await listening(self.port, self.answer, self.got)


async def test_a_request_reaches_a_port_that_listens_a_moment_later(port: int) -> None:
    time = Opening(port, answer_ok())
    pool = UpstreamPool(ProxySettings())
    pool.dials = time.dials()
    async with pool.exchange(Address("127.0.0.1", port), "POST", b"/", [(b"host", b"c")]) as response:
        assert response.status == 200
    assert (time.pauses, len(time.got)) == (1, 1), "refused once, and sent once"
    await pool.aclose()
    assert time.server is not None
    time.server.close()


async def test_a_websocket_reaches_a_port_that_listens_a_moment_later(port: int) -> None:
    """It is answered, whatever with: it was dialled again."""
    time = Opening(port, b"HTTP/1.1 418 No\r\ncontent-length: 0\r\n\r\n")
    sockets = ContainerSockets(ProxySettings(), time.dials())

    async def receive() -> dict[str, str]:
        if messages:
            return messages.pop()
        return await asyncio.Future()

    async def send(message: object) -> None:
        raise AssertionError(message)

    messages = [{"type": "websocket.connect"}]
    forward = Forward(address=Address("127.0.0.1", port), raw_target=b"/pty", headers=[])
    scope = {"type": "websocket", "subprotocols": []}
    result = await asyncio.wait_for(sockets.relay(scope, receive, send, forward=forward), WAIT_SECONDS)
    assert (result.status, result.error) == (418, None)
    assert (time.pauses, len(time.got)) == (1, 1)
    await sockets.aclose()
    assert time.server is not None
    time.server.close()


async def test_no_byte_of_a_request_reaches_the_ports_next_owner(port: int) -> None:
    """Its Authorization is the ended container's. The listener is there before the dial would be made again."""
    time = Time()
    time.held.clear()
    pool = UpstreamPool(ProxySettings())
    pool.dials = time.dials()
    address = Address("127.0.0.1", port)

    async def post() -> int:
        async with pool.exchange(address, "POST", b"/of-a", [(b"authorization", b"Basic A")]) as response:
            return response.status

    posting = asyncio.create_task(post())
    await until(lambda: time.pauses == 1)
    assert pool.close_address(address) == 1
    got: list[bytes] = []
    server = await listening(port, answer_ok(), got)
    time.held.set()
    with pytest.raises(ContainerUnreachable):
        await posting
    assert got == []
    await pool.aclose()
    server.close()


async def test_what_waits_for_a_refusing_address_holds_no_slot(port: int) -> None:
    """Ten times as many requests as there are connections, and a healthy session is served meanwhile."""
    time = Time()
    time.held.clear()
    pool = UpstreamPool(ProxySettings(proxy_max_connections=2))
    pool.dials = time.dials()
    got: list[bytes] = []
    server = await listening(0, answer_ok(), got)

    async def ask(at: int) -> int:
        async with pool.exchange(Address("127.0.0.1", at), "GET", b"/", [(b"host", b"c")]) as response:
            return response.status

    waiting = [asyncio.create_task(ask(port)) for _ in range(20)]
    await until(lambda: time.pauses == 1 and pool.status().busy == pool.status().waiting == 0)
    assert await ask(server.sockets[0].getsockname()[1]) == 200
    assert pool.close_address(Address("127.0.0.1", port)) == 20
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, ContainerUnreachable) for error in ended)
    assert pool.status().busy == 0
    await pool.aclose()
    server.close()


async def test_a_refusal_is_told_as_one_however_short_the_time_to_connect(port: int) -> None:
    pool = UpstreamPool(ProxySettings(proxy_connect_timeout=0.1))
    began = asyncio.get_running_loop().time()
    with pytest.raises(ContainerUnreachable, match="refuses connections"):
        async with pool.exchange(Address("127.0.0.1", port), "GET", b"/", [(b"host", b"c")]):
            pass
    assert asyncio.get_running_loop().time() - began < REFUSED_SECONDS / 2, "PROXY_CONNECT_TIMEOUT bounds the moment"
    await pool.aclose()
