"""The figures are an operator's."""

import pytest

from gateway.access.roles import Role
from gateway.doctor.health import figures
from gateway.doctor.row import Ended, State
from tests.gateway.doctor.world import here
from tests.gateway_fixtures import Gateway


async def test_an_operator_sees_them_and_a_frontend_does_not(gateway: Gateway) -> None:
    operator = gateway.client.headers["authorization"].removeprefix("Bearer ")
    assert (await figures(here(url=gateway.url, key=operator)))["runtime"] == "local"
    frontend = (await gateway.key(Role.FRONTEND))["authorization"].removeprefix("Bearer ")
    with pytest.raises(Ended) as caught:
        await figures(here(url=gateway.url, key=frontend))
    assert caught.value.finding.state is State.FAIL
    assert "not an operator's" in caught.value.finding.sentence
