"""Rows are looked at side by side, each within its time, and whatever one raises is a finding."""

import asyncio

import pytest

from docker.errors import DaemonFailed, PortClosed
from events.errors import StoreUnavailable
from gateway.control import GatewayRefused, GatewayUnreachable, Problem
from gateway.doctor.examine import AT_ONCE, examine, look, worst
from gateway.doctor.row import Ended, Finding, Report, Row, State, failed, passed, skipped
from gateway.doctor.surroundings import NoDaemon, NoGateway, Surroundings
from gateway.settings import BadSettings
from tests.gateway.doctor.world import here


def raising(error: Exception) -> Row:
    async def raises(_: Surroundings) -> Finding:
        raise error

    return Row(name="odd", look=raises)


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (BadSettings(["DB_PORT: no", "x"]), State.FAIL, "DB_PORT: no"),
        (NoDaemon("DOCKER_HOST is empty."), State.SKIP, "DOCKER_HOST is empty."),
        (NoGateway("There is no key."), State.SKIP, "no key"),
        (GatewayUnreachable("No gateway answers at x."), State.SKIP, "No gateway answers"),
        (GatewayRefused(Problem(status=403, title="No")), State.FAIL, "refused: No"),
        (PortClosed("Nothing listens."), State.FAIL, "Nothing listens."),
        (DaemonFailed("The disk is full."), State.FAIL, "disk"),
        (StoreUnavailable("the log is away"), State.FAIL, "the log is away"),
        (Ended(skipped("Nothing here.")), State.SKIP, "Nothing here."),
        (ZeroDivisionError("oh"), State.FAIL, "ZeroDivisionError: oh"),
    ],
)
async def test_what_a_row_raises_is_a_finding(error: Exception, state: State, words: str) -> None:
    found = await look(raising(error), here())
    assert (found.row, found.state) == ("odd", state)
    assert words in found.sentence
    assert found.todo or isinstance(error, Ended)


async def test_a_row_without_end_is_ended() -> None:
    tidied = []

    async def hangs(_: Surroundings) -> Finding:
        try:
            await asyncio.Event().wait()
        finally:
            tidied.append(True)
        return passed("never")

    found = await look(Row(name="slow", look=hangs, seconds=0.02), here())
    assert (found.state, tidied) == (State.FAIL, [True])
    assert "0.02 s" in found.sentence


async def test_a_few_at_a_time_and_those_that_measure_alone() -> None:
    running, most, alone = 0, 0, []

    async def counted(_: Surroundings) -> Finding:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _turn in range(5):
            await asyncio.sleep(0)
        running -= 1
        return passed("done")

    async def measures(_: Surroundings) -> Finding:
        alone.append(running)
        return passed("done")

    rows = [Row(name="m", look=measures, alone=True)]
    rows += [Row(name=str(number), look=counted) for number in range(AT_ONCE * 2)]
    names = [report.row async for report in examine(rows, here())]
    assert (most, alone, names[-1], len(names)) == (AT_ONCE, [0], "m", len(rows))


@pytest.mark.parametrize(
    ("states", "of_all"),
    [
        ("pass skip", "pass"),
        ("pass warn skip", "warn"),
        ("warn fail pass", "fail"),
        ("skip skip", "skip"),
        ("", "skip"),
    ],
)
def test_the_worst_is_told(states: str, of_all: str) -> None:
    reports = [
        Report(row="r", state=State(state), sentence="", todo="", facts={}, milliseconds=0) for state in states.split()
    ]
    assert worst(reports) == of_all


def test_a_finding_that_asks_for_something_says_what() -> None:
    assert failed("It is broken.", "Mend it.").todo == "Mend it."
