"""kill -9 in the middle of everything, and a new start on the same data: what the log says, the world becomes."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import psutil
import pytest

from docker import names
from events import embedded_place
from events.envelope import RecordedEvent
from tests.docker_fixtures import DockerDaemon
from tests.event_fixtures import until
from tests.gateway_fixtures import WAIT, Session
from tests.walks import process
from tests.walks.process import GatewayProcess

ROOM: Final = {"MAX_CONCURRENT_SESSIONS": "6", "SESSION_STOP_SECONDS": "3"}
RECOVERED_SECONDS: Final = 40.0  # the killed gateway's lease has to run out first: 5 s

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]


class Left(msgspec.Struct, frozen=True):
    """The sessions of a gateway at the moment it was killed."""

    running: Session
    creating: Session
    stopping: Session


@pytest.fixture
def docker_settings(docker_daemon: DockerDaemon, echo_image: str) -> Iterator[dict[str, str]]:
    """The settings of a gateway on the daemon; it has the network alone, and its containers are removed afterwards."""
    for container in _containers(docker_daemon):  # of tests before that cut calls off
        docker_daemon.ask("DELETE", f"/containers/{container['Id']}?force=1&v=1")
    yield {**docker_daemon.environment, "SESSION_RUNTIME": "docker", "SESSION_IMAGE": echo_image, **ROOM}
    for container in _containers(docker_daemon):
        docker_daemon.ask("DELETE", f"/containers/{container['Id']}?force=1&v=1")


@pytest.mark.docker
@pytest.mark.parametrize("killed", ["gateway", pytest.param("gateway and postgres", marks=pytest.mark.slow)])
async def test_docker_sessions_outlive_their_gateway(
    docker_daemon: DockerDaemon, docker_settings: dict[str, str], data_dir: Path, killed: str
) -> None:
    """Containers run on, so their users must not notice more than a pause."""
    async with process.serving(data_dir, docker_settings) as first, first.client() as client:
        ready = await asyncio.gather(*(first.open(client) for _ in range(2)))
        container = await _container(client, ready[1])
        assert docker_daemon.ask("POST", f"/containers/{container}/pause")[0] == 204  # it will not end at once
        left = await _busy(client, ready[0], ready[1])
        await _kill(first, killed)
    before = {_session(container): container["Id"] for container in _containers(docker_daemon)}
    again = {**docker_settings, "GATEWAY_BIND": first.url.removeprefix("http://")}
    async with process.serving(data_dir, again) as second, second.client() as client:
        assert await _echo(client, left.running) == 200, "served from the first moment"
        await _settled(client, left, running="running")
        assert await _echo(client, left.running) == 200
        booted = await _status(client, left.creating) == "running"
        if booted:
            assert await _echo(client, left.creating) == 200
        wanted = [left.running.session_id, *([left.creating.session_id] if booted else [])]
        await until(lambda: _same([_session(each) for each in _containers(docker_daemon)], wanted))
        after = {_session(container): container["Id"] for container in _containers(docker_daemon)}
        assert after[left.running.session_id] == before[left.running.session_id], "the same container, not another one"
        await _stop_all(client, wanted)
        assert _containers(docker_daemon) == []
        assert await second.stop() == 0
    log = await process.read_log(second)
    _check_crash(log)
    adopted = [each.session_id for each in process.payloads(log, "container.adopted")]
    assert adopted.count(left.running.session_id) == 1
    created = [each.container_id for each in process.payloads(log, "container.created")]
    assert len(created) == len(set(created)) <= 3
    assert process.payloads(log, "container.lost") == []


@pytest.mark.parametrize("killed", [pytest.param("gateway", marks=pytest.mark.slow), "gateway and postgres"])
async def test_local_sessions_are_lost_told_and_resumed(data_dir: Path, killed: str) -> None:
    """Local processes cannot be adopted. They are ended, the log says so, and their data comes back on resume."""
    async with process.serving(data_dir, ROOM) as first, first.client() as client:
        ready = await asyncio.gather(*(first.open(client) for _ in range(2)))
        said = await client.post(ready[0].path("session"), json={"title": "kept"}, headers=ready[0].headers)
        assert said.status_code == 200
        _agent(data_dir, await _container(client, ready[1])).suspend()  # it will not end at once
        left = await _busy(client, ready[0], ready[1])
        await _kill(first, killed)
    again = {**ROOM, "GATEWAY_BIND": first.url.removeprefix("http://")}
    async with process.serving(data_dir, again) as second, second.client() as client:
        await _settled(client, left, running="error")
        view = (await client.get(f"/sessions/{left.running.session_id}")).json()
        assert view["reason"] == "container_lost"
        resumed = await client.post(f"/sessions/{left.running.session_id}/resume", headers=WAIT)
        assert resumed.status_code == 201, resumed.text
        session = Session(left.running.session_id, resumed.json()["token"])
        kept = await client.get(session.path("session"), headers=session.headers)
        assert [each["title"] for each in kept.json()] == ["kept"]
        assert await second.stop() == 0
    assert process.using(data_dir) == []
    log = await process.read_log(second)
    _check_crash(log)
    lost = [each.session_id for each in process.payloads(log, "container.lost")]
    assert lost.count(left.running.session_id) == 1
    adopted = [each.session_id for each in process.payloads(log, "container.adopted")]
    assert set(adopted) <= {left.creating.session_id}, "what the second gateway itself booted"


async def _busy(client: httpx.AsyncClient, running: Session, stopping: Session) -> Left:
    """One session is told to stop, and another is asked for."""
    stopped = await client.delete(f"/sessions/{stopping.session_id}")
    opened = await client.post("/sessions")
    assert (stopped.status_code, opened.status_code) == (202, 202)
    return Left(running, Session(opened.json()["session_id"], opened.json()["token"]), stopping)


async def _kill(gateway: GatewayProcess, what: str) -> None:
    place = embedded_place.find(gateway.data_dir.resolve())
    assert place is not None
    postmaster = psutil.Process(int((place.data / "postmaster.pid").read_text().split()[0]))
    await gateway.kill()
    if what == "gateway":
        assert postmaster.is_running(), "it waits for the next gateway"
    else:
        postmaster.kill()


async def _settled(client: httpx.AsyncClient, left: Left, *, running: str) -> None:
    """Wait until nothing is under way any more."""

    async def done() -> bool:
        statuses = [await _status(client, each) for each in (left.running, left.creating, left.stopping)]
        return statuses[0] == running and statuses[1] in ("running", "error") and statuses[2] == "stopped"

    await until(done, RECOVERED_SECONDS)


async def _status(client: httpx.AsyncClient, session: Session) -> str:
    return str((await client.get(f"/sessions/{session.session_id}")).json()["status"])


async def _container(client: httpx.AsyncClient, session: Session) -> str:
    return str((await client.get(f"/sessions/{session.session_id}")).json()["container"])


async def _echo(client: httpx.AsyncClient, session: Session) -> int:
    return (await client.get(session.path("echo"), headers=session.headers)).status_code


async def _stop_all(client: httpx.AsyncClient, sessions: list[str]) -> None:
    for session_id in sessions:
        assert (await client.delete(f"/sessions/{session_id}", headers=WAIT)).status_code == 200


async def _same(found: list[str], wanted: list[str]) -> bool:
    return sorted(found) == sorted(wanted)


def _check_crash(log: list[RecordedEvent]) -> None:
    """The killed gateway's end is told once, by the one after it, whose own end is the log's last event."""
    started = [each.instance for each in process.payloads(log, "gateway.started")]
    crashed = process.payloads(log, "gateway.crashed")
    assert [(each.instance, each.found_by) for each in crashed] == [(started[0], started[1])]
    assert [each.instance for each in process.payloads(log, "gateway.stopped")] == [started[1]]
    assert log[-1].type == "gateway.stopped"


def _containers(daemon: DockerDaemon) -> list[Any]:
    """Those in the session network of this test run, which nobody else uses."""
    status, found = daemon.ask("GET", "/containers/json?all=1")
    assert status == 200
    network = daemon.settings.session_network
    return [each for each in found if network in each["NetworkSettings"]["Networks"]]


def _session(container: Any) -> str:
    return str(container["Labels"][names.SESSION])


def _agent(data_dir: Path, container: str) -> psutil.Process:
    """The process of a local container."""
    for found in process.using(data_dir):
        with contextlib.suppress(psutil.Error):
            if found.environ().get("HOSTNAME") == container:
                return found
    raise LookupError(container)
