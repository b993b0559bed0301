"""Whose data goes and when, as a table; then on whole gateways that are killed between the event and the removal."""

from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from docker import names
from docker.errors import DaemonDown, DaemonFailed
from docker.service import Volume, VolumeInfo
from events.catalogue import SubjectErased
from events.envelope import SYSTEM
from events.ids import named
from gateway.errors import Refused
from gateway.recorder import session_subject
from gateway.workers.reconcile import LEASE
from gateway.workers.retention import Retention, leftovers, plan
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.factories import MOMENT, SEALED
from tests.gateway.world import ORIGIN, Fuse, World, eventually, world

DAY = timedelta(days=1)
LABELS = names.labels("log", "s1", "c1")


@pytest_asyncio.fixture
async def earth(tmp_path: Any) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def ended(phase: Phase = Phase.STOPPED, **changes: Any) -> SessionState:
    state = SessionState(session_id="s1", phase=phase, runtime="mock", volumes=("h", "w"), ended_at=MOMENT)
    return msgspec.structs.replace(state, **changes)


def planned(
    state: SessionState,
    *,
    keep: timedelta | None = None,
    age: timedelta = DAY,
    erased: Collection[str] = (),
    busy: bool = False,
) -> str | None:
    found = plan(
        {state.session_id: state},
        now=MOMENT + age,
        keep=keep,
        runtime="mock",
        busy=[state.session_id] if busy else [],
        erased=dict.fromkeys(erased, named("erased")),
    )
    return found[0].reason if found else None


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.FAILED])
@pytest.mark.parametrize(
    ("keep", "age", "expected"),
    [
        (None, 10_000 * DAY, None),
        (DAY, DAY - timedelta(seconds=1), None),
        (DAY, DAY, "policy"),
        (DAY / 2, DAY, "policy"),
        (timedelta(0), timedelta(0), "policy"),
        (timedelta(0), -DAY, "policy"),  # the log's clock is ahead of ours: it has ended all the same
    ],
)
def test_data_is_kept_for_so_long(phase: Phase, keep: timedelta | None, age: timedelta, expected: str | None) -> None:
    assert planned(ended(phase), keep=keep, age=age) == expected


@pytest.mark.parametrize("phase", [Phase.CREATING, Phase.READY, Phase.STOPPING])
def test_a_session_that_has_not_ended_keeps_its_data(phase: Phase) -> None:
    assert planned(ended(phase, owner=SEALED), keep=timedelta(0), erased=[SEALED.k]) is None


def test_kept_data_of_an_erased_subject_goes_when_its_session_has_ended() -> None:
    """Destroyed keys open no field; what the agent wrote to its volumes is the subject's data too (row C7)."""
    assert planned(ended(), erased=["s1"]) == "erased", "opened for nobody, without a field"
    for field in ("owner", "metadata", "host_dir", "asked"):
        state = msgspec.structs.replace(ended(), **{field: SEALED})
        assert planned(state, erased=[SEALED.k]) == "erased"
        assert planned(state, keep=timedelta(0), erased=[SEALED.k]) == "erased", "the stronger reason is told"
        assert planned(state, erased=["sk_other"]) is None


def test_what_is_gone_busy_or_elsewhere_is_left_alone() -> None:
    assert planned(ended(), keep=timedelta(0)) == "policy"
    for state in (ended(volumes=()), ended(runtime="docker"), ended(imported=True, volumes=())):
        assert planned(state, keep=timedelta(0)) is None
    assert planned(ended(), keep=timedelta(0), busy=True) is None


def left(state: SessionState, volume: VolumeInfo, *, busy: bool = False) -> bool:
    found = leftovers([volume], {state.session_id: state}, runtime="mock", busy=["s1"] if busy else [])
    return found == [volume]


def test_a_volume_whose_session_gave_its_data_up_is_left_over() -> None:
    volume = VolumeInfo("h", LABELS)
    for phase in (Phase.STOPPED, Phase.FAILED):
        assert left(ended(phase, volumes=()), volume)
        assert not left(ended(phase, volumes=()), volume, busy=True)
        assert not left(ended(phase), volume), "it is kept"
        assert not left(ended(phase, volumes=(), runtime="docker"), volume)
    assert not left(ended(Phase.READY, volumes=()), volume)


def test_volumes_of_sessions_that_the_log_does_not_know_are_kept() -> None:
    """A log that was restored from a backup knows less than the daemon: what it does not know is not ours to judge."""
    for labels in (names.labels("log", "s2", "c2"), names.owned_by("log"), {}):
        assert not left(ended(volumes=()), VolumeInfo("h", labels))


def volume(container: str, labels: dict[str, str]) -> Volume:
    return Volume(f"{container}-home", "/home/app", labels)


async def gone(earth: World) -> None:
    await eventually(lambda: earth.docker.volumes == {})


async def test_with_nothing_to_keep_the_end_takes_the_data(earth: World) -> None:
    async with earth.gateway({"SESSION_DATA_KEEP_DAYS": "0"}) as gateway:
        state = await gateway.open()
        assert len(earth.docker.volumes) == 2
        await gateway.stop(state.session_id)
        await gone(earth)
        (removed,) = await earth.payloads("session.data_removed")
        assert (removed.volumes, removed.reason) == (state.volumes, "policy")
        with pytest.raises(Refused, match="data of this session was removed"):
            await gateway.resume(state.session_id)


async def test_a_daemon_in_trouble_does_not_keep_an_erasure_from_being_decided(earth: World) -> None:
    """Nor does the erased session start again meanwhile."""
    async with earth.gateway() as gateway:
        state = await gateway.open()
        await gateway.stop(state.session_id)
        await gateway.reaches(state.session_id, Phase.STOPPED)
        await gateway.idle(state.session_id)
        earth.docker.fail_next("list_volumes", DaemonDown("away"), 1000)
        erased = SubjectErased(key_ids=(state.session_id,), reason="asked")
        await gateway.services.recorder.fact(SYSTEM, erased, who=ORIGIN.who)
        await eventually(lambda: state.session_id in gateway.views.erased)
        with pytest.raises(Refused, match="subject was erased"):
            await gateway.resume(state.session_id)
        await eventually(lambda: gateway.views.sessions[state.session_id].volumes == ())
        assert len(earth.docker.volumes) == 2


async def test_only_who_holds_the_lease_acts_and_not_on_what_is_under_way(
    earth: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
        await gateway.stop(state.session_id)
        await gateway.reaches(state.session_id, Phase.STOPPED)
        await gateway.idle(state.session_id)
        retention = Retention(gateway.services)
        retention._keep = timedelta(0)  # of this one alone: the gateway's own keeps the data
        lease = LEASE + gateway.services.docker.runtime
        with monkeypatch.context() as patched:
            patched.setattr(gateway.services.runner, "busy", lambda session_id: True)
            await retention.run_once()
            assert gateway.views.sessions[state.session_id].volumes, "its runner is at work"
        await earth.leases.release(lease, gateway.instance)
        assert await earth.leases.claim(lease, "another") is not None
        await retention.run_once()
        assert gateway.views.sessions[state.session_id].volumes, "the lease is another's"
        await earth.leases.release(lease, "another")
        await retention.run_once()
        assert earth.docker.volumes == {}


async def test_a_failed_sessions_volumes_go_after_its_container(earth: World) -> None:
    async with earth.gateway({"SESSION_DATA_KEEP_DAYS": "0"}) as gateway:
        state = await gateway.open()
        earth.docker.lag("remove", 0.3)
        earth.docker.die(state.container, 137)
        await gateway.reaches(state.session_id, Phase.FAILED)
        await gone(earth)
        assert await earth.empty()


async def test_by_default_the_data_is_kept(earth: World) -> None:
    async with earth.gateway() as gateway:
        state = await gateway.open()
        await gateway.stop(state.session_id)
        await gateway.reaches(state.session_id, Phase.STOPPED)
        assert len(earth.docker.volumes) == 2
        await gateway.resume(state.session_id)
        await gateway.reaches(state.session_id, Phase.READY)
    assert await earth.log("session.data_removed") == []


async def test_an_erasure_is_the_cause_of_what_it_removes(earth: World) -> None:
    async with earth.gateway() as gateway:
        command = msgspec.structs.replace(gateway.command(), metadata=None)
        subject = session_subject(command.session_id)
        owner = await gateway.services.recorder.sealed(
            subject, "ada", f"session-{command.session_id}", "session.requested", "owner"
        )
        await gateway.services.handler.handle(msgspec.structs.replace(command, owner=owner), ORIGIN)
        gateway.services.runner.open(command.session_id)
        await gateway.reaches(command.session_id, Phase.READY)
        keys = await gateway.services.keyring.erase(subject)
        await gateway.services.recorder.fact(SYSTEM, SubjectErased(key_ids=keys, reason="asked"), who=ORIGIN.who)
        assert len(earth.docker.volumes) == 2, "a session that runs has its data"
        await gateway.stop(command.session_id)
        await gone(earth)
        (erased,) = await earth.log("subject.erased")
        (removed,) = await earth.log("session.data_removed")
        assert removed.causation_id == erased.event_id


@pytest.mark.parametrize("volumes_done", [0, 1])
async def test_what_a_killed_gateway_leaves_is_removed_by_the_next(earth: World, volumes_done: int) -> None:
    """The event is in the log; none, or one, of the two volumes is gone."""
    fuse = Fuse()
    async with earth.mortal(fuse) as gateway:
        state = await gateway.open()
        await gateway.stop(state.session_id)
        await gateway.reaches(state.session_id, Phase.STOPPED)
        await gateway.idle(state.session_id)
    earth.docker.fail_next("remove_volume", DaemonFailed("cut off"), 2 - volumes_done)
    async with earth.gateway({"SESSION_DATA_KEEP_DAYS": "0"}) as gateway:
        await eventually(lambda: gateway.views.sessions[state.session_id].volumes == ())
        await eventually(lambda: not earth.docker._faults["remove_volume"])  # both were tried
        await eventually(lambda: len(earth.docker.volumes) == 2 - volumes_done)
    async with earth.gateway() as other:
        await gone(earth)
        assert other.views.sessions[state.session_id].volumes == ()
    assert len(await earth.log("session.data_removed")) == 1


async def test_a_volume_of_nobody_we_know_stays(earth: World) -> None:
    async with earth.gateway({"SESSION_DATA_KEEP_DAYS": "0"}) as gateway:
        log_id = str(earth.store.log_id)
        for session, container in (("ses_of_a_lost_log", "gw-1"), ("", "gw-2")):
            labels = names.labels(log_id, session, container)
            await earth.docker.create_container(container, "echo", labels=labels, volumes=(volume(container, labels),))
        state = await gateway.open()
        await gateway.stop(state.session_id)
        await eventually(lambda: len(earth.docker.volumes) == 2)
        assert set(earth.docker.volumes) == {"gw-1-home", "gw-2-home"}
