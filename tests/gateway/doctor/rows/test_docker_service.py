"""A session's container from its making to its end, on a real daemon."""

import pytest

from docker import names
from gateway.doctor import probe
from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows import docker_service
from gateway.doctor.rows.docker_service import ROW, Times
from tests.docker_fixtures import DockerDaemon
from tests.gateway.doctor.world import here


@pytest.mark.docker
async def test_a_container_is_made_asked_and_gone(docker_daemon: DockerDaemon, echo_image: str) -> None:
    found = await look(ROW, here({**docker_daemon.environment, "SESSION_IMAGE": echo_image}))
    assert found.state is State.PASS, found.sentence
    assert list(found.facts) == ["start", "answer", "stop", "remove"]
    owned = f'{{"label":["{names.OWNER}={probe.OWNER}"]}}'
    assert docker_daemon.ask("GET", f"/containers/json?all=1&filters={owned}")[1] == []


@pytest.mark.docker
async def test_a_container_that_ends_by_itself_is_told(
    docker_daemon: DockerDaemon, echo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_environment", lambda password: {"PATH": "/nowhere"})
    settings = {**docker_daemon.environment, "SESSION_IMAGE": echo_image, "CONTAINER_MEMORY_LIMIT": "6m"}
    found = await look(ROW, here(settings))
    assert found.state is State.FAIL


@pytest.mark.docker
async def test_a_port_that_would_be_out_of_reach_is_not_opened(docker_daemon: DockerDaemon, echo_image: str) -> None:
    if not docker_daemon.enter:
        pytest.skip("the daemon given by DOCKER_HOST shares our loopback")
    given = {**docker_daemon.environment, "SESSION_IMAGE": echo_image, "PUBLISH_ADDRESS": "127.0.0.1"}
    found = await look(ROW, here(given))
    assert found.state is State.FAIL
    assert "PUBLISH_ADDRESS=127.0.0.1 is that machine's loopback" in found.sentence


@pytest.mark.docker
async def test_a_port_out_of_reach_is_told_with_its_address_and_the_setting(
    docker_daemon: DockerDaemon, echo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not, after a minute and a half, that it was not over."""
    if not docker_daemon.enter:
        pytest.skip("the daemon given by DOCKER_HOST shares our loopback")
    monkeypatch.setattr(docker_service, "UNREACHED_SECONDS", 0.2)
    found = await look(ROW, here({**docker_daemon.environment, "SESSION_IMAGE": echo_image, "HOST_IP": "127.0.0.1"}))
    assert (found.state, list(found.facts)) == (State.FAIL, ["address"])
    assert "does not answer us" in found.sentence and "PUBLISH_ADDRESS" in found.todo
    assert all(word in found.sentence for word in ("127.0.0.1:", "HOST_IP=127.0.0.1"))


@pytest.mark.docker
async def test_an_address_that_the_daemons_machine_has_not_is_a_setting_to_correct(
    docker_daemon: DockerDaemon, echo_image: str
) -> None:
    """The daemon says that it cannot assign it, which sent operators to its log."""
    given = {**docker_daemon.environment, "SESSION_IMAGE": echo_image, "PUBLISH_ADDRESS": "10.99.99.99"}
    found = await look(ROW, here({**given, "ALLOW_PUBLIC_PUBLISH": "true"}))
    assert (found.state, found.facts) == (State.FAIL, {"verdict": "bad-settings"})
    assert "PUBLISH_ADDRESS=10.99.99.99 is no address of the daemon's machine" in found.sentence


def test_times_are_kept_in_order() -> None:
    times = Times()
    for step in ("b", "a"):
        with times.of(step):
            pass
    assert list(times.seconds) == ["b", "a"]
