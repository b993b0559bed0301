"""The runtime and the sessions of a running gateway."""

from typing import Any

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.container_health import ROW, judged
from tests.gateway.doctor.world import here
from tests.gateway_fixtures import Gateway

HEALTH = {"runtime": "docker", "runtime_answers": True, "sessions": {"running": 2}, "seats_taken": 2, "seats": 10}


@pytest.mark.parametrize(
    ("changed", "state", "words"),
    [
        ({}, State.PASS, "2 sessions run"),
        ({"runtime_answers": False}, State.FAIL, "does not answer"),
        ({"sessions": {"running": 1, "error": 3}}, State.WARN, "3 ended in error"),
    ],
)
def test_what_the_figures_mean(changed: dict[str, Any], state: State, words: str) -> None:
    found = judged({**HEALTH, **changed})
    assert (found.state, words in found.sentence) == (state, True)


async def test_a_running_gateway_tells_them(gateway: Gateway) -> None:
    key = gateway.client.headers["authorization"].removeprefix("Bearer ")
    found = await look(ROW, here(url=gateway.url, key=key))
    assert (found.state, found.facts["runtime"]) == (State.PASS, "local"), found.sentence
