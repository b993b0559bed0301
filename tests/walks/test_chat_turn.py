"""The main job, end to end on real parts: a chat turn with real OpenCode, and the log afterwards."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx
import msgspec
import pytest
import pytest_asyncio

from docker.agent import opencode
from docker.agent.model import StubModel
from docker.agent.opencode import OpenCode
from events import codec
from events.catalogue import SubjectErased
from events.envelope import SYSTEM, ActorKind
from gateway.api import shapes
from gateway.recorder import Who
from gateway.storage import open_storage
from projections import asof
from projections.session_state import Sessions
from tests.docker_fixtures import CACHE, DockerDaemon, without_docker
from tests.gateway_fixtures import Gateway, Session, start_gateway

TITLE: Final = {"title": "walk"}  # without a title OpenCode asks its model for one
SAID: Final = "hello gateway"
OWNER: Final = "ada.lovelace@example.org"
METADATA: Final = {"room": "the secret garden"}
PATIENT: Final = {"prefer": "wait=110"}  # a boot burns 4-5 CPU seconds, and machines are shared

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


@pytest_asyncio.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "local"])
async def real_gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on an embedded Postgres whose sessions run real OpenCode with the stub model."""
    environment = {"SESSION_READY_SECONDS": "110", "PROXY_READ_TIMEOUT": "90"}
    host = "127.0.0.1"
    if request.param == "docker":
        daemon: DockerDaemon = request.getfixturevalue("docker_daemon")
        image: str = request.getfixturevalue("opencode_image")
        host = daemon.host_address()
        environment |= {**daemon.environment, "SESSION_RUNTIME": "docker", "SESSION_IMAGE": image}
    else:
        found = await opencode.locate(CACHE, search_path=os.environ["PATH"])
        if not isinstance(found, OpenCode):
            without_docker(found.reason)
        (tmp_path / "cache").symlink_to(CACHE)
        environment |= {"SESSION_RUNTIME": "local", "SESSION_IMAGE": "opencode"}
    with StubModel(host) as model:
        environment |= {"MODEL_BASE_URL": model.base_url, "MODEL_NAME": "stub-1"}
        async with start_gateway(tmp_path, environment, log_of=open_storage) as gateway:
            yield gateway


@pytest.mark.opencode
async def test_a_chat_turn_and_its_log(real_gateway: Gateway) -> None:
    """Open, read progress, talk, type in the terminal, stop, resume: the conversation is still there."""
    gateway = real_gateway
    session = await _open(gateway)
    conversation = (await _call(gateway, session, "POST", "session", TITLE))["id"]
    assert await _turn(gateway, session, conversation) == f"You said: {SAID}"
    assert "42" in await _terminal(gateway, session, "echo $((6*7))")
    await gateway.stop(session)

    resumed = await gateway.client.post(f"/sessions/{session.session_id}/resume", headers=PATIENT)
    assert resumed.status_code == 201, resumed.text
    session = Session(session.session_id, resumed.json()["token"])
    assert conversation in [each["id"] for each in await _call(gateway, session, "GET", "session")]

    await _check_log(gateway, session)
    await _check_replay(gateway)
    await _check_erasure(gateway)
    await gateway.stop(session)
    await _check_data_is_gone(gateway, session)


async def _open(gateway: Gateway) -> Session:
    """Open, and follow the progress to ready."""
    opened = await gateway.client.post("/sessions", json={"owner": OWNER, "metadata": METADATA})
    assert opened.status_code == 202, opened.text
    seen = []
    async with gateway.client.stream("GET", opened.json()["links"]["progress"]) as progress:
        async for line in progress.aiter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
            if seen and seen[-1] in ("session.ready", "session.failed"):
                break
    assert seen == ["session.requested", "token.issued", "container.created", "container.started", "session.ready"]
    return Session(opened.json()["session_id"], opened.json()["token"])


async def _call(gateway: Gateway, session: Session, method: str, path: str, body: Any = None) -> Any:
    answer = await gateway.client.request(method, session.path(path), json=body, headers=session.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _turn(gateway: Gateway, session: Session, conversation: str) -> str:
    """One message; what its answer streamed as events, which must be what the request answered."""
    async with gateway.client.stream("GET", session.path("event"), headers=session.headers, timeout=None) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async with aclosing(_events(stream)) as events:
            assert (await anext(events))["type"] == "server.connected"
            message = {"parts": [{"type": "text", "text": SAID}]}
            asked = asyncio.create_task(_call(gateway, session, "POST", f"session/{conversation}/message", message))
            seen = {"message.updated": False, "session.idle": False}
            async with asyncio.timeout(90):
                while not all(seen.values()):
                    event = await anext(events)
                    if event["type"] in seen:
                        seen[event["type"]] = True
            answer = await asked
    return "".join(part["text"] for part in answer["parts"] if part["type"] == "text").strip()


async def _events(stream: httpx.Response) -> AsyncGenerator[Any, None]:
    async for line in stream.aiter_lines():
        if line.startswith("data: "):
            yield msgspec.json.decode(line.removeprefix("data: "))


async def _terminal(gateway: Gateway, session: Session, command: str) -> str:
    """Type a command in the session's terminal; what came back until its result was there."""
    terminal = (await _call(gateway, session, "POST", "pty", {"command": "/bin/sh", "args": []}))["id"]
    url = f"{gateway.url}{session.path(f'pty/{terminal}/connect')}"
    shown = ""
    protocols = (f"session-token.{session.token}", "session-gateway")
    async with aiohttp.ClientSession() as client, client.ws_connect(url, protocols=protocols) as socket:
        assert socket.protocol == "session-gateway"
        await socket.send_str(f"{command}\n")
        async with asyncio.timeout(30):
            while "42" not in shown:
                message = await socket.receive()
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
                shown += message.data if isinstance(message.data, str) else ""
    return shown


async def _check_log(gateway: Gateway, session: Session) -> None:
    """Every step and every exchange is an event with actor, cause and trace; nothing secret or personal in clear."""
    log = await gateway.log()
    types = {event.type for event in log}
    assert types >= {
        "api_key.created",
        "gateway.started",
        "session.requested",
        "token.issued",
        "admission.granted",
        "container.created",
        "container.started",
        "session.ready",
        "exchange.completed",
        "exchange.opened",
        "exchange.closed",
        "session.stop_requested",
        "token.revoked",
        "container.removed",
        "session.stopped",
        "admission.released",
        "session.resumed",
    }
    for event in log:
        assert codec.decode_actor(event).id
        if event.type not in ("api_key.created", "gateway.started"):
            assert event.trace_id is not None, event.type
            # What is seen of certificates is asked for by nobody.
            assert event.correlation_id is not None or event.type.startswith("certificate."), event.type
    opened = [codec.decode(event) for event in log if event.type == "exchange.opened"]
    assert {payload.kind for payload in opened} >= {"sse", "websocket"}  # type: ignore[union-attr]  # of one type
    raw = b"\n".join(event.payload + event.actor for event in log)
    state = gateway.services.views.sessions[session.session_id]
    tokens = gateway.services.tokens
    secrets = [
        OWNER,
        METADATA["room"],
        SAID,
        "127.0.0.1" if gateway.runtime.docker.runtime == "docker" else OWNER,
        *(tokens.token(session.session_id, serial) for serial in (1, 2)),
        *(tokens.credential(container) for container in state.containers),
        gateway.client.headers["authorization"].split()[1],
        "/session",
    ]
    for secret in secrets:
        assert secret.encode() not in raw, secret


async def _check_replay(gateway: Gateway) -> None:
    """The log folded alone says exactly what ``GET /sessions`` says."""
    answered = (await gateway.client.get("/sessions")).json()
    states = await asof.as_of(gateway.services.store, Sessions(), answered["position"])
    views = await shapes.sessions(list(states.values()), gateway.services.keyring)
    assert msgspec.json.decode(msgspec.json.encode(views)) == answered["sessions"]
    assert answered["sessions"][0]["owner"] == OWNER


async def _check_erasure(gateway: Gateway) -> None:
    """After the keys are gone the log reads and folds, and the subject is nowhere."""
    ids = await gateway.services.keyring.erase(OWNER)
    erased = SubjectErased(key_ids=ids, reason="asked")
    await gateway.services.recorder.fact(SYSTEM, erased, who=Who(kind=ActorKind.OPERATOR, id="test"))
    page = await gateway.client.get("/events", params={"limit": 1000})
    shown = await gateway.client.get("/sessions")
    assert page.status_code == shown.status_code == 200
    for text in (page.text, shown.text):
        assert OWNER not in text and METADATA["room"] not in text
    assert shown.json()["sessions"][0]["owner"] == "[erased]"


async def _check_data_is_gone(gateway: Gateway, session: Session) -> None:
    """What the agent kept of the erased subject goes as soon as the session has ended."""
    views = gateway.services.views
    assert await views.wait_for(lambda: not views.sessions[session.session_id].volumes, 20)
    answer = await gateway.client.post(f"/sessions/{session.session_id}/resume")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/illegal-move")
