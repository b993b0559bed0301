"""A kill for want of memory is told once, whoever sees it, however often the kernel says it, and when nobody looked."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from docker.mock import MockDockerService
from docker.service import ContainerEvent, ContainerInfo, ContainerState
from events.envelope import Actor, ActorKind
from gateway.sessions.observe import Observer, exhausted_id
from gateway.workers.exhaustion import APART, EVENT, Exhaustion, Kill, Known, is_new, kills
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.factories import MOMENT
from tests.gateway.world import World, eventually

ME, OTHER = "gw-me", "gw-other"
STATE = SessionState(
    session_id="s1", phase=Phase.READY, generation=1, container="c1", containers=("c1",), runtime="mock", instance=ME
)
INFO = ContainerInfo(id="i1", name="c1", image="echo", state=ContainerState.RUNNING, created_at=MOMENT)
MARKED = msgspec.structs.replace(INFO, oom_killed=True)
ENDED = msgspec.structs.replace(MARKED, state=ContainerState.EXITED)
EVENT_1 = ContainerEvent(container_id="i1", name="c1", kind="oom", at_ns=int(MOMENT.timestamp() * 1e9))
HEARD = {"c1": [EVENT_1]}


def found(
    heard: dict[str, list[ContainerEvent]], *containers: ContainerInfo, state: SessionState = STATE
) -> list[Kill]:
    return kills(heard, containers, {state.session_id: state}, instance=ME, runtime="mock")


def test_what_was_heard_goes_with_its_time_and_a_mark_without() -> None:
    assert found(HEARD, INFO) == found(HEARD, MARKED) == [Kill(STATE, "i1", MOMENT)]
    assert found({}, MARKED) == [Kill(STATE, "i1", None)]
    assert found({}, INFO) == []


def test_a_kill_that_ended_the_container_is_told_when_it_was_heard() -> None:
    """Else the death alone tells it: its mark has no time."""
    assert found(HEARD, ENDED) == [Kill(STATE, "i1", MOMENT)]
    assert found({}, ENDED) == []


@pytest.mark.parametrize("change", [{"instance": OTHER}, {"runtime": "docker"}, {"phase": Phase.FAILED}])
def test_sessions_of_others_and_ended_ones_are_left_alone(change: dict[str, Any]) -> None:
    assert found(HEARD, MARKED, state=msgspec.structs.replace(STATE, **change)) == []


def test_a_container_of_a_former_generation_is_left_alone() -> None:
    assert (
        found({"c0": [msgspec.structs.replace(EVENT_1, name="c0")]}, msgspec.structs.replace(MARKED, name="c0")) == []
    )


@pytest.mark.parametrize(
    ("at", "known", "new"),
    [
        (MOMENT, None, True),
        (None, None, True),
        (None, Known([MOMENT]), False),  # the mark stays for as long as the container runs
        (MOMENT, Known([MOMENT]), False),
        (MOMENT, Known([MOMENT - APART]), False),  # the kernel may report one kill several times
        (MOMENT, Known([MOMENT - APART - timedelta(seconds=1)]), True),
        (MOMENT, Known([MOMENT + timedelta(hours=1)]), True),  # the daemon's clock was set back
        (MOMENT, Known([], mark=MOMENT + timedelta(days=1)), False),  # found by its mark before the daemon's word came
        (MOMENT, Known([], mark=MOMENT - timedelta(seconds=1)), True),
    ],
)
def test_news_is_what_nobody_told_of_that_time(at: datetime | None, known: Known | None, new: bool) -> None:
    assert is_new(Kill(STATE, "i1", at), known) is new


def test_a_mark_stands_for_one_kill() -> None:
    """Of a gateway whose clock is an hour ahead it would else stand for all of that hour."""
    known = Known(mark=MOMENT + timedelta(hours=1))
    first, later = Kill(STATE, "i1", MOMENT), Kill(STATE, "i1", MOMENT + timedelta(minutes=2))
    assert [is_new(kill, known) for kill in (first, first, later)] == [False, False, True]


def test_ids_are_the_containers_first_and_those_of_its_minutes() -> None:
    ids = {exhausted_id("i1"), exhausted_id("i2"), exhausted_id("i1", 7), exhausted_id("i1", 8), exhausted_id("i1")}
    assert len(ids) == 4


class Daemon(MockDockerService):
    """With a clock that a test turns."""

    def __init__(self, world: World) -> None:
        super().__init__(address_of=lambda name: world.agents.address, now=lambda: self.clock)
        self.clock = datetime.now(UTC)
        self.remembered: list[ContainerEvent] = []

    def remember_oom(self, container: str) -> None:
        """A kill that leaves no mark."""
        info = next(each for each in self._containers.values() if each.name == container)
        at_ns = int(self.clock.timestamp() * 1e9)
        self.remembered.append(
            ContainerEvent(container_id=info.id, name=container, kind="oom", at_ns=at_ns, labels=info.labels)
        )

    def events(self, past: bool = False) -> AsyncIterator[ContainerEvent]:
        return self._after(self.remembered if past else [], super().events())

    async def _after(
        self, past: list[ContainerEvent], live: AsyncIterator[ContainerEvent]
    ) -> AsyncIterator[ContainerEvent]:
        for event in past:
            yield event
        async for event in live:
            yield event


@pytest.fixture
def daemon(earth: World) -> Daemon:
    earth.docker = made = Daemon(earth)
    return made


async def rounds(earth: World, number: int = 2) -> None:
    """Let the reconciler look ``number`` times from now on, each time to the end."""
    seen = len([call for call, _ in earth.docker.calls if call == "list"])
    await eventually(lambda: len([call for call, _ in earth.docker.calls if call == "list"]) > seen + number)


async def told(earth: World, number: int) -> None:
    """Wait for so many, and see that no more come."""

    async def there() -> int:
        return len(await earth.log(EVENT))

    for _ in range(200):
        if await there() >= number:
            break
        await rounds(earth, 1)
    await rounds(earth)
    assert await there() == number


async def test_a_child_that_is_killed_is_told_at_once_and_the_session_lives_on(
    earth: World, daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
        before = gateway.views.sessions[state.session_id]
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                daemon.oom_child(state.container)
            await told(earth, 1)
        (event,), (payload,) = await earth.log(EVENT), await earth.payloads(EVENT)
        (ready,) = await earth.log("session.ready")
        assert (payload.session_id, payload.container, payload.generation) == (state.session_id, state.container, 1)
        actor = msgspec.json.decode(event.actor, type=Actor)
        assert (actor.kind, actor.id) == (ActorKind.CONTAINER, state.container)
        assert event.occurred_at == daemon.clock and not payload.found, "the daemon's time"
        assert event.causation_id == ready.event_id and event.trace_id is not None
        assert event.correlation_id == ready.correlation_id
        after = gateway.views.sessions[state.session_id]
        assert msgspec.structs.replace(after, position=before.position) == before, "the session is as it was"
    (line,) = [record for record in caplog.records if "want of memory" in record.getMessage()]
    assert line.levelno == logging.WARNING
    assert (line.__dict__["session_id"], line.__dict__["operation"]) == (state.session_id, "watch")


async def test_a_later_kill_is_told_when_a_minute_has_passed(earth: World, daemon: Daemon) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
        for seconds, number in ((0, 1), (59, 1), (2, 2), (61, 3)):
            daemon.clock += timedelta(seconds=seconds)
            daemon.oom_child(state.container)
            await told(earth, number)


async def test_a_daemon_whose_clock_was_set_back_is_heard(earth: World, daemon: Daemon) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
        for seconds, number in ((0, 1), (-300, 2), (30, 2), (60, 3)):
            daemon.clock += timedelta(seconds=seconds)
            daemon.oom_child(state.container)
            await told(earth, number)
        assert gateway.views.sessions[state.session_id].phase is Phase.READY


async def test_one_that_ends_the_container_is_told_before_its_end(earth: World, daemon: Daemon) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
        daemon.oom(state.container)
        failed = await gateway.reaches(state.session_id, Phase.FAILED)
        (died,), (why,) = await earth.payloads("container.died"), await earth.payloads("session.failed")
        assert (died.oom_killed, failed.reason) == (True, "container_died")
        assert "want of memory, see CONTAINER_MEMORY_LIMIT" in why.detail
        events = await earth.log(EVENT, "container.died")
        assert [event.type for event in events] == [EVENT, "container.died"]


@pytest.mark.parametrize("known", [False, True])
async def test_what_nobody_heard_is_found_once(earth: World, daemon: Daemon, known: bool) -> None:
    """By the container's mark; not again at each round, nor by the next gateway, nor when the log has it already."""
    async with earth.gateway() as gateway:
        state = await gateway.open()
        if known:
            daemon.oom_child(state.container)
            await told(earth, 1)
    if not known:
        daemon.oom_child(state.container)
        assert await earth.log(EVENT) == []
    for _ in range(2):
        async with earth.gateway() as again:
            await eventually(lambda: again.views.sessions[state.session_id].instance == again.instance)
            await told(earth, 1)
            assert [each.found for each in await earth.payloads(EVENT)] == [not known]
            assert again.views.sessions[state.session_id].phase is Phase.READY


async def test_two_that_see_one_kill_make_one_event(earth: World, daemon: Daemon) -> None:
    """The one that carries the session is taken for gone and is not: both write, before either sees the other's."""
    async with earth.gateway() as first:
        state = await first.open()
        for observer in (first.services.observer, Observer(first.services.recorder, "gw-other")):
            await observer.memory_exhausted(state, "i1", exhausted_id("i1"), daemon.clock)
        assert len(await earth.log(EVENT)) == 1


def test_a_kill_that_says_nothing_new_is_no_reason_for_a_round() -> None:
    """Else a session could keep gateway and daemon busy by being killed a thousand times a second."""
    nothing: Any = None
    made = Exhaustion(nothing, nothing, nothing, nothing, instance=ME, runtime="mock", now=lambda: MOMENT)
    assert [made.heard(EVENT_1) for _ in range(3)] == [True, False, False]
    assert made.heard(msgspec.structs.replace(EVENT_1, name="c2"))
    assert made.heard(msgspec.structs.replace(EVENT_1, at_ns=EVENT_1.at_ns + 61 * 10**9))


@pytest.mark.parametrize("missed", [(0,), (0, 300), (0, 30, 300, 330)])
async def test_what_the_daemon_remembers_is_told_by_the_next_gateway_once(
    earth: World, daemon: Daemon, missed: tuple[int, ...]
) -> None:
    """A running container of a daemon before release 23 has no mark. The next gateway hears of all that is remembered,
    before it has taken the session over; what an earlier one told is among it."""
    async with earth.gateway() as gateway:
        state = await gateway.open()
        daemon.oom_child(state.container)
        await told(earth, 1)
    daemon.clock += timedelta(seconds=600)
    began = daemon.clock
    for seconds in missed:
        daemon.clock = began + timedelta(seconds=seconds)
        daemon.remember_oom(state.container)
    for _ in range(2):
        async with earth.gateway():
            await told(earth, 1 + len({seconds // 60 for seconds in missed}))
    times = [event.occurred_at for event in await earth.log(EVENT)]
    assert times == sorted(set(times)) and times[1] == began
