"""``plan`` as a table: what the log says, what the runtime says, what is to be done. Then its carrying out, on whole
gateways that are killed, starved and lied to."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
import pytest

from docker import names
from docker.errors import DaemonFailed
from docker.service import Address, ContainerInfo, ContainerState
from gateway.sessions.runner import NOT_ISOLATED
from gateway.workers.reconcile import Do, crashed, plan
from projections.gateways import GatewayState
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.event_fixtures import until
from tests.factories import MOMENT
from tests.gateway.world import Gateway, World, eventually

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
) -> list[Do]:
    found = plan(
        {state.session_id: state for state in states},
        containers,
        runtime="mock",
        instance=ME,
        alive=alive,
        busy=busy,
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


def test_what_does_not_isolate_is_refused_and_what_departs_serves_on() -> None:
    """At adoption and at any round; an upgrade that asks for more ends no session."""
    held, open_ = container(departures=("PidsLimit is 64, not 32",)), container(breaches=("Privileged is True",))
    ready = session(Phase.READY)
    assert [planned([ready], [each]) for each in (held, open_)] == [[], [Do.REFUSE]]
    assert planned([session(Phase.READY, instance=OTHER)], [open_]) == [Do.REFUSE], "before it is adopted"
    assert planned([session(Phase.READY, instance=OTHER)], [open_], alive={ME, OTHER}) == []
    assert planned([ready], [msgspec.structs.replace(PAUSED, breaches=open_.breaches)]) == [Do.REFUSE]


@pytest.mark.parametrize("adopted", [False, True])
async def test_a_container_that_does_not_isolate_serves_no_longer(
    earth: World, caplog: pytest.LogCaptureFixture, adopted: bool
) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
        if not adopted:
            become(earth, state, breaches=("/etc of the host is mounted at /x",))
            failed = await gateway.reaches(state.session_id, Phase.FAILED)
    if adopted:
        become(earth, state, breaches=("/etc of the host is mounted at /x",))
        async with earth.gateway() as again:
            failed = await again.reaches(state.session_id, Phase.FAILED)
            await until(earth.empty)
    assert failed.reason == "limits_not_applied"
    (why,) = await earth.payloads("session.failed")
    assert why.detail == NOT_ISOLATED, "no path of the host"
    assert await earth.log("container.adopted") == []
    (line,) = [record for record in caplog.records if "/etc of the host" in record.getMessage()]
    assert (line.__dict__["session_id"], line.levelname) == (state.session_id, "ERROR")


def become(earth: World, state: SessionState, **changes: Any) -> None:
    """As the daemon shows the session's container from now on."""
    earth.docker._change(earth.docker._existing(state.container), **changes)


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
    (fact,), (told,) = await earth.log("container.died"), await earth.log("session.failed")
    (requested,) = await earth.log("session.requested")
    # Why did this happen: the death ended the session; it is found within what the session's request began.
    assert (told.causation_id, fact.causation_id is not None) == (fact.event_id, True)
    assert told.correlation_id == fact.correlation_id == requested.correlation_id
    assert fact.trace_id is not None and told.trace_id == fact.trace_id
    (died,) = await earth.payloads("container.died")
    assert (died.exit_code, died.oom_killed) == ((137, True) if oom else (7, False))
    await until(earth.empty)
    await gateway.resume(state.session_id)
    again = await gateway.reaches(state.session_id, Phase.READY)
    assert (again.generation, again.volumes) == (2, state.volumes)
    assert earth.docker.volumes[again.volumes[0]] == {"talk": b"hello"}


async def test_a_container_that_was_taken_away_is_told_as_lost(earth: World, gateway: Gateway) -> None:
    state = await gateway.open()
    await earth.docker.remove_container(state.container, force=True)
    failed = await gateway.reaches(state.session_id, Phase.FAILED)
    assert failed.reason == "container_lost"
    (lost,), (told,) = await earth.log("container.lost"), await earth.log("session.failed")
    assert told.causation_id == lost.event_id


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


async def test_a_container_that_is_removed_later_says_for_what(earth: World, gateway: Gateway) -> None:
    """The runner could not; whoever finds it names the session's newest intent, as the runner would have."""
    remove, refused = earth.docker.remove_container, list[str]()

    async def busy_once(container_id: str, force: bool = False) -> None:
        if not refused:
            refused.append(container_id)
            raise DaemonFailed("Device or resource busy.")
        await remove(container_id, force)

    earth.docker.remove_container = busy_once  # type: ignore[method-assign]  # a fault that passes
    state = await gateway.open()
    earth.docker.die(state.container, 1)
    await until(earth.empty)
    await eventually(lambda: gateway.views.sessions[state.session_id].container_id is None)
    (failed,), (removed,) = await earth.log("session.failed"), await earth.log("container.removed")
    assert refused and removed.causation_id == failed.event_id
    assert (removed.correlation_id, removed.trace_id) == (failed.correlation_id, failed.trace_id)


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
