"""The pool's figures and what they mean."""

from typing import Any

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.http_connection_pool import ROW, judged
from tests.gateway.doctor.world import here
from tests.gateway_fixtures import Gateway

POOL = {"busy": 1, "idle": 2, "streams": 3, "waiting": 0, "opened": 4, "reused": 6, "retried": 0}
LIMITS = {"max_connections": 100, "max_keepalive_connections": 20, "max_streams": 10}


@pytest.mark.parametrize(
    ("changed", "state"), [({}, State.PASS), ({"waiting": 2}, State.WARN), ({"streams": 9}, State.WARN)]
)
def test_what_the_figures_mean(changed: dict[str, Any], state: State) -> None:
    found = judged({**POOL, **LIMITS, **changed})
    assert found.state is state
    assert "3 of 100 connections are open" in found.sentence
    assert "6 of 10 requests" in found.sentence


async def test_a_running_gateway_tells_them(gateway: Gateway) -> None:
    key = gateway.client.headers["authorization"].removeprefix("Bearer ")
    found = await look(ROW, here(url=gateway.url, key=key))
    assert found.state is State.PASS, found.sentence
    assert found.facts["max_connections"] == gateway.services.pool.status().max_connections
