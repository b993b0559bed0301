"""Every problem of the environment is told."""

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.settings import ROW
from tests.gateway.doctor.world import here


async def test_what_can_be_used_passes() -> None:
    found = await look(ROW, here({"LOG_LEVEL": "DEBUG", "PATH": "/bin"}))
    assert (found.state, found.facts["given"]) == (State.PASS, ["LOG_LEVEL"])


async def test_each_problem_is_told() -> None:
    found = await look(ROW, here({"LOG_LEVEL": "LOUD", "GATEWAY_BINT": "x"}))
    assert found.state is State.FAIL
    assert "LOG_LEVEL" in found.sentence
    assert "did you mean GATEWAY_BIND" in found.sentence
