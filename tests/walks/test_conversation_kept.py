"""A conversation outlives its container: after every way of ending, real OpenCode lists the same one, word for word.

The container dies the moment a message is answered, so what is not yet on the volume then would be missing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from docker.agent.model import StubModel
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.docker_fixtures import DockerDaemon
from tests.event_fixtures import until
from tests.gateway_fixtures import Gateway, Session, start_gateway

PATIENT: Final = {"prefer": "wait=110"}  # a boot burns 4-5 CPU seconds, and machines are shared
# A terminal's command, which no conversation tells of: in /tmp, memory of no process, until the largest one is killed.
FILL: Final = "dd if=/dev/zero of=/tmp/fill bs=1M count=500"

pytestmark = [pytest.mark.docker, pytest.mark.opencode, pytest.mark.timeout(300)]


class Talk:
    """One session and its conversation, through all of its containers."""

    def __init__(self, gateway: Gateway, daemon: DockerDaemon, session: Session) -> None:
        self.gateway, self.daemon, self.session = gateway, daemon, session
        self.conversation = ""

    @property
    def state(self) -> SessionState:
        return self.gateway.services.views.sessions[self.session.session_id]

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.gateway.client.request(
            method, self.session.path(path), json=body, headers=self.session.headers, timeout=90
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def say(self, text: str) -> None:
        """One finished message."""
        if not self.conversation:
            self.conversation = (await self.call("POST", "session", {"title": "walk"}))["id"]
        body = {"parts": [{"type": "text", "text": text}]}
        answer = await self.call("POST", f"session/{self.conversation}/message", body)
        assert [part["text"].strip() for part in answer["parts"] if part["type"] == "text"] == [f"You said: {text}"]

    async def told(self) -> list[Any]:
        """Every message of the conversation, with the ids and times that it was given."""
        assert self.conversation in [each["id"] for each in await self.call("GET", "session")]
        messages: list[Any] = await self.call("GET", f"session/{self.conversation}/message")
        return messages

    async def ask_daemon(self, action: str) -> None:
        status, said = await asyncio.to_thread(self.daemon.ask, "POST", f"/containers/{self.state.container}/{action}")
        assert status == 204, said

    async def resume(self) -> None:
        """Once nothing of the former container is left, as a person would."""
        resumed = await self.gateway.client.post(f"/sessions/{self.session.session_id}/resume", headers=PATIENT)
        assert resumed.status_code == 201, resumed.text
        self.session = Session(self.session.session_id, resumed.json()["token"])

    async def failed(self) -> None:
        views = self.gateway.services.views
        assert await views.wait_for(lambda: self.state.phase is Phase.FAILED, 60), self.state


@pytest_asyncio.fixture
async def talk(docker_daemon: DockerDaemon, opencode_image: str, tmp_path: Path) -> AsyncIterator[Talk]:
    environment = {
        **docker_daemon.environment,
        "SESSION_RUNTIME": "docker",
        "SESSION_IMAGE": opencode_image,
        "SESSION_READY_SECONDS": "110",
        "PROXY_READ_TIMEOUT": "90",
        "CONTAINER_MEMORY_LIMIT": "640m",
    }
    with StubModel(docker_daemon.host_address()) as model:
        environment |= {"MODEL_BASE_URL": model.base_url, "MODEL_NAME": "stub-1"}
        async with start_gateway(tmp_path, environment) as gateway:
            opened = await gateway.client.post("/sessions", json={"owner": "ada"}, headers=PATIENT)
            assert opened.status_code == 201, opened.text
            made = Talk(gateway, docker_daemon, Session(opened.json()["session_id"], opened.json()["token"]))
            yield made
            await gateway.stop(made.session)


async def killed(talk: Talk) -> None:
    """As ``kill -9`` of its first process: every process of the container ends at once."""
    await talk.ask_daemon("kill?signal=KILL")
    await talk.failed()
    await talk.resume()


async def out_of_memory(talk: Talk) -> None:
    """The kernel chooses the agent, the largest process there, and the container ends with it."""
    await talk.call("POST", "pty", {"command": "/bin/sh", "args": ["-c", FILL]})
    await talk.failed()
    (died,) = [each for each in await talk.gateway.payloads("container.died") if each.container == talk.state.container]
    assert died.oom_killed, died
    await talk.resume()


async def restarted(talk: Talk) -> None:
    """By the daemon, past the gateway: the same container, at another port. Seen between the two it is a death."""
    before, container = talk.state.port, talk.state.container
    await talk.ask_daemon("restart?t=5")

    async def settled() -> bool:
        moved = talk.state.phase is Phase.READY and talk.state.port not in (None, before)
        return moved or talk.state.phase is Phase.FAILED

    await until(settled, 60)
    if talk.state.phase is Phase.FAILED:
        await talk.resume()
        return
    assert talk.state.container == container

    async def answers() -> bool:
        # OpenCode lets the request hang that comes as its port opens: each try is a short one.
        path, headers = talk.session.path("global/health"), talk.session.headers
        try:
            return (await talk.gateway.client.get(path, headers=headers, timeout=2)).status_code == 200
        except httpx.TimeoutException:
            return False

    await until(answers, 60)


async def stopped(talk: Talk) -> None:
    await talk.gateway.stop(talk.session)
    await talk.resume()


async def outlives(talk: Talk, end: Callable[[Talk], Awaitable[None]]) -> None:
    await talk.say(f"before it is {end.__name__}")
    before = await talk.told()
    await end(talk)
    assert await talk.told() == before, end.__name__


async def test_a_conversation_outlives_a_kill(talk: Talk) -> None:
    await outlives(talk, killed)


@pytest.mark.slow
async def test_a_conversation_outlives_every_end(talk: Talk) -> None:
    """One session through all of them, its conversation growing; its volumes are the same to the last."""
    volumes = talk.state.volumes
    for end in (killed, out_of_memory, restarted, stopped):
        await outlives(talk, end)
    assert len(await talk.told()) == 8
    assert talk.state.volumes == volumes
