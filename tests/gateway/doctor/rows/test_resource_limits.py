"""Limits are read back from the daemon, and one that it has not room for is told."""

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows import resource_limits
from gateway.doctor.rows.resource_limits import ROW
from tests.docker_fixtures import DockerDaemon
from tests.gateway.doctor.world import here


@pytest.mark.docker
async def test_limits_and_hardening_are_those_that_were_set(docker_daemon: DockerDaemon, echo_image: str) -> None:
    settings = {**docker_daemon.environment, "SESSION_IMAGE": echo_image, "CONTAINER_MEMORY_LIMIT": "64m"}
    found = await look(ROW, here({**settings, "CONTAINER_TMP_SIZE": "32m"}))
    assert found.state is State.PASS, found.sentence
    assert (found.facts["Memory"], found.facts["CapDrop"]) == (64 << 20, ["ALL"])
    assert "64 MiB without swap" in found.sentence


@pytest.mark.docker
async def test_more_memory_than_there_is_is_a_warning(docker_daemon: DockerDaemon, echo_image: str) -> None:
    settings = {**docker_daemon.environment, "SESSION_IMAGE": echo_image, "CONTAINER_MEMORY_LIMIT": "900g"}
    found = await look(ROW, here(settings))
    assert (found.state, "900g" in found.sentence) == (State.WARN, True)


@pytest.mark.docker
async def test_a_limit_that_was_left_out_fails(
    docker_daemon: DockerDaemon, echo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the daemon would say it: the answer is altered on its way."""
    real = resource_limits._asked

    async def altered(*arguments: object) -> dict[str, object]:
        said = await real(*arguments)  # type: ignore[arg-type]  # passed on as they come
        if "HostConfig" in said:
            said["HostConfig"] = {**said["HostConfig"], "PidsLimit": None, "ReadonlyRootfs": False}
        return said

    monkeypatch.setattr(resource_limits, "_asked", altered)
    found = await look(ROW, here({**docker_daemon.environment, "SESSION_IMAGE": echo_image}))
    assert found.state is State.FAIL
    assert "PidsLimit" in found.sentence
    assert "ReadonlyRootfs" in found.sentence
