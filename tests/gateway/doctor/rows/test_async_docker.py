"""The loop's lag is measured while many operations run, and judged by what an idle process bore."""

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.async_docker import OPERATIONS, ROW, Measure, judged
from tests.docker_fixtures import DockerDaemon
from tests.gateway.doctor.world import here


@pytest.mark.docker
async def test_many_operations_at_once_are_measured(docker_daemon: DockerDaemon) -> None:
    """How late the loop was depends on the machine; that it was measured does not."""
    found = await look(ROW, here(docker_daemon.environment))
    assert found.state in (State.PASS, State.WARN), found.sentence
    assert f"{OPERATIONS} operations" in found.sentence
    assert found.facts["seconds"] > 0


@pytest.mark.parametrize(
    ("busy", "idle", "state"),
    [(8.0, 3.0, State.PASS), (93.0, 80.0, State.PASS), (35.0, 3.0, State.WARN)],
)
def test_what_the_machine_does_besides_is_not_the_loops_doing(busy: float, idle: float, state: State) -> None:
    """An idle time before the operations, when dockerd idled as well, was no measure: the row warned in every run."""
    assert judged(Measure(0.1, busy, idle)).state is state
