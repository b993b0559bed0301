"""Where published ports are reached, as a row."""

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.host_ip import ROW
from tests.gateway.doctor.world import here


async def test_the_address_and_its_method_are_told() -> None:
    found = await look(ROW, here({"DOCKER_HOST": "tcp://127.0.0.1:1", "HOST_IP": "10.9.9.9"}))
    assert (found.state, "10.9.9.9 (HOST_IP" in found.sentence) == (State.PASS, True)
    assert len(found.facts["answers"]) > 4


async def test_an_address_where_sessions_are_out_of_reach_is_a_warning() -> None:
    """It was found all the same, and that was told as if all were well."""
    found = await look(ROW, here({"DOCKER_HOST": "tcp://127.0.0.1:1", "HOST_IP": "no-such-host.invalid"}))
    assert (found.state, "HOST_IP=no-such-host.invalid" in found.sentence) == (State.WARN, True)


async def test_without_a_daemon_there_is_nothing_to_reach() -> None:
    assert (await look(ROW, here())).state is State.SKIP
