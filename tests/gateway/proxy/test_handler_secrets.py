"""Two secrets, one on each side: the client never sees the container's, the container never sees the client's."""

import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from docker.agent.echo import WEBSOCKET_SALT
from docker.mock import MockDockerService
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.storage import Report, Storage
from tests.gateway.clients import HANDSHAKE, nobody, websocket
from tests.gateway.proxy.peers import Container, Peer, container, ok
from tests.gateway.world import AGENT
from tests.gateway_fixtures import Gateway, Session, start_gateway

HEALTH = b'{"healthy":true,"version":"1"}'
BASIC = b'www-authenticate: Basic realm="Secure Area"'


async def agent(peer: Peer) -> None:
    """Answers what its path asks for; whatever it is sent is kept in ``peer.received``."""
    while head := await peer.head():
        path = head.split(b" ")[1].partition(b"?")[0]
        match path:
            case b"/global/health":
                await peer.send(ok(HEALTH))
            case b"/basic":
                await peer.send(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 6\r\n" + BASIC + b"\r\n\r\nsecret")
            case b"/bearer":
                await peer.send(
                    b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\nwww-authenticate: Bearer\r\n\r\nmine"
                )
            case b"/both":
                challenge = b"www-authenticate: Bearer, Basic realm=x\r\n"
                await peer.send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n" + challenge + b"\r\nno")
            case b"/away":
                await peer.send(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:9/x\r\n\r\n")
            case b"/cookie":
                await peer.send(ok(b"hi", b"set-cookie: a=b", b"x-request-id: forged", b"traceparent: forged"))
            case b"/ws":
                await peer.send(accepted(head))
                await peer.gone()
                return
            case _:
                await peer.send(ok(b"hello"))


def accepted(head: bytes) -> bytes:
    (key,) = re.findall(rb"(?i)sec-websocket-key: *(\S+)", head)
    proof = base64.b64encode(hashlib.sha1(key + WEBSOCKET_SALT).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: " + proof + b"\r\n\r\n"
    )


class Watched:
    """A ready session whose container is a script of this test."""

    def __init__(self, gateway: Gateway, session: Session, behind: Container) -> None:
        self.gateway, self.session, self._behind = gateway, session, behind
        name = gateway.services.views.sessions[session.session_id].container
        self.credential = gateway.services.tokens.credential(name)

    @property
    def received(self) -> bytes:
        """Every byte that the container was ever sent."""
        return b"".join(bytes(peer.received) for peer in self._behind.peers)

    def heads(self, path: bytes) -> list[bytes]:
        """Heads of the requests for ``path``."""
        return re.findall(rb"(?:GET|POST) " + re.escape(path) + rb"[ ?].*?\r\n\r\n", self.received, re.DOTALL)


@contextlib.asynccontextmanager
async def watched(data_dir: Path) -> AsyncIterator[Watched]:
    async with container(agent) as behind:

        @contextlib.asynccontextmanager
        async def runtime_of(settings: Settings, storage: Storage, report: Report) -> AsyncIterator[Runtime]:
            docker = MockDockerService(address_of=lambda name: behind.address)
            yield Runtime(docker=docker, agent=AGENT, summary="scripted")

        async with start_gateway(data_dir, runtime_of=runtime_of) as gateway:
            yield Watched(gateway, await gateway.open(), behind)


async def test_the_token_never_reaches_the_container(tmp_path: Path) -> None:
    """Not as a bearer, not as a subprotocol, not in the query: whoever owns the container would own the session."""
    async with watched(tmp_path) as it, nobody(it.gateway) as client:
        token, path = it.session.token, it.session.path
        await client.get(path(f"one?auth_token={token}&keep=1&auth%5Ftoken={token}"), headers=it.session.headers)
        await client.post(path("two"), headers={**it.session.headers, "proxy-authorization": f"Bearer {token}"})
        for protocols in [(f"session-token.{token}", "session-gateway"), ("chat", f"session-token.{token}")]:
            async with websocket(it.gateway, path("ws"), protocols=protocols):
                pass
        async with websocket(it.gateway, path(f"ws?auth_token={token}"), headers=it.session.headers):
            pass
        assert len(it.heads(b"/one")) == len(it.heads(b"/two")) == 1
        assert len(it.heads(b"/ws")) == 3
        assert b"keep=1" in it.received
        assert token.encode() not in it.received
        assert token.removeprefix("gwt_").encode() not in it.received
        assert b"session-gateway" not in it.received and b"session-token" not in it.received


async def test_the_container_is_asked_with_its_own_credential(tmp_path: Path) -> None:
    """And with no other: whatever a client sends as one is replaced, on every door."""
    async with watched(tmp_path) as it, nobody(it.gateway) as client:
        expected = b"Basic " + base64.b64encode(f"opencode:{it.credential}".encode())
        await client.get(it.session.path("one"), headers=it.session.headers)
        async with websocket(it.gateway, it.session.path("ws"), headers=it.session.headers):
            pass
        for path in (b"/one", b"/ws"):
            (head,) = it.heads(path)
            assert re.findall(rb"(?i)\r\nauthorization: ([^\r]*)", head) == [expected]


@pytest.mark.parametrize("headers", [{}, HANDSHAKE])
async def test_a_container_that_asks_for_its_password_is_our_problem(
    tmp_path: Path, headers: Mapping[str, str]
) -> None:
    """A browser would ask the person for a password that nobody has; and an agent's 401 of another kind is its own."""
    async with watched(tmp_path) as it, nobody(it.gateway) as client:
        asked = {**headers, **it.session.headers}
        answer = await client.get(it.session.path("basic"), headers=asked)
        assert (answer.status_code, answer.json()["type"]) == (502, "/problems/container-refused-us")
        assert "www-authenticate" not in answer.headers and "secret" not in answer.text
        own = await client.get(it.session.path("bearer"), headers=asked)
        assert (own.status_code, own.text, own.headers["www-authenticate"]) == (401, "mine", "Bearer")
        both = await client.get(it.session.path("both"), headers=asked)
        assert (both.status_code, "Basic" in both.headers.get("www-authenticate", "")) == (403, False)
        first, *_ = await it.gateway.payloads("exchange.completed")
        assert (first.status, first.ended_by, first.error) == (502, "gateway", "container_refused_us")


async def test_the_credential_is_in_no_answer(tmp_path: Path) -> None:
    """Whatever the gateway answers by itself about a session or a container, in every route that shows one."""
    async with watched(tmp_path) as it, nobody(it.gateway) as client:
        await client.get(it.session.path("one"), headers=it.session.headers)
        base = f"/sessions/{it.session.session_id}"
        answers = [
            await client.get(it.session.path("one"), headers=it.session.headers),
            await client.get(it.session.path("basic"), headers=it.session.headers),
            *[await it.gateway.client.get(path) for path in (base, "/sessions", "/events?limit=1000", "/health")],
            await it.gateway.client.post(f"{base}/token"),
            await it.gateway.client.get("/openapi.json"),
        ]
        encoded = base64.b64encode(f"opencode:{it.credential}".encode()).decode()
        for answer in answers:
            told = answer.text + str(answer.headers)
            assert it.credential not in told and encoded not in told, answer.url


async def test_a_redirect_is_passed_on_and_never_followed(tmp_path: Path) -> None:
    """A container must not send the gateway, with its credential, to another address."""
    async with watched(tmp_path) as it, nobody(it.gateway) as client:
        for headers in ({}, HANDSHAKE):
            answer = await client.get(it.session.path("away"), headers={**headers, **it.session.headers})
            assert (answer.status_code, answer.headers["location"]) == (302, "http://127.0.0.1:9/x")


async def test_answers_carry_our_ids_and_no_cookie(tmp_path: Path) -> None:
    """All sessions share one origin: one container's cookie would be sent to every other one."""
    async with watched(tmp_path) as it, nobody(it.gateway) as client:
        answer = await client.get(it.session.path("cookie"), headers={**it.session.headers, "x-request-id": "mine"})
        assert "set-cookie" not in answer.headers
        assert answer.headers.get_list("x-request-id") == ["mine"]
        assert len(answer.headers.get_list("traceparent")) == 1 and "forged" not in answer.headers["traceparent"]
        (head,) = it.heads(b"/cookie")
        assert b"\r\nx-request-id: mine\r\n" in head
        trace = answer.headers["traceparent"].split("-")[1]
        assert f"\r\ntraceparent: 00-{trace}-".encode() in head
