"""``plan`` as a table: what the log says, what the runtime says, what is to be done. Then its carrying out, on whole
gateways that are killed, starved and lied to."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest
import pytest_asyncio

from docker import names
from docker.errors import DaemonDown, DaemonFailed
from docker.service import Address, ContainerEvent, ContainerInfo, ContainerState, DockerService
from events.errors import StoreUnavailable
from events.ids import short
from gateway import lifespan
from gateway.workers import reconcile
from gateway.workers.reconcile import Do, crashed, plan, watch
from projections.gateways import GatewayState
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.event_fixtures import until
from tests.factories import MOMENT, SEALED
from tests.gateway.world import Fuse, Gateway, Killed, Mortal, World, eventually, world

ME, OTHER = "gw-me", "gw-other"
HERE = Address("127.0.0.1", 4096)


def session(phase: Phase, **changes: Any) -> SessionState:
    state = SessionState(
        session_id="s1",
        phase=phase,
        generation=1,
        container="c1",
        containers=("c1",),
        runtime="mock",
        instance=ME,
        host=HERE.host,
        port=HERE.port,
    )
    return msgspec.structs.replace(state, **changes)


def container(state: ContainerState = ContainerState.RUNNING, **changes: Any) -> ContainerInfo:
    info = ContainerInfo(
        id="i1",
        name="c1",
        image="echo",
        state=state,
        labels=names.labels("log", "s1", "c1"),
        address=HERE if state is ContainerState.RUNNING else None,
        created_at=MOMENT,
    )
    return msgspec.structs.replace(info, **changes)


def planned(
    states: list[SessionState],
    containers: list[ContainerInfo],
    *,
    alive: Collection[str] = (ME,),
    busy: Collection[str] = (),
    erased: Collection[str] = (),
) -> list[Do]:
    found = plan(
        {state.session_id: state for state in states},
        containers,
        runtime="mock",
        instance=ME,
        alive=alive,
        busy=busy,
        erased=erased,
    )
    return [action.do for action in found]


RUNNING = container()
ENDED = container(ContainerState.EXITED)
PAUSED = container(ContainerState.PAUSED)
MOVED = container(address=Address("127.0.0.1", 5000))


@pytest.mark.parametrize(
    ("phase", "found", "expected"),
    [
        (Phase.CREATING, [], [Do.OPEN]),
        (Phase.CREATING, [RUNNING], [Do.OPEN]),
        (Phase.CREATING, [ENDED], [Do.OPEN]),
        (Phase.READY, [RUNNING], []),
        (Phase.READY, [PAUSED], []),
        (Phase.READY, [MOVED], [Do.ADOPT]),
        (Phase.READY, [ENDED], [Do.DIED]),
        (Phase.READY, [], [Do.LOST]),
        (Phase.STOPPING, [RUNNING], [Do.STOP]),
        (Phase.STOPPING, [], [Do.STOP]),
        (Phase.STOPPED, [], []),
        (Phase.STOPPED, [RUNNING], [Do.REMOVE]),
        (Phase.FAILED, [ENDED], [Do.REMOVE]),
        (Phase.FAILED, [], []),
    ],
)
def test_the_world_is_made_equal_to_the_log(phase: Phase, found: list[ContainerInfo], expected: list[Do]) -> None:
    assert planned([session(phase)], found) == expected


def test_kept_data_of_an_erased_subject_goes_when_its_session_has_ended() -> None:
    """Destroyed keys open no field; what the agent wrote to its volumes is the subject's data too (row C7)."""
    for phase, expected in ((Phase.STOPPED, [Do.ERASE]), (Phase.FAILED, [Do.ERASE]), (Phase.READY, [])):
        state = session(phase, volumes=("h", "w"), owner=SEALED)
        containers = [RUNNING] if phase is Phase.READY else []
        assert planned([state], containers, erased=[SEALED.k]) == expected
        assert planned([state], containers, erased=["sk_other"]) == []
    assert planned([session(Phase.STOPPED, owner=SEALED)], [], erased=[SEALED.k]) == []


def test_a_session_of_a_living_gateway_is_its_own_business() -> None:
    for phase in (Phase.CREATING, Phase.READY, Phase.STOPPING):
        assert planned([session(phase, instance=OTHER)], [RUNNING], alive={ME, OTHER}) == []


def test_a_session_of_a_dead_gateway_is_taken_over() -> None:
    assert planned([session(Phase.READY, instance=OTHER)], [RUNNING]) == [Do.ADOPT]
    assert planned([session(Phase.CREATING, instance=OTHER)], []) == [Do.OPEN]
    assert planned([session(Phase.READY, instance=OTHER)], [ENDED]) == [Do.LOST]


def test_what_is_being_carried_out_is_left_alone() -> None:
    for phase in (Phase.CREATING, Phase.STOPPING, Phase.STOPPED):
        assert planned([session(phase)], [RUNNING], busy={"s1"}) == []


def test_sessions_of_another_runtime_are_left_alone() -> None:
    """A gateway on local processes must not declare the containers of a Docker gateway lost."""
    assert planned([session(Phase.READY, runtime="docker")], []) == []


def test_a_container_of_a_former_generation_is_removed() -> None:
    former = container(name="c0")
    assert planned([session(Phase.READY)], [RUNNING, former]) == [Do.REMOVE]


def test_a_container_that_no_session_knows_is_removed() -> None:
    """It carries this log's label, so it is ours: left by a session whose unit was never acknowledged."""
    assert planned([], [RUNNING]) == [Do.REMOVE]


def test_only_silent_instances_have_crashed() -> None:
    gateways = {
        name: GatewayState(instance=name, started_at=MOMENT, ended_at=MOMENT if name == "gw-ended" else None)
        for name in (ME, OTHER, "gw-ended", "gw-dead")
    }
    assert crashed(gateways, {ME, OTHER}, ME) == ["gw-dead"]


def test_what_another_living_gateway_left_is_its_to_remove() -> None:
    """It may be removing it this moment."""
    stopped = session(Phase.STOPPED, instance=OTHER)
    assert planned([stopped], [RUNNING], alive={ME, OTHER}) == []
    assert planned([stopped], [RUNNING]) == [Do.REMOVE]


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


@pytest_asyncio.fixture
async def earth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Where silence is believed at once, since leases in memory do not run out by themselves."""
    monkeypatch.setattr(reconcile, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(lifespan, "RECONCILE_SECONDS", 0.1)
    async with world(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def gateway(earth: World) -> AsyncIterator[Gateway]:
    async with earth.gateway() as started:
        yield started


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


async def none_left(earth: World) -> bool:
    return await earth.containers() == []


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


@pytest.mark.parametrize("oom", [False, True])
async def test_a_container_that_ends_by_itself_is_told_at_once(earth: World, gateway: Gateway, oom: bool) -> None:
    """Within a second: died, failed, seat and token given back; the data stays, and the session can be resumed."""
    state = await gateway.open()
    earth.docker.volumes[state.volumes[0]]["talk"] = b"hello"
    loop = asyncio.get_running_loop()
    began = loop.time()
    if oom:
        earth.docker.oom(state.container)
    else:
        earth.docker.die(state.container, 7)
    failed = await gateway.reaches(state.session_id, Phase.FAILED, seconds=1.0)
    assert loop.time() - began < 1.0
    assert (failed.reason, failed.host) == ("container_died", None)
    assert failed.token is not None and failed.token.revoked
    assert gateway.views.seats.taken == {}
    (died,) = await earth.payloads("container.died")
    assert (died.exit_code, died.oom_killed) == ((137, True) if oom else (7, False))
    await until(lambda: none_left(earth))
    await gateway.resume(state.session_id)
    again = await gateway.reaches(state.session_id, Phase.READY)
    assert (again.generation, again.volumes) == (2, state.volumes)
    assert earth.docker.volumes[again.volumes[0]] == {"talk": b"hello"}


async def test_a_container_that_was_taken_away_is_told_as_lost(earth: World, gateway: Gateway) -> None:
    state = await gateway.open()
    await earth.docker.remove_container(state.container, force=True)
    failed = await gateway.reaches(state.session_id, Phase.FAILED)
    assert failed.reason == "container_lost"
    assert len(await earth.log("container.lost")) == 1


async def test_containers_of_others_are_not_touched(earth: World, gateway: Gateway) -> None:
    """Those without our label, and those of another log on the same daemon."""
    other_log = names.labels("another-log", "s1", "theirs")
    await earth.docker.create_container("plain", "postgres:18")
    await earth.docker.create_container("theirs", "echo", labels=other_log)
    ours = names.labels(str(earth.store.log_id), "ses_unknown", "orphan")
    await earth.docker.create_container("orphan", "echo", labels=ours)

    async def removed() -> bool:
        return "orphan" not in await earth.containers()

    await until(removed)
    assert await earth.containers() == ["plain", "theirs"]


async def test_one_container_that_cannot_be_removed_keeps_no_other_waiting(earth: World, gateway: Gateway) -> None:
    """A busy device holds one for hours."""

    async def only_stuck_is_left() -> bool:
        return await earth.containers() == ["stuck"]

    remove = earth.docker.remove_container

    async def stuck(container_id: str, force: bool = False) -> None:
        if container_id == "stuck":
            raise DaemonFailed("Device or resource busy.")
        await remove(container_id, force)

    earth.docker.remove_container = stuck  # type: ignore[method-assign]  # a fault that lasts, for one container
    for name in ("stuck", "free"):
        labels = names.labels(str(earth.store.log_id), "ses_unknown", name)
        await earth.docker.create_container(name, "echo", labels=labels)
    await until(only_stuck_is_left)


async def test_a_list_that_is_older_than_a_session_loses_nothing(earth: World) -> None:
    """The daemon was slow to answer, and the session became ready meanwhile: its container is looked for again."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow_list(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        found = await call()
        if name == "list_containers" and not answer.is_set():
            asked.set()
            await answer.wait()
        return found

    async with earth.gateway(through=slow_list) as gateway:
        await asyncio.wait_for(asked.wait(), 5)
        state = await gateway.open()
        await gateway.idle(state.session_id)
        looked = len([call for call, _ in earth.docker.calls if call == "inspect"])
        answer.set()
        await eventually(lambda: len([call for call, _ in earth.docker.calls if call == "inspect"]) > looked)
        lists = len([call for call, _ in earth.docker.calls if call == "list"])
        await eventually(lambda: len([call for call, _ in earth.docker.calls if call == "list"]) > lists)
        assert gateway.views.sessions[state.session_id].phase is Phase.READY
        assert await earth.log("container.lost") == []


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
        await until(lambda: none_left(earth))
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


async def test_the_watch_outlives_a_daemon_that_is_away() -> None:
    """And pokes when it is back, since it may have missed something."""
    seen: list[str] = []
    ended = asyncio.Event()

    class Flaky:
        def events(self) -> AsyncIterator[ContainerEvent]:
            seen.append("asked")
            return self._events(len(seen))

        async def _events(self, nth: int) -> AsyncIterator[ContainerEvent]:
            if nth == 1:
                raise DaemonDown("The daemon is down.")
            foreign = ContainerEvent(container_id="i", name="foreign", kind="die", at_ns=1)
            yield foreign
            yield msgspec.structs.replace(foreign, labels=names.labels("log", "s1", "c1"))

    pokes: list[int] = []

    def poke() -> None:
        pokes.append(len(seen))
        ended.set()

    await asyncio.wait_for(watch(cast(DockerService, Flaky()), poke), 5)
    assert ended.is_set() and pokes == [1, 2]
