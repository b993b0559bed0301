"""Waiting for a session: its steps are told as they come, those of earlier containers are not."""

from gateway.cli import steps
from gateway.control import GatewayClient
from tests.gateway_fixtures import Gateway


def client(gateway: Gateway) -> GatewayClient:
    return GatewayClient(gateway.url, gateway.client.headers["authorization"].removeprefix("Bearer "))


async def opened(gateway: Gateway) -> str:
    """A session that is being opened."""
    return str((await gateway.client.post("/sessions")).json()["session_id"])


async def test_an_opening_is_told_step_by_step(gateway: Gateway) -> None:
    told: list[str] = []
    async with client(gateway) as calling:
        session = await steps.settle(calling, await opened(gateway), 30, told.append)
    assert (session["phase"], session["status"]) == ("ready", "running")
    kinds = [line.split()[2] for line in told]
    assert kinds == ["session.requested", "token.issued", "container.created", "container.started", "session.ready"]


async def test_a_session_that_has_settled_is_not_waited_for(gateway: Gateway) -> None:
    told: list[str] = []
    session_id = (await gateway.open()).session_id
    async with client(gateway) as calling:
        assert (await steps.settle(calling, session_id, 30, told.append))["phase"] == "ready"
    assert told == []


async def test_steps_of_an_earlier_container_are_not_told(gateway: Gateway) -> None:
    """The stream of a session begins with its first step; what came of its first container is no news."""
    told: list[str] = []
    session = await gateway.open()
    await gateway.stop(session)
    await gateway.client.post(f"/sessions/{session.session_id}/resume")
    async with client(gateway) as calling:
        state = await steps.settle(calling, session.session_id, 30, told.append)
    assert (state["phase"], state["generation"]) == ("ready", 2)
    kinds = [line.split()[2] for line in told]
    assert kinds == ["session.resumed", "token.issued", "container.created", "container.started", "session.ready"]


async def test_no_wait_gives_the_session_as_it_is(gateway: Gateway) -> None:
    async with client(gateway) as calling:
        session = await steps.settle(calling, await opened(gateway), 0, lambda _: None)
    assert session["phase"] in ("creating", "ready")
