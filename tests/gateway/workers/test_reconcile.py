"""``plan`` as a table: what the log says, what the runtime says, what is to be done."""

from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from docker import names
from docker.service import Address, ContainerInfo, ContainerState
from gateway.workers.reconcile import Do, crashed, plan
from projections.gateways import GatewayState
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.factories import MOMENT, SEALED

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
