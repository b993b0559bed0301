"""Facts: told once, however many see them, and not given up while the log is away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from docker.service import Address, ContainerInfo, ContainerState
from events.catalogue import ContainerAdopted, ContainerDied, ContainerLost, ContainerStarted
from events.codec import decode
from events.envelope import Actor, ActorKind, container_stream
from events.errors import StoreUnavailable
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from events.store import EventStore
from gateway.recorder import Recorder
from gateway.sessions import observe
from gateway.sessions.observe import Observer, until_stored
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.factories import CAUSE, MOMENT
from tests.gateway.world import Wired

STATE = SessionState(
    session_id="s1", phase=Phase.READY, generation=1, container="c1", containers=("c1",), runtime="mock", instance="g1"
)
INFO = ContainerInfo(
    id="i1",
    name="c1",
    image="echo",
    state=ContainerState.RUNNING,
    address=Address("127.0.0.1", 4096),
    created_at=MOMENT,
    started_at=MOMENT,
)
ENDED = msgspec.structs.replace(
    INFO, state=ContainerState.EXITED, address=None, finished_at=MOMENT, exit_code=137, oom_killed=True
)
Tell = Callable[[Observer], Awaitable[int | None]]


@pytest_asyncio.fixture
async def store() -> AsyncIterator[MemoryEventStore]:
    made = MemoryEventStore()
    yield made
    await made.close()


def observer(store: EventStore, instance: str = "g1") -> Observer:
    return Observer(Recorder(store, MemoryKeyring()), instance)


FACTS: dict[str, Tell] = {
    "container.created": lambda each: each.created(STATE, INFO, CAUSE),
    "container.started": lambda each: each.started(STATE, INFO, CAUSE),
    "container.died": lambda each: each.died(STATE, ENDED, CAUSE),
    "container.removed": lambda each: each.removed(STATE, CAUSE),
    "container.adopted": lambda each: each.adopted(STATE, INFO, CAUSE),
    "container.lost": lambda each: each.lost(STATE, ENDED, CAUSE),
}


@pytest.mark.parametrize("fact", FACTS)
async def test_a_fact_is_told_with_its_cause(store: MemoryEventStore, fact: str) -> None:
    position = await FACTS[fact](observer(store))
    (event,) = await store.read_stream(container_stream("c1"))
    assert (event.type, event.position) == (fact, position)
    assert (event.causation_id, event.correlation_id) == (CAUSE.causation_id, CAUSE.correlation_id)
    payload: Any = decode(event)
    assert (payload.container, payload.session_id, payload.generation) == ("c1", "s1", 1)


@pytest.mark.parametrize("fact", FACTS)
async def test_a_fact_that_is_told_again_is_the_same(store: MemoryEventStore, fact: str) -> None:
    """Its id is made from what the runtime says."""
    positions = [await FACTS[fact](observer(store)) for _ in range(3)]
    assert positions == [1, 1, 1]


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact != "container.adopted"])
async def test_two_observers_of_one_fact_write_one_event(store: MemoryEventStore, fact: str) -> None:
    for instance in ("g1", "g2"):
        await FACTS[fact](observer(store, instance))
    assert len(await store.read_log()) == 1


async def test_each_adoption_is_its_own_fact(store: MemoryEventStore) -> None:
    """By whom, and at which address: a container may be adopted again and again."""
    for instance in ("g1", "g2"):
        await observer(store, instance).adopted(STATE, INFO)
    moved = msgspec.structs.replace(INFO, address=Address("127.0.0.1", 5000))
    await observer(store, "g2").adopted(STATE, moved)
    told = [cast(ContainerAdopted, decode(event)) for event in await store.read_log()]
    assert [(each.instance, each.port) for each in told] == [("g1", 4096), ("g2", 4096), ("g2", 5000)]


async def test_a_session_can_be_moved_back_to_an_address(store: MemoryEventStore) -> None:
    """The address at which the daemon's machine is reached can change and change back: each is a fact of its own."""
    for position, host in enumerate(("172.17.0.1", "172.18.0.1", "172.17.0.1")):
        state = msgspec.structs.replace(STATE, position=position)
        for _ in range(2):  # a second time at the same state is the same fact
            await observer(store).adopted(state, msgspec.structs.replace(INFO, address=Address(host, 4096)))
    told = [cast(ContainerAdopted, decode(event)).host for event in await store.read_log()]
    assert told == ["172.17.0.1", "172.18.0.1", "172.17.0.1"]


async def test_a_container_that_is_started_again_is_another_fact(store: MemoryEventStore) -> None:
    later = msgspec.structs.replace(INFO, started_at=MOMENT + timedelta(seconds=1))
    for info in (INFO, later, later):
        await observer(store).started(STATE, info)
    assert len(await store.read_log()) == 2
    started = cast(ContainerStarted, decode((await store.read_log())[0]))
    assert (started.host, started.port) == ("127.0.0.1", 4096)


async def test_an_end_says_how(store: MemoryEventStore) -> None:
    """What the container did by itself has the container as its actor; what we found out has us."""
    await observer(store).died(STATE, ENDED)
    await observer(store).lost(STATE, None)
    died, lost = await store.read_log()
    assert cast(ContainerDied, decode(died)).oom_killed and cast(ContainerDied, decode(died)).exit_code == 137
    assert cast(ContainerLost, decode(lost)).exit_code is None
    actors = [msgspec.json.decode(event.actor, type=Actor) for event in (died, lost)]
    assert [(actor.kind, actor.id) for actor in actors] == [(ActorKind.CONTAINER, "c1"), (ActorKind.GATEWAY, "g1")]


async def test_a_fact_waits_for_a_log_that_is_away(store: MemoryEventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "RETRY_SECONDS", 0.001)
    tries = 0

    async def away(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal tries
        if name == "append" and (tries := tries + 1) < 5:
            raise StoreUnavailable("the log is away")
        return await call()

    assert await observer(cast(EventStore, Wired(store, away))).created(STATE, INFO) == 1
    assert tries == 5


async def test_what_is_no_outage_is_not_tried_again() -> None:
    async def broken() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        await until_stored(broken)


async def test_waiting_for_the_log_can_be_given_up() -> None:
    """A process that ends does not wait: reconciliation sees the fact again."""

    async def away() -> None:
        raise StoreUnavailable("the log is away")

    waiting = asyncio.create_task(until_stored(away))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
