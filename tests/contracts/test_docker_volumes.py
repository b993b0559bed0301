"""Volumes found by their labels: whose they are can be told when nothing else is left."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docker import names
from docker.service import Volume, VolumeInfo
from tests.contracts.runtimes import Runtime, opened, over_every_runtime


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    over_every_runtime(metafunc)


@pytest.fixture
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with opened(request, tmp_path) as given:
        yield given


@pytest.mark.each_call
async def test_volumes_are_found_by_every_label(runtime: Runtime) -> None:
    """The labels are those of the container that made them; another gateway's are not ours."""
    service, made = runtime.service, []
    for session in ("s-1", "s-2"):
        container = names.container_name()
        labels = names.labels(runtime.owner, session, container)
        pair = tuple(
            Volume(names.volume_name(kind), target, labels)
            for kind, target in (("home", "/home/app"), ("workspace", "/workspace"))
        )
        await runtime.create(container, volumes=pair)
        made += [VolumeInfo(volume.name, labels) for volume in pair]
        await service.remove_container(container, force=True)
    bare = Volume(names.volume_name("home"), "/home/app")
    foreign = await runtime.create(names.container_name(), volumes=(bare,))
    try:
        ours = names.owned_by(runtime.owner)
        assert sorted(await service.list_volumes(ours), key=str) == sorted(made, key=str)
        assert await service.list_volumes(ours | {names.SESSION: "s-3"}) == []
        assert {each.name for each in await service.list_volumes(ours | {names.SESSION: "s-2"})} == {
            each.name for each in made[2:]
        }
        assert bare.name in {each.name for each in await service.list_volumes()}
        again = await runtime.create(
            names.container_name(), volumes=(Volume(made[0].name, "/home/app", {"other": "x"}),)
        )
        assert made[0] in await service.list_volumes(ours), "whoever mounts it later changes nothing"
        await service.remove_container(again.id)
    finally:
        await service.remove_container(foreign.id, force=True)
        for name in (*(each.name for each in made), bare.name):
            await service.remove_volume(name)
    assert await service.list_volumes(names.owned_by(runtime.owner)) == []
