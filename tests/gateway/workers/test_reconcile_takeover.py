"""Several gateways on one log: what a killed one began is finished, what a living one carries is left alone."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from events.errors import StoreUnavailable
from events.ids import short
from gateway import lifespan
from gateway.workers import reconcile
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.event_fixtures import until
from tests.gateway.world import Fuse, Gateway, Killed, Mortal, World, eventually

OPENS: Final = [
    "append",
    "create_container",
    "append",
    "start_container",
    "get_container_info",
    "append",
    "append",
]
STOPS: Final = ["append", "stop_container", "remove_container", "append", "append"]
ENDINGS: Final = (Phase.READY, Phase.STOPPED, Phase.FAILED)


async def killed(earth: World, fuse: Fuse, *, do: str, session_id: str) -> str:
    """A gateway that is killed while it opens, stops or resumes a session; its instance."""
    async with earth.mortal(fuse) as gateway:
        if do != "open":
            await gateway.begin(session_id)
            await gateway.reaches(session_id, Phase.READY)
        if do == "resume":
            await gateway.stop(session_id)
            await gateway.reaches(session_id, Phase.STOPPED)
        await eventually(lambda: not gateway.services.runner.busy(session_id))
        fuse.armed = True
        with contextlib.suppress(Killed):
            await getattr(gateway, {"open": "begin"}.get(do, do))(session_id)
        await asyncio.wait_for(fuse.blown.wait(), 5)
        return gateway.instance


async def settled(earth: World, gateway: Gateway, session_id: str) -> SessionState | None:
    """What became of the session, once it and its containers are at rest."""

    async def at_rest() -> bool:
        state = gateway.views.sessions.get(session_id)
        if state is None or state.phase not in ENDINGS or gateway.services.runner.busy(session_id):
            return state is None
        served = state.phase is Phase.READY
        if served and state.instance != gateway.instance:
            return False
        return await earth.containers() == ([state.container] if served else [])

    await until(at_rest, 10)
    return gateway.views.sessions.get(session_id)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("do", "step"),
    [("open", n) for n in range(1, len(OPENS) + 1)]
    + [("resume", n) for n in range(1, len(OPENS) + 1)]
    + [("stop", n) for n in range(1, len(STOPS) + 1)],
)
async def test_a_gateway_killed_at_any_step_leaves_nothing_undone(
    earth: World, do: str, step: int, after: bool
) -> None:
    """Before or after its nth effect, the next gateway goes on from the log: no container is left, lost or doubled."""
    session_id = f"ses_{short()}"
    fuse = Fuse(step, after=after)
    former = await killed(earth, fuse, do=do, session_id=session_id)
    assert fuse.steps == (STOPS if do == "stop" else OPENS)[:step]
    began = step > 1 or after  # else the command itself was never written
    async with earth.gateway() as gateway:
        state = await settled(earth, gateway, session_id)
        await eventually(lambda: gateway.views.gateways[former].ended_at)
        crashes = await earth.payloads("gateway.crashed")
        assert [(told.instance, told.found_by) for told in crashes] == [(former, gateway.instance)]
        if do == "open" and not began:
            assert state is None and gateway.views.seats.taken == {}
            return
        assert state is not None and state.anomalies == 0
        served = (do == "stop" and not began) or (do != "stop" and began)
        assert state.phase is (Phase.READY if served else Phase.STOPPED)
        assert gateway.views.seats.taken == ({session_id: state.generation} if served else {})
        adopted = await earth.payloads("container.adopted")
        assert [told.container for told in adopted] == ([state.container] if served else [])
        assert set(earth.made()) == set(state.containers)
        assert len(await earth.log("container.created")) == len(state.containers)
        assert len(await earth.log("session.ready")) == state.generation
        assert len(set(event.event_id for event in await earth.log())) == len(await earth.log())


class Touched(set[str]):
    """The containers that a gateway makes, stops and removes."""

    async def __call__(self, name: str, call: functools.partial[Awaitable[Any]]) -> Any:
        if name in ("create_container", "stop_container", "remove_container"):
            self.add(call.args[0])
        return await call()


async def test_two_living_gateways_never_act_on_one_session(earth: World) -> None:
    """Whoever is asked to stop it, the one that carries the session does; also while it boots."""
    one, two = Touched(), Touched()
    environment = {"MAX_CONCURRENT_SESSIONS": "20"}
    async with earth.gateway(environment, through=one) as first, earth.gateway(environment, through=two) as second:
        mine = [await first.open() for _ in range(4)]
        theirs = [await second.open() for _ in range(4)]
        earth.agents.healthy = False
        booting = await first.begin()
        await eventually(lambda: first.views.sessions[booting].host)
        for state in mine[:2]:
            await second.views.catch_up(state.position)
            await second.stop(state.session_id)
        for state in theirs[:2]:
            await first.stop(state.session_id)
        await second.views.catch_up(first.views.position)
        await second.stop(booting)
        earth.docker.die(mine[2].container, 1)
        earth.docker.die(theirs[2].container, 1)
        for state in (*mine[:2], *theirs[:2]):
            await first.reaches(state.session_id, Phase.STOPPED, seconds=5)
        await first.reaches(booting, Phase.STOPPED, seconds=5)
        for state in (mine[2], theirs[2]):
            await first.reaches(state.session_id, Phase.FAILED, seconds=5)
        assert one == {first.views.sessions[booting].container, *(state.container for state in mine)}
        assert two == {state.container for state in theirs}
        assert await earth.log("gateway.crashed", "container.adopted", "container.lost") == []
        assert all(state.anomalies == 0 for state in first.views.sessions.values())


async def test_a_gateway_with_a_slow_runtime_has_not_crashed(earth: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it lives beside its comparisons, not between them."""
    monkeypatch.setattr(lifespan, "ANNOUNCE_SECONDS", 0.02)
    held = asyncio.Event()

    async def hangs(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name == "list_containers":
            held.set()
            await asyncio.Event().wait()
        return await call()

    async with earth.gateway(through=hangs) as gateway:
        await asyncio.wait_for(held.wait(), 5)
        await earth.silence(gateway.instance)  # the lease has run out

        async def alive() -> bool:
            return gateway.instance in await earth.leases.alive(reconcile.INSTANCE_LEASE)

        await until(alive)


async def test_silence_after_an_outage_of_the_log_is_no_crash(earth: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease can be kept while the log is away: who is back first must not take over from everybody else."""
    monkeypatch.setattr(reconcile, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(lifespan, "ANNOUNCE_SECONDS", 0.1)
    away = asyncio.Event()
    met = {"claim": 0}

    async def outage(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if away.is_set() and name in ("claim", "append", "head", "read_log"):
            met["claim"] += name == "claim"
            raise StoreUnavailable("the log is away")
        return await call()

    async with earth.gateway(through=outage) as first, earth.gateway(through=outage) as second:
        state = await second.open()
        await first.views.catch_up(state.position)
        away.set()
        await eventually(lambda: met["claim"] > 5)
        await earth.silence(second.instance)
        away.clear()
        lists = len(earth.docker.calls)
        await eventually(lambda: [call for call, _ in earth.docker.calls[lists:]].count("list") > 8)
        assert await earth.log("gateway.crashed", "container.adopted") == []
        assert first.views.sessions[state.session_id].instance == second.instance


async def test_sessions_of_containers_that_cannot_outlive_us_are_stopped(earth: World) -> None:
    """Booting or ready; the next gateway on the same data resumes them."""
    earth.docker = Mortal(address_of=lambda name: earth.agents.address)
    async with earth.gateway() as gateway:
        state = await gateway.open()
        earth.agents.healthy = False
        booting = await gateway.begin()
    stopped = {told.session_id: told.reason for told in await earth.payloads("session.stop_requested")}
    assert stopped == {state.session_id: "gateway_stopped", booting: "gateway_stopped"}
    assert len(await earth.log("session.stopped")) == 2
    assert await earth.containers() == []
    earth.agents.healthy = True
    async with earth.gateway() as gateway:
        await gateway.resume(state.session_id)
        again = await gateway.reaches(state.session_id, Phase.READY)
        assert (again.volumes, again.generation) == (state.volumes, 2)


async def test_what_a_killed_gateway_could_not_leave_running_is_told_as_lost(earth: World) -> None:
    """Local processes after kill -9: ended by the next start, and recorded; the session can be resumed."""
    earth.docker = Mortal(address_of=lambda name: earth.agents.address)
    async with earth.mortal(Fuse()) as former:
        state = await former.open()
    earth.docker.die(state.container, 137)
    async with earth.gateway() as gateway:
        failed = await gateway.reaches(state.session_id, Phase.FAILED)
        assert failed.reason == "container_lost"
        (lost,) = await earth.payloads("container.lost")
        assert (lost.container, lost.exit_code) == (state.container, 137)
        assert await earth.log("container.died") == []
        await until(earth.empty)
        await gateway.resume(state.session_id)
        await gateway.reaches(state.session_id, Phase.READY)


async def test_a_session_of_a_gateway_that_ended_is_stopped_at_once(
    earth: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed session keeps its former gateway's name; its stop does not wait for the next look."""
    async with earth.gateway() as former:
        earth.docker.images = set()
        session_id = await former.begin()
        await former.reaches(session_id, Phase.FAILED)
        await former.idle(session_id)
    monkeypatch.setattr(lifespan, "RECONCILE_SECONDS", 60.0)
    async with earth.gateway() as gateway:
        await gateway.stop(session_id)
        await gateway.reaches(session_id, Phase.STOPPED, seconds=2)
