"""What only a real daemon can show: one that does not do as it was asked gets no session, and nothing of it stays."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiodocker.system import DockerSystem

from docker import aiodocker_service, names, spec
from docker.errors import BadDockerSettings, LimitsNotApplied
from docker.spec import Body
from tests.contracts.runtimes import ProcessRuntime, daemon_runtime
from tests.docker_fixtures import DockerDaemon

pytestmark = pytest.mark.docker
Weaken = Callable[[dict[str, Any]], object]


@pytest.fixture
async def runtime(docker_daemon: DockerDaemon, echo_image: str) -> AsyncIterator[ProcessRuntime]:
    async with daemon_runtime(docker_daemon) as opened:
        yield opened


def between(monkeypatch: pytest.MonkeyPatch, weaken: Weaken) -> None:
    """Stand for whatever changes a request on its way: the daemon gets, and does, what ``weaken`` leaves."""
    asked = spec.container_body

    def changed(*arguments: Any, **named: Any) -> Body:
        body = asked(*arguments, **named)
        weaken(body["HostConfig"])
        return body

    monkeypatch.setattr(aiodocker_service, "container_body", changed)


@pytest.mark.parametrize(
    ("weaken", "word"),
    [
        (lambda host: host.pop("Memory") and host.pop("MemorySwap"), "Memory is 0"),
        (lambda host: host.update(Privileged=True), "Privileged is True"),
        (lambda host: host.update(CapDrop=[], SecurityOpt=["seccomp=unconfined"]), "seccomp=unconfined"),
        (lambda host: host.update(Binds=["/etc:/x"]), "/etc of the host is mounted at /x"),
        (lambda host: host.update(PidMode="host"), "PidMode"),
        (lambda host: host.update(PortBindings={"4096/tcp": [{"HostIp": "0.0.0.0"}]}), "0.0.0.0"),
    ],
)
async def test_what_was_made_otherwise_is_removed_and_told(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch, weaken: Weaken, word: str
) -> None:
    between(monkeypatch, weaken)
    name = names.container_name()
    with pytest.raises(LimitsNotApplied) as caught:
        await runtime.create(name)
    assert word in str(caught.value)
    assert await runtime.service.get_container_info(name) is None


async def test_one_that_was_made_before_the_limits_changed_is_made_anew(
    docker_daemon: DockerDaemon, runtime: ProcessRuntime
) -> None:
    """Also after a call that was cancelled between the making and the look."""
    name = names.container_name()
    former = await runtime.create(name)
    changed = msgspec.structs.replace(docker_daemon.settings, container_pids_limit=33)
    async with aiodocker_service.AiodockerService(changed) as service:
        made = await ProcessRuntime(service, runtime.owner).create(name)
        assert made.id != former.id
        assert docker_daemon.ask("GET", f"/containers/{name}/json")[1]["HostConfig"]["PidsLimit"] == 33
        await service.start_container(made.id)
    again = await runtime.create(name)
    assert again.id == made.id, "one that runs was held as was asked then"
    assert again.breaches == () and [each.split()[0] for each in again.departures] == ["PidsLimit"]


async def test_one_that_runs_and_does_not_isolate_is_not_taken_for_ours(
    docker_daemon: DockerDaemon, runtime: ProcessRuntime
) -> None:
    """It has the name and the labels; what it may do shows, and where it is published, now that it runs."""
    name = names.container_name()
    ours = await runtime.create(name)
    await runtime.service.remove_container(name)
    host = {"CapAdd": ["SYS_ADMIN"], "Binds": ["/tmp:/x"], "PortBindings": {"4096/tcp": [{"HostIp": "0.0.0.0"}]}}
    body = {"Image": ours.image, "Labels": dict(ours.labels), "User": "0:0", "HostConfig": host}
    made = docker_daemon.ask("POST", f"/containers/create?name={name}", body)[1]["Id"]
    try:
        assert docker_daemon.ask("POST", f"/containers/{made}/start")[0] == 204
        listed = await runtime.service.list_containers(labels=ours.labels)
        (found,) = [each.breaches for each in listed if each.id == made]
        for word in ("User is '0:0'", "CapDrop", "CapAdd", "Binds", "published on 0.0.0.0"):
            assert any(word in clause for clause in found)
        with pytest.raises(LimitsNotApplied, match="SYS_ADMIN"):
            await runtime.create(name)
    finally:
        docker_daemon.ask("DELETE", f"/containers/{made}?force=1&v=1")


async def test_the_daemon_is_asked_what_it_can_do_once_until_it_was_away(
    docker_daemon: DockerDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, info = list[None](), DockerSystem.info

    async def counted(system: DockerSystem) -> Any:
        asked.append(None)
        return await info(system)

    monkeypatch.setattr(DockerSystem, "info", counted)
    async with aiodocker_service.AiodockerService(docker_daemon.settings) as service:
        runtime = ProcessRuntime(service, docker_daemon.owner)
        await asyncio.gather(*(runtime.create(names.container_name()) for _ in range(4)))
        assert len(asked) == 1
        service._connection.epoch += 1
        await runtime.create(names.container_name())
        assert len(asked) == 2


async def test_a_network_of_that_name_that_joins_sessions_is_refused(docker_daemon: DockerDaemon) -> None:
    network = f"session-gateway-test-{secrets.token_hex(4)}"
    assert docker_daemon.ask("POST", "/networks/create", {"Name": network, "Driver": "bridge"})[0] == 201
    try:
        settings = msgspec.structs.replace(docker_daemon.settings, session_network=network)
        async with aiodocker_service.AiodockerService(settings) as service:
            with pytest.raises(LimitsNotApplied, match=f"{network}.*enable_icc.*remove it"):
                await ProcessRuntime(service, docker_daemon.owner).create(names.container_name())
    finally:
        docker_daemon.ask("DELETE", f"/networks/{network}")


async def test_a_machine_that_cannot_give_what_is_set_is_told_at_the_start(docker_daemon: DockerDaemon) -> None:
    """A quota above its cores would hold nobody back; so much memory is only noted: the default is as much."""
    greedy = msgspec.structs.replace(docker_daemon.settings, container_cpu_quota=50_000_000)
    large = msgspec.structs.replace(docker_daemon.settings, container_memory_limit="1024g")
    async with aiodocker_service.AiodockerService(greedy) as service:
        with pytest.raises(BadDockerSettings, match=r"CONTAINER_CPU_QUOTA=50000000.*is 500 cores"):
            await service.examine()
    async with aiodocker_service.AiodockerService(large) as service:
        assert ["CONTAINER_MEMORY_LIMIT=1024g" in note for note in await service.examine()] == [True]
