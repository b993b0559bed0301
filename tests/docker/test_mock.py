"""The shipped fake: its faults, and that it is deterministic. The contract itself is in tests/contracts."""

import asyncio
from datetime import UTC, datetime

import pytest

from docker.errors import ContainerGone, DaemonDown, DaemonFailed
from docker.mock import MockDockerService
from docker.service import Address, ContainerState, DockerService

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def running(service: MockDockerService, name: str = "gw-1") -> str:
    info = await service.create_container(name, "any", labels={"a": "b"})
    await service.start_container(info.id)
    return info.id


async def test_it_keeps_the_protocol() -> None:
    service: DockerService = MockDockerService()
    assert service.runtime == "mock"


async def test_two_runs_are_alike() -> None:
    """Ids, ports and times are counted or given: a failing test fails again."""
    first, second = MockDockerService(now=lambda: NOON), MockDockerService(now=lambda: NOON)
    assert await running(first) == await running(second)
    assert await first.list_containers(all=True) == await second.list_containers(all=True)


async def test_each_start_has_a_new_port() -> None:
    """As on a daemon: whoever keeps an old address is found out."""
    service = MockDockerService()
    container = await running(service)
    before = await service.get_container_info(container)
    await service.stop_container(container)
    await service.start_container(container)
    after = await service.get_container_info(container)
    assert before is not None
    assert after is not None
    assert before.address != after.address


async def test_a_real_server_can_stand_behind_a_container() -> None:
    service = MockDockerService(address_of=lambda name: Address(f"{name}.test", 7))
    info = await service.get_container_info(await running(service))
    assert info is not None
    assert info.address == Address("gw-1.test", 7)


async def test_a_planned_failure_happens_once_and_changes_nothing() -> None:
    service = MockDockerService()
    service.fail_next("create", DaemonFailed("disk full"))
    with pytest.raises(DaemonFailed, match="disk full"):
        await service.create_container("gw-1", "any")
    assert await service.list_containers(all=True) == []
    await service.create_container("gw-1", "any")
    service.fail_next("stop", DaemonDown("away"), times=2)
    for _ in range(2):
        with pytest.raises(DaemonDown):
            await service.stop_container("gw-1")
    await service.stop_container("gw-1")


async def test_ping_never_raises() -> None:
    service = MockDockerService()
    service.fail_next("ping", ValueError("odd"))
    assert await service.ping() is False
    assert await service.ping() is True


async def test_latency_is_slept_through_the_given_sleep() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    service = MockDockerService(sleep=sleep)
    service.lag("start", 2.5)
    service.ignore_sigterm("gw-1")
    await service.stop_container(await running(service), timeout=9)
    assert [seconds for seconds in slept if seconds] == [2.5, 9]


async def test_a_call_cancelled_while_it_lags_did_nothing() -> None:
    service = MockDockerService()
    service.lag("create", 60)
    call = asyncio.create_task(service.create_container("gw-1", "any"))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    service.lag("create", 0)
    assert await service.list_containers(all=True) == []
    assert service.calls == [("list", "")]


async def test_an_oom_kill_is_told_before_the_death() -> None:
    service = MockDockerService(now=lambda: NOON)
    events = service.events()
    container = await running(service)
    service.oom("gw-1")
    told = [await anext(events), await anext(events)]
    assert [(event.kind, event.exit_code, event.labels) for event in told] == [
        ("oom", None, {"a": "b"}),
        ("die", 137, {"a": "b"}),
    ]
    info = await service.get_container_info(container)
    assert info is not None
    assert (info.state, info.oom_killed, info.exit_code) == (ContainerState.EXITED, True, 137)


async def test_a_child_that_is_killed_is_told_and_leaves_its_mark() -> None:
    service = MockDockerService()
    events = service.events()
    container = await running(service)
    service.oom_child("gw-1")
    assert (await anext(events)).kind == "oom"
    info = await service.get_container_info(container)
    assert info is not None
    assert (info.state, info.oom_killed, info.exit_code) == (ContainerState.RUNNING, True, None)


async def test_what_happens_while_the_events_are_lost_is_never_told() -> None:
    """Whoever trusts the stream alone misses a death; the list is the truth."""
    service = MockDockerService()
    events = service.events()
    await running(service)
    await running(service, "gw-2")
    service.lose_events()
    service.die("gw-1", 1)
    service.find_events()
    service.die("gw-2", 2)
    assert (await anext(events)).name == "gw-2"
    assert await service.list_containers() == []


async def test_a_stream_that_is_lost_with_an_error_ends_with_it() -> None:
    service = MockDockerService()
    events = service.events()
    service.lose_events(DaemonDown("cut"))
    with pytest.raises(DaemonDown, match="cut"):
        await anext(events)
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_every_follower_is_told() -> None:
    service = MockDockerService()
    first, second = service.events(), service.events()
    await running(service)
    service.die("gw-1", 4)
    assert await anext(first) == await anext(second)


async def test_a_paused_container_lives_but_is_not_reached() -> None:
    service = MockDockerService()
    container = await running(service)
    before = await service.get_container_info(container)
    service.pause("gw-1")
    info = await service.get_container_info(container)
    assert info is not None
    assert (info.state, info.address) == (ContainerState.PAUSED, None)
    assert await service.list_containers() == [info]
    service.unpause("gw-1")
    assert await service.get_container_info(container) == before


async def test_what_does_not_run_cannot_die() -> None:
    """A test that lets the wrong container die should hear of it."""
    service = MockDockerService()
    await service.create_container("gw-1", "any")
    with pytest.raises(DaemonFailed, match="not running"):
        service.die("gw-1", 1)
    with pytest.raises(ContainerGone):
        service.oom("gw-2")


async def test_a_container_that_dies_while_it_is_being_stopped_keeps_its_own_end() -> None:
    released = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds:
            await released.wait()

    service = MockDockerService(sleep=sleep)
    container = await running(service)
    service.ignore_sigterm("gw-1")
    call = asyncio.create_task(service.stop_container(container, timeout=9))
    await asyncio.sleep(0)
    service.die("gw-1", 3)
    released.set()
    await call
    info = await service.get_container_info(container)
    assert info is not None
    assert info.exit_code == 3
