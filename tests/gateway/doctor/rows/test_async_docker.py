"""The loop's lag is measured while many operations run."""

import asyncio
import time

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.async_docker import OPERATIONS, ROW, measured
from tests.docker_fixtures import DockerDaemon
from tests.gateway.doctor.world import here


@pytest.mark.docker
async def test_many_operations_at_once_are_measured(docker_daemon: DockerDaemon) -> None:
    """How late the loop was depends on the machine; that it was measured does not."""
    found = await look(ROW, here(docker_daemon.environment))
    assert found.state in (State.PASS, State.WARN), found.sentence
    assert f"{OPERATIONS} operations" in found.sentence
    assert found.facts["seconds"] > 0


async def test_a_loop_that_is_held_up_is_seen() -> None:
    async with measured() as lag:
        await asyncio.sleep(0.01)
        time.sleep(0.05)  # noqa: ASYNC251 - holding the loop up is what is measured
        await asyncio.sleep(0.01)
    assert max(lag.late) > 40
