"""What only a real daemon can show: one that does not do as it was asked gets no session, and nothing of it stays."""

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

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
    assert (await runtime.create(name)).id == made.id, "one that runs was held as was asked then"


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
