"""Ends are carried out while the log is away, by the gateway that was asked when no other can hear of it."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from events.errors import StoreUnavailable
from gateway import lifespan
from gateway.sessions import observe
from gateway.sessions.commands import StopSession
from projections.lifecycle import Phase
from tests.event_fixtures import until
from tests.gateway.sessions.test_runner import by_a_runner
from tests.gateway.world import ORIGIN, Gateway, Mortal, World, eventually, world

OF_THE_LOG = {"append", "head", "read_log", "read_stream", "find", "maintain", "claim", "alive"}


class Line:
    """The way of one gateway to the log."""

    def __init__(self) -> None:
        self.cut = False

    async def __call__(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name == "close":
            return None  # the others are still on it
        if self.cut and name in OF_THE_LOG:
            raise StoreUnavailable("the line is cut")
        return await call()


@pytest_asyncio.fixture
async def earth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Where what is tried again is tried soon."""
    monkeypatch.setattr(observe, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(lifespan, "RECONCILE_SECONDS", 0.2)
    async with world(tmp_path) as made:
        yield made


@asynccontextmanager
async def cut_off(earth: World, spool: Path) -> AsyncIterator[tuple[Gateway, Gateway, Line]]:
    """Two gateways; the first has lost the log, after the second had opened what the test opens."""
    line = Line()
    async with earth.gateway(through=line, spool=spool) as one, earth.gateway() as other:
        yield one, other, line
        line.cut = False


async def cut(gateway: Gateway, line: Line) -> None:
    line.cut = True
    await eventually(lambda: not gateway.services.store.status.available)


async def is_over(earth: World, *gateways: Gateway, session_id: str) -> None:
    for gateway in gateways:
        await gateway.reaches(session_id, Phase.STOPPED)
        await until(functools.partial(_seats_are_free, gateway))
    await until(earth.empty)


async def _seats_are_free(gateway: Gateway) -> bool:
    return not gateway.views.seats.taken


async def test_a_stop_is_carried_out_and_told_by_its_cause(earth: World, tmp_path: Path) -> None:
    """The intent is read from the spool, since the log cannot be read."""
    async with cut_off(earth, tmp_path / "spool") as (one, _, line):
        session_id = (await one.open()).session_id
        await cut(one, line)
        assert (await one.stop(session_id)).position is None
        await is_over(earth, one, session_id=session_id)
        line.cut = False
        await eventually(lambda: one.services.store.status.available)
        (asked,) = await earth.log("session.stop_requested")
        (removed,) = await earth.log("container.removed")
        (stopped,) = await earth.log("session.stopped")
        assert (removed.causation_id, stopped.causation_id) == (asked.event_id, asked.event_id)
        assert removed.correlation_id == asked.correlation_id is not None


async def test_a_stop_that_had_begun_goes_on(earth: World, tmp_path: Path) -> None:
    """Its intent is in the log, where nobody can read it now: its container ends all the same."""
    async with cut_off(earth, tmp_path / "spool") as (one, _, line):
        session_id = (await one.open()).session_id
        handled = await one.services.handler.handle(StopSession(session_id=session_id), ORIGIN)
        assert handled.position is not None
        await cut(one, line)
        one.services.runner.stop(session_id)
        await is_over(earth, one, session_id=session_id)
        line.cut = False
        await eventually(lambda: one.services.store.status.available)
        assert len(await earth.log("session.stopped")) == 1


async def test_a_session_of_another_gateway_is_ended_too(earth: World, tmp_path: Path) -> None:
    """The one that carries it cannot hear of the stop, and its container can be reached from here. What that one makes
    of the container's end meanwhile, and what waits here, come to one end in every view."""
    async with cut_off(earth, tmp_path / "spool") as (one, other, line):
        session_id = (await other.open()).session_id
        await one.reaches(session_id, Phase.READY)
        await cut(one, line)
        await one.stop(session_id)
        await is_over(earth, one, session_id=session_id)
        line.cut = False
        await is_over(earth, one, other, session_id=session_id)
        assert len(await earth.log("session.stop_requested")) == 1


async def test_what_is_out_of_reach_is_ended_by_its_own_gateway(earth: World, tmp_path: Path) -> None:
    """Local processes belong to the gateway that runs them: it ends them when it hears of the stop."""
    earth.docker = Mortal(address_of=lambda name: earth.agents.address)
    async with cut_off(earth, tmp_path / "spool") as (one, other, line):
        session_id = (await other.open()).session_id
        await one.reaches(session_id, Phase.READY)
        await cut(one, line)
        await one.stop(session_id)
        await one.idle(session_id)
        assert one.views.sessions[session_id].phase is Phase.STOPPING
        assert len(await earth.containers()) == 1
        line.cut = False
        await is_over(earth, one, other, session_id=session_id)


class Outage:
    """The log is away from the nth call of a runner on, until ``back``."""

    def __init__(self, nth: int, names: frozenset[str]) -> None:
        self.met = 0
        self.back = False
        self._nth, self._names, self._seen = nth, names, 0

    async def __call__(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if by_a_runner() and name in self._names:
            self._seen += 1
            if self._seen >= self._nth and not self.back:
                self.met += 1
                raise StoreUnavailable("the log is away")
        return await call()


@pytest.mark.parametrize("what", ["open", "stop", "fail"])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
async def test_a_step_waits_for_a_log_that_is_away(earth: World, what: str, step: int) -> None:
    """Whatever the runner wanted to read or write then, it goes on when the log is back, and nothing is told twice."""
    outage = Outage(step, frozenset({"append", "read_stream"}))
    outage.back = what == "stop"
    async with earth.gateway(through=outage) as gateway:
        if what == "fail":
            earth.docker.images = set()
        session_id = await gateway.begin()
        if what == "stop":
            await gateway.reaches(session_id, Phase.READY)
            outage.back, outage._seen = False, 0
            await gateway.stop(session_id)
        awaited = {"open": Phase.READY, "stop": Phase.STOPPED, "fail": Phase.FAILED}[what]
        if what == "open" or step < 4:  # the others have three steps
            await eventually(lambda: outage.met > 2)
            outage.back = True
        await gateway.reaches(session_id, awaited)
        await gateway.idle(session_id)
        told = [event.type for event in await earth.log() if event.type.startswith(("session.", "container."))]
        assert len(told) == len(set(told))
        assert gateway.views.sessions[session_id].anomalies == 0
