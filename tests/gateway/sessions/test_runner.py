"""Carrying out: every way in which a boot or a stop can go wrong ends as the log says, with nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from docker.errors import (
    AuthorityUnknownToDaemon,
    CertificateFilesMissing,
    ContainerGone,
    DaemonDown,
    DaemonFailed,
    DaemonOfAnotherName,
    DockerError,
    HostDirRootUnfit,
    ImageMissing,
    LimitsNotApplied,
    NameTaken,
    PortClosed,
)
from docker.host_dirs import Folder
from docker.mock import Call
from docker.service import ContainerState
from events.envelope import session_stream
from events.ids import short
from gateway import lifespan
from gateway.errors import plain
from gateway.sessions import observe, runner
from gateway.sessions.commands import RevealToken
from gateway.sessions.runner import NOT_ISOLATED, boot_failed
from projections.lifecycle import Phase
from tests.event_fixtures import until
from tests.factories import CAUSE
from tests.gateway.world import EFFECTS, ORIGIN, Gateway, World, eventually, world

BOOT: Final = ["create_container", "append", "start_container", "get_container_info", "append", "append"]


@pytest_asyncio.fixture
async def earth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Where what is tried again is tried soon."""
    monkeypatch.setattr(observe, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(lifespan, "RECONCILE_SECONDS", 0.2)
    async with world(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def gateway(earth: World) -> AsyncIterator[Gateway]:
    async with earth.gateway({"SESSION_READY_SECONDS": "0.6"}) as started:
        yield started


async def failed(gateway: Gateway, session_id: str) -> str | None:
    """The reason, once everything about the failed session is done."""
    state = await gateway.reaches(session_id, Phase.FAILED)
    await gateway.idle(session_id)
    return state.reason


def by_a_runner() -> bool:
    """Whether a task of a runner is calling."""
    task = asyncio.current_task()
    return task is not None and task.get_name().startswith("runner-")


async def nothing_is_left(earth: World, gateway: Gateway) -> None:
    assert await earth.containers() == []
    assert gateway.views.seats.taken == {}


async def caused_by_the_death(earth: World) -> None:
    """The session failed because its container had died, and that is what it says."""
    (died,), (told,) = await earth.log("container.died"), await earth.log("session.failed")
    assert told.causation_id == died.event_id


async def test_a_boot_is_told_step_by_step(earth: World, gateway: Gateway) -> None:
    """Each step is an event, caused by the intent and found by the request's correlation id (row G2)."""
    state = await gateway.open()
    told = [event for event in await earth.log() if state.session_id.encode() in event.payload]
    assert [event.type for event in told] == [
        "session.requested",
        "token.issued",
        "admission.granted",
        "container.created",
        "container.started",
        "session.ready",
    ]
    assert {event.correlation_id for event in told} == {CAUSE.correlation_id}
    assert told[0].causation_id == CAUSE.causation_id
    assert {event.causation_id for event in told[1:]} == {told[0].event_id}
    assert all(event.trace_id == CAUSE.trace_id for event in told)
    await gateway.stop(state.session_id)
    await gateway.reaches(state.session_id, Phase.STOPPED)
    ending = (await earth.log())[len(await earth.log()) - 5 :]
    assert [event.type for event in ending] == [
        "session.stop_requested",
        "token.revoked",
        "container.removed",
        "session.stopped",
        "admission.released",
    ]
    assert {event.causation_id for event in ending[1:4]} == {ending[0].event_id}
    assert {event.correlation_id for event in ending} == {CAUSE.correlation_id}
    await nothing_is_left(earth, gateway)


async def test_a_missing_image_fails_the_session(earth: World, gateway: Gateway) -> None:
    earth.docker.images = set()
    assert await failed(gateway, await gateway.begin()) == "image_missing"
    await nothing_is_left(earth, gateway)


async def test_a_container_that_is_not_held_as_asked_fails_the_session(earth: World, gateway: Gateway) -> None:
    """The runtime has removed it; the log line says what was missing."""
    earth.docker.fail_next("create", LimitsNotApplied("The daemon left Memory out."))
    assert await failed(gateway, await gateway.begin()) == "limits_not_applied"
    (told,) = await earth.payloads("session.failed")
    assert told.detail == NOT_ISOLATED
    assert await earth.log("container.created") == []


async def test_a_container_that_shows_after_its_start_that_it_does_not_isolate_never_serves(
    earth: World, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is published is not known before; what is found is for the log, not for the session's owner."""
    start = earth.docker.start_container

    async def elsewhere(container_id: str) -> None:
        await start(container_id)
        earth.docker._change(earth.docker._existing(container_id), breaches=("it is published on 0.0.0.0",))

    monkeypatch.setattr(earth.docker, "start_container", elsewhere)
    assert await failed(gateway, await gateway.begin()) == "limits_not_applied"
    (why,) = await earth.payloads("session.failed")
    assert "0.0.0.0" not in why.detail
    assert await earth.log("container.started") == []
    await until(earth.empty)


@pytest.mark.parametrize("call", ["create", "start", "inspect"])
async def test_a_daemon_that_is_down_fails_the_boot(earth: World, gateway: Gateway, call: Call) -> None:
    """Whichever call it refuses; what was made before is removed when it is back."""
    earth.docker.fail_next(call, DaemonDown("The daemon is down."))
    earth.docker.fail_next("remove", DaemonDown("The daemon is down."))
    session_id = await gateway.begin()
    assert await failed(gateway, session_id) == "daemon_down"
    await until(earth.empty)
    await nothing_is_left(earth, gateway)


@pytest.mark.parametrize("call", ["stop", "remove"])
async def test_a_daemon_that_is_down_only_delays_the_stop(earth: World, gateway: Gateway, call: Call) -> None:
    state = await gateway.open()
    earth.docker.fail_next(call, DaemonDown("The daemon is down."))
    await gateway.stop(state.session_id)
    await gateway.reaches(state.session_id, Phase.STOPPED)
    await nothing_is_left(earth, gateway)


async def test_no_agent_starts_beside_one_of_an_earlier_generation(earth: World, gateway: Gateway) -> None:
    """It was left by a boot whose removal failed too: two agents on the same files would spoil them."""
    first = await gateway.open()
    await gateway.stop(first.session_id)
    await gateway.reaches(first.session_id, Phase.STOPPED)
    await gateway.idle(first.session_id)
    left = DaemonDown("The daemon is down.")
    earth.docker.fail_next("inspect", left)
    earth.docker.fail_next("remove", left, 1000)  # reconciliation's removals among them
    await gateway.resume(first.session_id)
    old = (await gateway.reaches(first.session_id, Phase.FAILED)).container
    await gateway.idle(first.session_id)
    await gateway.resume(first.session_id)
    await gateway.reaches(first.session_id, Phase.FAILED)
    await gateway.idle(first.session_id)
    assert await earth.containers() == [old], "nothing is made while the old one cannot be removed"
    earth.docker._faults["remove"].clear()
    await gateway.resume(first.session_id)
    ready = await gateway.reaches(first.session_id, Phase.READY)
    assert await earth.containers() == [ready.container]
    assert [told.container for told in await earth.payloads("container.removed")].count(old) == 1


INNER = "tcp://10.1.2.3:2376, /etc/gateway/certs/key.pem: open /var/lib/docker/overlay2: denied"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (DaemonFailed, "daemon_failed"),
        (ContainerGone, "daemon_failed"),
        (NameTaken, "daemon_failed"),
        (AuthorityUnknownToDaemon, "daemon_failed"),
        (DaemonOfAnotherName, "daemon_failed"),
        (CertificateFilesMissing, "daemon_failed"),
        (PortClosed, "daemon_down"),
        (ImageMissing, "image_missing"),
        (LimitsNotApplied, "limits_not_applied"),
        (HostDirRootUnfit, "host_dir_refused"),
    ],
)
async def test_an_errors_own_words_are_for_the_log_line_alone(
    earth: World, gateway: Gateway, kind: type[DockerError], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They hold addresses and paths; whoever has the session gets the sentence of its class."""
    earth.docker.fail_next("create", kind(INNER))
    session_id = await gateway.begin()
    assert await failed(gateway, session_id) == reason
    (told,) = await earth.payloads("session.failed")
    assert told.detail == gateway.views.sessions[session_id].detail == plain(kind(INNER))
    assert not any(word in told.detail for word in ("tcp:", "10.1", "/", "denied"))
    assert [line.getMessage() for line in caplog.records if INNER in line.getMessage()] == [f"session failed: {INNER}"]
    await nothing_is_left(earth, gateway)


def test_a_folders_name_stands_in_no_log_line() -> None:
    """The daemon puts it into what it says, and it is personal."""
    folder = Folder("/srv/workspaces/anna", 1, 2)
    failure = boot_failed(DaemonFailed("open /srv/workspaces/anna: denied"), folder)
    assert failure.said == "open the folder: denied" and "anna" not in str(failure)


@pytest.mark.parametrize("how", ["unhealthy", "dripping", "silent"])
async def test_an_agent_that_never_answers_is_given_up(earth: World, gateway: Gateway, how: str) -> None:
    """In time, also when it keeps every single try busy: a slot for booting must not be held for ever."""
    earth.agents.healthy, earth.agents.slow = how != "unhealthy", how == "dripping"
    if how == "silent":
        earth.agents.address = earth.agents.address.__class__("127.0.0.1", 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await failed(gateway, await gateway.begin()) == "not_ready"
    assert loop.time() - began < 3
    (told,) = await earth.payloads("session.failed")
    assert told.detail.startswith("The session's port could not" if how == "silent" else "The agent gave no answer")
    await nothing_is_left(earth, gateway)


async def test_a_container_that_dies_while_booting_is_told(
    earth: World, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its exit code, and without waiting for the deadline."""
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.05)
    earth.agents.healthy = False
    session_id = await gateway.begin()
    await eventually(lambda: earth.agents.asked)
    earth.docker.die(gateway.views.sessions[session_id].container, 3)
    assert await failed(gateway, session_id) == "container_died"
    (died,) = await earth.payloads("container.died")
    assert (died.exit_code, died.session_id) == (3, session_id)
    await caused_by_the_death(earth)
    await nothing_is_left(earth, gateway)


async def test_a_container_that_dies_right_after_its_start_is_told(earth: World) -> None:
    async def dies(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name == "start_container":
            [container] = await earth.containers()
            earth.docker.die(container, 1)
        return answer

    async with earth.gateway(through=dies) as gateway:
        assert await failed(gateway, await gateway.begin()) == "container_died"
        (died,) = await earth.payloads("container.died")
        assert died.exit_code == 1
        await caused_by_the_death(earth)
        await nothing_is_left(earth, gateway)


@pytest.mark.parametrize("step", range(1, len(BOOT) + 1))
async def test_a_stop_at_any_step_of_the_boot_gives_it_up(earth: World, step: int) -> None:
    """Stopped before its nth effect, the session ends stopped; its container and its seat are given back."""
    steps: list[str] = []
    reached = asyncio.Event()

    async def hold(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name in EFFECTS and by_a_runner() and not reached.is_set():
            steps.append(name)
            if len(steps) == step:
                reached.set()
                await asyncio.Event().wait()  # until the stop gives it up
        return await call()

    async with earth.gateway(through=hold) as gateway:
        session_id = await gateway.begin()
        await asyncio.wait_for(reached.wait(), 5)
        assert steps == BOOT[:step]
        await gateway.stop(session_id)
        state = await gateway.reaches(session_id, Phase.STOPPED)
        await gateway.idle(session_id)
        assert state.anomalies == 0
        await nothing_is_left(earth, gateway)


async def test_a_stop_while_it_waits_for_the_agent_gives_the_boot_up(earth: World, gateway: Gateway) -> None:
    earth.agents.healthy = False
    session_id = await gateway.begin()
    await eventually(lambda: earth.agents.asked)
    await gateway.stop(session_id)
    await gateway.reaches(session_id, Phase.STOPPED)
    assert await earth.log("session.failed") == []
    await nothing_is_left(earth, gateway)


async def test_boots_wait_for_their_turn(earth: World) -> None:
    """A boot burns seconds of CPU: no more at once than told; the wait counts for nobody's boot time."""
    earth.agents.healthy = False
    environment = {"SESSION_BOOT_CONCURRENCY": "2", "MAX_CONCURRENT_SESSIONS": "5"}
    async with earth.gateway(environment) as gateway:
        sessions = [await gateway.begin() for _ in range(5)]
        await eventually(lambda: len(earth.made()) == 2 and earth.agents.asked > 20)
        assert len(earth.made()) == 2
        earth.agents.healthy = True
        for session_id in sessions:
            await gateway.reaches(session_id, Phase.READY)
        boots = {event.session_id: event.boot_us for event in await earth.payloads("session.ready")}
        assert all(boots[session_id] < boots[sessions[0]] for session_id in sessions[2:])


async def test_a_session_can_be_resumed_while_its_failed_container_is_removed(
    earth: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is opened as soon as that is done, not at the next look of reconciliation."""
    monkeypatch.setattr(lifespan, "RECONCILE_SECONDS", 60.0)
    earth.docker.images = set()
    earth.docker.lag("remove", 0.2)
    async with earth.gateway() as gateway:
        session_id = await gateway.begin()
        await gateway.reaches(session_id, Phase.FAILED)
        earth.docker.images = None
        assert gateway.services.runner.busy(session_id)
        await gateway.resume(session_id)
        state = await gateway.reaches(session_id, Phase.READY)
        assert await earth.containers() == [state.container]


async def test_a_second_stop_does_not_begin_again(earth: World, gateway: Gateway) -> None:
    state = await gateway.open()
    earth.docker.lag("stop", 0.1)
    await gateway.stop(state.session_id)
    for _ in range(5):
        gateway.services.runner.stop(state.session_id)
    await gateway.reaches(state.session_id, Phase.STOPPED)
    await gateway.idle(state.session_id)
    assert [call for call, _ in earth.docker.calls].count("stop") == 1


async def test_a_stop_of_what_is_not_stopping_does_nothing(earth: World, gateway: Gateway) -> None:
    """Asked late, it would end the container of the session's next generation."""
    state = await gateway.open()
    await gateway.idle(state.session_id)
    gateway.services.runner.stop(state.session_id)
    assert not gateway.services.runner.busy(state.session_id)
    info = await earth.docker.get_container_info(state.container)
    assert info is not None and info.state is ContainerState.RUNNING


async def test_the_intent_is_found_however_often_the_token_was_shown(earth: World, gateway: Gateway) -> None:
    """The stream of a booting session grows with every look at its token."""
    earth.agents.healthy = False
    session_id = await gateway.begin()
    for _ in range(runner.INTENTS_PAGE + 1):
        await gateway.services.handler.handle(RevealToken(session_id=session_id), ORIGIN)
    (intent,) = await earth.store.read_stream(session_stream(session_id), limit=1)
    assert await gateway.services.runner.intent(session_id) == intent


async def test_a_session_without_an_intent_is_a_fault(gateway: Gateway) -> None:
    with pytest.raises(LookupError):
        await gateway.services.runner.intent(short())


async def test_closing_gives_up_what_is_under_way(earth: World) -> None:
    """The log keeps how far it came; nothing runs on, and nothing new is begun."""
    earth.agents.healthy = False
    async with earth.gateway() as gateway:
        session_id = await gateway.begin()
        await eventually(lambda: earth.agents.asked)
    assert not gateway.services.runner.busy(session_id)
    assert gateway.views.sessions[session_id].phase is Phase.CREATING


async def test_an_address_is_that_of_a_ready_session(gateway: Gateway) -> None:
    state = await gateway.open()
    address = runner.address_of(state)
    assert address is not None and (address.host, address.port) == (state.host, state.port)
    await gateway.stop(state.session_id)
    assert runner.address_of(gateway.views.sessions[state.session_id]) is None
