"""A call that is cancelled, at whatever moment, leaves nothing half-made.

What there is afterwards is as it was before, or as was asked; and the same call again does all of it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from docker import names
from docker.service import ContainerInfo, ContainerState, Volume
from tests.contracts.runtimes import Runtime, demand_cancelling, opened, over_every_runtime, until

MOMENTS: Final = (0.0, 0.002, 0.02, 0.2)  # seconds: a daemon's create takes 0.02, a start 0.4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    over_every_runtime(metafunc)


@pytest.fixture
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with opened(request, tmp_path) as given:
        demand_cancelling(given)
        yield given


async def cancelled(call: Awaitable[object], moment: float) -> None:
    """Let it run so long."""
    task = asyncio.ensure_future(call)
    await asyncio.wait([task], timeout=moment)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        await task  # it was over before: then without an error


async def at_every_moment(trial: Callable[[float], Awaitable[object]]) -> None:
    """Side by side, each with a container of its own."""
    await asyncio.gather(*map(trial, MOMENTS))


async def runs(runtime: Runtime, name: str) -> ContainerInfo:
    """Create and start it, which may both be repetitions; it is one container, and runs."""
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    (info,) = await runtime.service.list_containers(labels={names.NAME: name})
    assert info.id == made.id
    assert info.state is ContainerState.RUNNING
    assert info.address is not None
    return info


async def settles(runtime: Runtime, container: str, *states: ContainerState | None) -> None:
    """It comes to one of these by itself: a daemon ends a removal that nobody waits for any more."""

    async def settled() -> bool:
        info = await runtime.service.get_container_info(container)
        return (info.state if info else None) in states

    await until(settled, 10)


async def test_a_cancelled_create_is_repeated(runtime: Runtime) -> None:
    """The name is not lost to the next try, and no second container is left."""

    async def trial(moment: float) -> None:
        name = names.container_name()
        await cancelled(runtime.create(name), moment)
        await settles(runtime, name, None, ContainerState.CREATED)
        made = await runtime.create(name)
        every = await runtime.service.list_containers(all=True, labels={names.NAME: name})
        assert [info.id for info in every] == [made.id]

    await at_every_moment(trial)


async def test_a_cancelled_start_is_repeated(runtime: Runtime) -> None:
    async def trial(moment: float) -> None:
        made = await runtime.create(names.container_name())
        await cancelled(runtime.service.start_container(made.id), moment)
        await settles(runtime, made.id, ContainerState.CREATED, ContainerState.RUNNING)
        assert (await runs(runtime, made.name)).id == made.id

    await at_every_moment(trial)


async def test_a_cancelled_stop_is_repeated(runtime: Runtime) -> None:
    """Between the two it may run still."""

    async def trial(moment: float) -> None:
        info = await runs(runtime, names.container_name())
        await cancelled(runtime.service.stop_container(info.id, timeout=5), moment)
        await settles(runtime, info.id, ContainerState.RUNNING, ContainerState.EXITED)
        await runtime.service.stop_container(info.id, timeout=5)
        ended = await runtime.service.get_container_info(info.id)
        assert ended is not None
        assert (ended.state, ended.address) == (ContainerState.EXITED, None)

    await at_every_moment(trial)


async def test_a_cancelled_removal_is_repeated_and_the_name_is_free(runtime: Runtime) -> None:
    """What is made anew under the name is whole: nothing of the cancelled call is still at work on it."""

    async def trial(moment: float) -> None:
        info = await runs(runtime, names.container_name())
        await cancelled(runtime.service.remove_container(info.id, force=True), moment)
        await settles(runtime, info.id, ContainerState.RUNNING, None)
        await runtime.service.remove_container(info.id, force=True)
        assert await runtime.service.get_container_info(info.name) is None
        assert (await runs(runtime, info.name)).id != info.id

    await at_every_moment(trial)


async def test_a_cancelled_removal_of_a_volume_is_repeated(runtime: Runtime) -> None:
    async def trial(moment: float) -> None:
        given: dict[str, Any] = {"labels": names.owned_by(runtime.owner)}
        volume = Volume(names.volume_name("home"), "/home/app", given["labels"])
        first = await runtime.create(names.container_name(), volumes=(volume,), **given)
        await runtime.service.remove_container(first.id)
        await cancelled(runtime.service.remove_volume(volume.name), moment)
        await runtime.service.remove_volume(volume.name)
        assert volume.name not in [each.name for each in await runtime.service.list_volumes(volume.labels)]

    await at_every_moment(trial)
