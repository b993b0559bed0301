"""A session that reaches what it should not is told, with what to do."""

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows import egress
from gateway.doctor.rows.egress import ROW
from gateway.settings import load
from tests.docker_fixtures import DockerDaemon
from tests.gateway.doctor.world import here


@pytest.mark.slow
@pytest.mark.docker
async def test_what_a_session_reaches_is_a_warning(docker_daemon: DockerDaemon, echo_image: str) -> None:
    """The daemon itself, which listens where containers reach it: no firewall is set on the tests' machine."""
    if not docker_daemon.enter:
        pytest.skip("NOT TESTED: what the machine of the given DOCKER_HOST closes to sessions is not known")
    found = await look(ROW, here({**docker_daemon.environment, "SESSION_IMAGE": echo_image}))
    assert found.state is State.WARN, found.sentence
    assert found.facts["reached"] == ["the daemon"]
    assert "setup-session-firewall.sh" in found.todo


@pytest.mark.docker
async def test_a_session_that_reaches_nothing_passes(
    docker_daemon: DockerDaemon, echo_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "targets", lambda settings, machine: {"nobody": (machine, 9)})
    found = await look(ROW, here({**docker_daemon.environment, "SESSION_IMAGE": echo_image}))
    assert (found.state, found.facts["reached"]) == (State.PASS, [])


def test_what_is_tried_is_what_the_settings_name() -> None:
    """What is on the gateway's own loopback is not where a session would look."""
    settings = load({"DOCKER_HOST": "tcp://10.0.0.5:2376", "DB_HOST": "10.0.0.6", "DB_PORT": "5433"})
    found = egress.targets(settings, "172.18.0.1")
    assert found["link-local metadata"] == ("169.254.169.254", 80)
    assert found["the daemon"] == ("10.0.0.5", 2376)
    assert found["the database"] == ("10.0.0.6", 5433)
    assert found["the daemon on its machine"] == ("172.18.0.1", 2376)
    local = load({"DOCKER_HOST": "tcp://127.0.0.1:2376"})
    assert set(egress.targets(local, None)) == {"link-local metadata"}
