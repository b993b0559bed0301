"""What is not held as a new one would be is told once, by the gateway that carries it, and serves on."""

import logging

import msgspec
import pytest

from gateway.workers.departures import told
from projections.lifecycle import Phase
from tests.gateway.workers.test_exhaustion import INFO, rounds
from tests.gateway.world import World

CLAUSE = "PidsLimit is 64, not 32"


def test_all_that_is_found_is_told() -> None:
    found = msgspec.structs.replace(INFO, breaches=("a",), departures=("b", "c"))
    assert told(found) == "a; b; c"


async def test_a_departure_is_told_once_by_each_gateway(earth: World, caplog: pytest.LogCaptureFixture) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
    earth.docker._change(earth.docker._existing(state.container), departures=(CLAUSE,))
    with caplog.at_level(logging.WARNING):
        async with earth.gateway() as again:
            await again.reaches(state.session_id, Phase.READY)
            await rounds(earth, 3)
            assert again.views.sessions[state.session_id].phase is Phase.READY
    (line,) = [record for record in caplog.records if CLAUSE in record.getMessage()]
    about = line.__dict__
    assert (line.levelname, about["session_id"], about["operation"]) == ("WARNING", state.session_id, "reconcile")
