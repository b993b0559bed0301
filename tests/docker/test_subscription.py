"""Events: none is lost and none is told twice, whatever becomes of connections and certificates."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docker import subscription
from docker.aiodocker_service import AiodockerService
from docker.authority import Authority
from docker.errors import DaemonUntrusted
from docker.service import ContainerEvent
from docker.subscription import Told
from tests.docker.cert_folder import issue, issue_server, settings_of
from tests.docker.certified_daemon import CertifiedDaemon, certified_daemon, serial_of
from tests.gateway.served import reached

SECOND = 10**9


def died(at_ns: int, name: str = "c") -> ContainerEvent:
    return ContainerEvent(container_id=name, name=name, kind="die", at_ns=at_ns)


def test_an_event_is_told_once_and_a_later_one_of_an_earlier_time_too() -> None:
    """The daemon stamps before it tells: of two at once the later may come first."""
    told = Told()
    told.begin(10 * SECOND)
    assert told.is_new(died(11 * SECOND, "a"))
    assert told.is_new(died(11 * SECOND - 5, "b"))
    assert not told.is_new(died(11 * SECOND, "a"))
    assert not told.is_new(died(11 * SECOND - 5, "b"))
    assert told.is_new(died(11 * SECOND, "c")), "another container in the same nanosecond"
    assert told.since == "10.000000000"


def test_a_clock_that_is_set_back_makes_nobody_deaf() -> None:
    told = Told()
    told.begin(1000 * SECOND)
    assert told.is_new(died(1001 * SECOND))
    assert [told.is_new(died((701 + turn) * SECOND)) for turn in range(3)] == [True] * 3
    assert told.since == "702.000000000"
    assert not told.is_new(died(1001 * SECOND)), "the daemon still remembers it"


def test_a_clock_that_was_set_back_meanwhile_has_all_asked_for_again() -> None:
    told = Told()
    told.begin(1000 * SECOND)
    told.look(1000 * SECOND)
    assert told.since == "999.000000000"
    told.look(700 * SECOND)
    assert told.since == "1.000000000"


def test_what_is_remembered_is_bounded_and_more_than_a_daemon_remembers() -> None:
    told = Told()
    told.begin(SECOND)
    events = [died(2 * SECOND, str(number)) for number in range(3000)]
    assert all(map(told.is_new, events))
    assert not any(map(told.is_new, events[-256:]))
    assert len(told._recent) == subscription._REMEMBERED


@contextlib.asynccontextmanager
async def followed(folder: Path, daemon: CertifiedDaemon) -> AsyncIterator[list[str]]:
    """The names of the containers whose ends are told."""
    names: list[str] = []
    service = AiodockerService(settings_of(folder, daemon.port))

    async def follow() -> None:
        async for event in service.events():
            names.append(event.name)

    follower = asyncio.create_task(follow())
    try:
        yield names
    finally:
        follower.cancel()
        await asyncio.wait([follower])
        await service.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority()
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    return tmp_path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the files every few milliseconds."""
    monkeypatch.setattr("docker.identity.LOOK_SECONDS", 0.02)
    monkeypatch.setattr(subscription, "LOOK_SECONDS", 0.02)


async def streaming(daemon: CertifiedDaemon, serial: int) -> None:
    await reached(lambda: daemon.streams == 1 and daemon.serials("/events")[-1] == serial)


async def test_the_subscription_moves_to_a_new_certificate_without_losing_or_doubling(folder: Path) -> None:
    authority = Authority()
    issue(folder, authority)
    issue_server(folder, authority)
    async with (
        certified_daemon(folder) as daemon,
        followed(folder, daemon) as names,
    ):
        for turn in range(4):
            await streaming(daemon, serial_of(folder))
            daemon.happen(f"{turn}-before")
            issue(folder, authority)
            while daemon.serials("/events")[-1] != serial_of(folder):  # all the while something happens
                daemon.happen(f"{turn}-{len(daemon.happened)}")
                await asyncio.sleep(0.002)
        await streaming(daemon, serial_of(folder))
        daemon.happen("last")
        await reached(lambda: "last" in names)
        assert sorted(names) == sorted(event["Actor"]["ID"] for event in daemon.happened)


async def test_what_happens_before_the_first_event_is_not_lost_by_a_move(folder: Path) -> None:
    """Nothing was told yet by which one could ask for more: the daemon's own clock says since when."""
    async with (
        certified_daemon(folder) as daemon,
        followed(folder, daemon) as names,
    ):
        await reached(lambda: daemon.streams == 1)
        await daemon.stop()
        daemon.happen("meanwhile")
        await daemon.start()
        await reached(lambda: names == ["meanwhile"])
        assert daemon.sinces[0] == ""
        assert float(daemon.sinces[-1]) == pytest.approx(time.time(), abs=10)


async def test_a_rotation_whose_other_half_is_late_makes_nobody_deaf(folder: Path) -> None:
    """Our files are replaced before the daemon's are: the subscription waits, and misses nothing."""
    async with certified_daemon(folder) as daemon, followed(folder, daemon) as names:
        await reached(lambda: daemon.streams == 1)
        new = Authority()
        issue(folder, new)
        await reached(lambda: daemon.streams == 0)
        daemon.happen("meanwhile")
        await daemon.stop()
        issue_server(folder, new)
        await daemon.start()
        await reached(lambda: names == ["meanwhile"])


async def test_a_daemon_that_was_never_right_is_told_to_whoever_follows(folder: Path) -> None:
    issue_server(folder, Authority())
    async with certified_daemon(folder) as daemon:
        service = AiodockerService(settings_of(folder, daemon.port))
        with pytest.raises(DaemonUntrusted):
            async for _ in service.events():
                pass
        await service.close()


async def test_a_daemon_that_was_away_may_be_another(folder: Path) -> None:
    """It is asked again what it can do, also when nobody but the events noticed."""
    async with certified_daemon(folder) as daemon:
        service = AiodockerService(settings_of(folder, daemon.port))

        async def follow() -> None:
            async for _ in service.events():
                pass

        follower = asyncio.create_task(follow())
        try:
            await reached(lambda: daemon.streams == 1)
            before = service._connection.epoch
            await daemon.stop()
            await reached(lambda: service._connection.epoch > before)
            epoch = service._connection.epoch
            assert not await service.ping()
            assert service._connection.epoch > epoch
        finally:
            follower.cancel()
            await asyncio.wait([follower])
            await service.close()
