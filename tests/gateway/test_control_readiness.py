"""Whether a container serves: only a real answer with the right body counts, and no answer holds anybody up."""

import asyncio
import base64

import pytest

from docker.service import Address
from gateway.control import HEALTH_PATH, TRY_SECONDS, Control
from tests.gateway.proxy.peers import Peer, Script, answers, container, ok

AUTHORIZATION = b"Basic " + base64.b64encode(b"opencode:pw")
HEALTHY = b'{"healthy":true,"version":"1.2.3"}'


async def ready(script: Script) -> bool:
    async with container(script) as peer, Control() as control, asyncio.timeout(10 * TRY_SECONDS):
        return await control.is_ready(peer.address, AUTHORIZATION)


@pytest.mark.parametrize(
    ("raw", "is_ready"),
    [
        (ok(HEALTHY), True),
        (ok(b'{"healthy":true,"version":"1","more":[1]}'), True),
        (ok(b'{"healthy":false,"version":"1"}'), False),
        (ok(b"<!doctype html><title>any path has a page</title>"), False),
        (ok(b'{"healthy":"yes","version":"1"}'), False),
        (ok(b'{"healthy":true}'), False),
        (ok(b"[]"), False),
        (ok(b""), False),
        (ok(b"\xff\xfe"), False),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 34\r\n\r\n" + HEALTHY, False),
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nwww-authenticate: Basic\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n" + HEALTHY, False),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nabcde", False),
        (b"SSH-2.0-OpenSSH\r\n\r\n", False),
        (b"", False),
    ],
)
async def test_only_the_right_answer_is_ready(raw: bytes, is_ready: bool) -> None:
    assert await ready(answers(raw)) is is_ready


async def test_a_closed_port_is_not_ready() -> None:
    async with container(answers()) as peer:
        address = peer.address
    async with Control() as control:
        assert not await control.is_ready(address, AUTHORIZATION)
        assert not await control.accepts(address)


async def test_a_port_that_is_reached_is_told_from_an_agent_that_is_silent() -> None:
    async with container(answers(b"")) as peer, Control() as control:
        assert not await control.is_ready(peer.address, AUTHORIZATION)
        assert await control.accepts(peer.address)


async def test_it_asks_with_the_credential_on_a_connection_of_its_own() -> None:
    """OpenCode never answers the first request that arrives just as its port opens: a connection is not used twice."""
    async with container(answers(ok(HEALTHY))) as peer, Control() as control:
        for _ in range(3):
            assert await control.is_ready(peer.address, AUTHORIZATION)
        heads = [bytes(each.received) for each in peer.peers]
    assert len(heads) == 3
    for head in heads:
        assert head.startswith(b"GET " + HEALTH_PATH.encode() + b" HTTP/1.1\r\n")
        assert b"\r\nauthorization: " + AUTHORIZATION + b"\r\n" in head.replace(b"Authorization", b"authorization")


async def test_a_redirect_is_no_answer() -> None:
    """Followed, it would take the credential to another address."""
    async with container(answers(ok(HEALTHY))) as other:
        location = f"http://{other.address.host}:{other.address.port}{HEALTH_PATH}".encode()
        assert not await ready(
            answers(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: " + location + b"\r\n\r\n")
        )
        assert other.peers == []


async def silent(peer: Peer) -> None:
    await peer.head()
    await peer.gone()


async def dripping(peer: Peer) -> None:
    """A byte before every time-out between two bytes: no end, and no silence either."""
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        await peer.send(b" ")
        await asyncio.sleep(TRY_SECONDS / 20)


async def pouring(peer: Peer) -> None:
    """As much as anybody will take."""
    await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while True:
        await peer.send(b" " * 65536)


@pytest.mark.parametrize("script", [silent, dripping, pouring], ids=lambda script: script.__name__)
async def test_one_try_takes_no_longer_than_it_may(script: Script) -> None:
    """A try that never ends holds a boot's seat, and with one boot a core everybody waits behind it."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert not await ready(script)
    assert loop.time() - begun < 4 * TRY_SECONDS


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would see the containers' credentials."""
    async with container(answers(ok(HEALTHY))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.address.port}")
        async with Control() as control:
            assert not await control.is_ready(Address("127.0.0.1", 1), AUTHORIZATION)
        assert proxy.peers == []
