"""A probe belongs to nobody and leaves nothing, whatever happens to the row that wanted it."""

import datetime as dt

import pytest

from docker import names
from docker.aiodocker_service import AiodockerService
from gateway.doctor import probe
from gateway.doctor.examine import look
from gateway.doctor.row import Finding, Row, State
from gateway.doctor.surroundings import Surroundings
from tests.docker_fixtures import DockerDaemon
from tests.gateway.doctor.world import here

pytestmark = pytest.mark.docker


def volumes(daemon: DockerDaemon) -> list[str]:
    found = daemon.ask("GET", "/volumes")[1]["Volumes"] or []
    return [each["Name"] for each in found if (each["Labels"] or {}).get(names.OWNER) == probe.OWNER]


async def test_a_row_that_fails_in_the_middle_leaves_nothing(docker_daemon: DockerDaemon, echo_image: str) -> None:
    seen: list[str] = []

    async def breaks(world: Surroundings) -> Finding:
        async with world.docker() as service, probe.probing(world, service) as made:
            seen.append(made.info.id)
            assert volumes(docker_daemon)
            raise RuntimeError("in the middle")

    found = await look(Row(name="r", look=breaks), here({**docker_daemon.environment, "SESSION_IMAGE": echo_image}))
    assert (found.state, "in the middle" in found.sentence) == (State.FAIL, True)
    assert docker_daemon.ask("GET", f"/containers/{seen[0]}/json")[0] == 404
    assert volumes(docker_daemon) == []


async def test_what_a_killed_doctor_left_goes_with_the_next(
    docker_daemon: DockerDaemon, echo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AiodockerService(docker_daemon.settings) as service:
        left = await service.create_container(
            names.container_name(), echo_image, labels=names.labels(probe.OWNER, probe.OWNER, "left")
        )
        world = here({**docker_daemon.environment, "SESSION_IMAGE": echo_image})
        async with probe.probing(world, service):
            assert await service.get_container_info(left.id), "another doctor may be at work"
        monkeypatch.setattr(probe, "FORGOTTEN", dt.timedelta())
        async with probe.probing(world, service) as made:
            assert await service.get_container_info(left.id) is None
            assert made.info.labels[names.OWNER] == probe.OWNER


async def test_an_image_that_is_not_there_is_told(docker_daemon: DockerDaemon) -> None:
    async def wants(world: Surroundings) -> Finding:
        async with world.docker() as service, probe.probing(world, service):
            raise AssertionError("there is no such image")

    world = here({**docker_daemon.environment, "SESSION_IMAGE": "session-gateway/none:0"})
    found = await look(Row(name="r", look=wants), world)
    assert found.state is State.FAIL
    assert "session-gateway/none:0" in found.sentence
    assert "SESSION_IMAGE" in found.todo and "make image" not in found.todo, "that builds another one"
