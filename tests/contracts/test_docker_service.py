"""What ``docker/service.py`` promises, held against every runtime: the mock, local processes, the real daemon.

Also through the blocking door (``docker/blocking.py``), every call from a plain thread.

What a runtime does not declare in its capabilities is not asked of it.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docker import names
from docker.errors import ContainerGone, ContainerRunning, ImageMissing, NameTaken, VolumeInUse
from docker.service import Capability, ContainerEvent, ContainerState, Volume
from tests.contracts.runtimes import MockRuntime, Runtime, opened, over_every_runtime, until


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    over_every_runtime(metafunc)


@pytest.fixture
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with opened(request, tmp_path) as given:
        yield given


@pytest.fixture
def name() -> str:
    return names.container_name()


def needs(runtime: Runtime, capability: Capability) -> None:
    if capability not in runtime.service.capabilities:
        pytest.skip(f"{runtime.service.runtime} does not declare {capability}")


async def state_of(runtime: Runtime, container_id: str) -> ContainerState | None:
    info = await runtime.service.get_container_info(container_id)
    return info.state if info else None


async def test_a_created_container_is_not_started(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    assert (made.name, made.state) == (name, ContainerState.CREATED)
    assert (made.address, made.started_at, made.exit_code) == (None, None, None)
    assert made.labels == names.labels(runtime.owner, "s-1", name)
    assert await runtime.service.get_container_info(made.id) == made


async def test_create_is_idempotent_by_name(runtime: Runtime, name: str) -> None:
    """The runner may be killed between the call and the event that records it, and calls again."""
    first = await runtime.create(name)
    assert await runtime.create(name) == first
    assert len(await runtime.service.list_containers(all=True, labels=names.owned_by(runtime.owner))) == 1


async def test_creating_a_running_container_again_leaves_it_running(runtime: Runtime, name: str) -> None:
    first = await runtime.create(name)
    await runtime.service.start_container(first.id)
    again = await runtime.create(name)
    assert (again.id, again.state) == (first.id, ContainerState.RUNNING)


@pytest.mark.parametrize("labels", [{}, {"other": "label"}, {names.OWNER: "somebody"}])
async def test_the_same_name_with_other_labels_is_taken(runtime: Runtime, name: str, labels: dict[str, str]) -> None:
    """A container that is not ours must never be adopted because its name fits."""
    await runtime.create(name)
    with pytest.raises(NameTaken, match=name):
        await runtime.create(name, labels=labels)


async def test_creates_of_one_name_at_once_make_one_container(runtime: Runtime, name: str) -> None:
    made = await asyncio.gather(*(runtime.create(name) for _ in range(4)))
    assert len({info.id for info in made}) == 1


async def test_an_image_that_is_not_there_is_named(runtime: Runtime, name: str) -> None:
    """Nothing is pulled: what runs is what the operator built."""
    with pytest.raises(ImageMissing, match="no-such-image"):
        await runtime.create(name, image="session-gateway/no-such-image:0")
    assert await runtime.service.get_container_info(name) is None


async def test_a_started_container_has_an_address(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    info = await runtime.service.get_container_info(made.id)
    assert info is not None
    assert info.state is ContainerState.RUNNING
    assert info.address is not None
    assert info.address.port > 0
    assert info.started_at is not None
    assert info.started_at >= info.created_at


async def test_what_is_served_is_reached_at_the_address(runtime: Runtime, name: str) -> None:
    if isinstance(runtime, MockRuntime):
        pytest.skip("nothing runs in a mock container")
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    info = await runtime.service.get_container_info(made.id)
    assert info is not None
    assert info.address is not None
    host, port = info.address.host, info.address.port

    async def healthy() -> bool:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /global/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 2)
            writer.close()
        except OSError:
            return False
        return b"200 OK" in answer and b'"healthy"' in answer

    await until(healthy)


async def test_starting_twice_is_starting(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    before = await runtime.service.get_container_info(made.id)
    await runtime.service.start_container(made.id)
    assert await runtime.service.get_container_info(made.id) == before


async def test_a_stopped_container_starts_again_under_a_known_address(runtime: Runtime, name: str) -> None:
    """The port may be another one after each start, so it is asked for each time."""
    made = await runtime.create(name)
    for _ in range(2):
        await runtime.service.start_container(made.id)
        info = await runtime.service.get_container_info(made.id)
        assert info is not None
        assert info.address is not None
        assert info.finished_at is None
        await runtime.service.stop_container(made.id, timeout=5)
    assert await state_of(runtime, made.id) is ContainerState.EXITED


@pytest.mark.each_call
async def test_stop_asks_first(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    async with asyncio.timeout(8):
        await runtime.service.stop_container(made.id, timeout=10)
    info = await runtime.service.get_container_info(made.id)
    assert info is not None
    assert (info.state, info.address, info.oom_killed) == (ContainerState.EXITED, None, False)
    assert info.finished_at is not None
    if Capability.EXIT_CODE in runtime.service.capabilities:
        assert info.exit_code == 143, "128 + SIGTERM"


async def test_stop_kills_what_does_not_listen(runtime: Runtime, name: str) -> None:
    made = await runtime.deaf(name)
    started = asyncio.get_running_loop().time()
    await runtime.service.stop_container(made.id, timeout=1)
    assert 0.9 <= asyncio.get_running_loop().time() - started < 10
    info = await runtime.service.get_container_info(made.id)
    assert info is not None
    assert info.state is ContainerState.EXITED
    if Capability.EXIT_CODE in runtime.service.capabilities:
        assert info.exit_code == 137, "128 + SIGKILL"


async def test_stopping_what_is_stopped_or_gone_is_success(runtime: Runtime, name: str) -> None:
    """Two workers may carry out the same intent."""
    made = await runtime.create(name)
    await runtime.service.stop_container(made.id)
    await runtime.service.start_container(made.id)
    await runtime.service.stop_container(made.id, timeout=5)
    await runtime.service.stop_container(made.id)
    await runtime.service.remove_container(made.id)
    await runtime.service.stop_container(made.id)


async def test_removing_what_is_gone_is_success(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    await runtime.service.remove_container(made.id)
    assert await runtime.service.get_container_info(made.id) is None
    await runtime.service.remove_container(made.id)
    await runtime.service.remove_container("gw-never-was", force=True)


async def test_removals_at_once_are_one_removal(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    await asyncio.gather(*(runtime.service.remove_container(made.id, force=True) for _ in range(3)))
    assert await runtime.service.get_container_info(made.id) is None


async def test_a_removal_that_comes_late_leaves_the_next_of_that_name(runtime: Runtime, name: str) -> None:
    first = await runtime.create(name)
    removals = [asyncio.create_task(runtime.service.remove_container(first.id, force=True)) for _ in range(3)]
    await asyncio.wait(removals, return_when=asyncio.FIRST_COMPLETED)
    second = await runtime.create(name)
    await asyncio.gather(*removals)
    assert second.id != first.id
    await runtime.service.start_container(second.id)
    assert await state_of(runtime, second.id) is ContainerState.RUNNING


@pytest.mark.each_call
async def test_a_running_container_is_removed_by_force_only(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    with pytest.raises(ContainerRunning):
        await runtime.service.remove_container(made.id)
    assert await state_of(runtime, made.id) is ContainerState.RUNNING
    await runtime.service.remove_container(made.id, force=True)
    assert await state_of(runtime, made.id) is None


async def test_a_removed_name_is_free(runtime: Runtime, name: str) -> None:
    first = await runtime.create(name)
    await runtime.service.remove_container(first.id)
    second = await runtime.create(name, labels={names.OWNER: runtime.owner})
    assert second.id != first.id


async def test_a_container_is_found_by_id_and_by_name(runtime: Runtime, name: str) -> None:
    made = await runtime.create(name)
    assert await runtime.service.get_container_info(name) == made
    assert await runtime.service.get_container_info("gw-never-was") is None


async def test_a_missing_container_is_gone(runtime: Runtime) -> None:
    with pytest.raises(ContainerGone, match="gw-never-was"):
        await runtime.service.start_container("gw-never-was")
    with pytest.raises(ContainerGone, match="gw-never-was"):
        await runtime.service.logs("gw-never-was")


@pytest.mark.each_call
async def test_list_answers_running_ones_and_all(runtime: Runtime) -> None:
    idle = await runtime.create(names.container_name())
    busy = await runtime.create(names.container_name())
    await runtime.service.start_container(busy.id)
    ours = names.owned_by(runtime.owner)
    running = await runtime.service.list_containers(labels=ours)
    assert running == [await runtime.service.get_container_info(busy.id)]
    every = await runtime.service.list_containers(all=True, labels=ours)
    assert {info.id for info in every} == {idle.id, busy.id}


async def test_list_asks_for_every_label(runtime: Runtime, name: str) -> None:
    """Two gateways on one daemon must not see each other's containers."""
    made = await runtime.create(name)
    both = names.owned_by(runtime.owner) | {names.NAME: name}
    assert [info.id for info in await runtime.service.list_containers(all=True, labels=both)] == [made.id]
    for wrong in ({names.OWNER: "somebody"}, both | {names.SESSION: "s-2"}, both | {"unknown": ""}):
        assert await runtime.service.list_containers(all=True, labels=wrong) == []


async def test_a_volume_keeps_its_data_when_its_container_is_removed(runtime: Runtime) -> None:
    """A session that is resumed finds its conversation."""
    volume = Volume(names.volume_name("home"), "/home/app", names.owned_by(runtime.owner))
    try:
        await runtime.keep(volume, "hello again")
        assert await runtime.kept(volume) == "hello again"
    finally:
        for info in await runtime.service.list_containers(all=True, labels=names.owned_by(runtime.owner)):
            await runtime.service.remove_container(info.id, force=True)
        await runtime.service.remove_volume(volume.name)
    await runtime.service.remove_volume(volume.name)


@pytest.mark.each_call
async def test_a_volume_in_use_is_not_removed(runtime: Runtime, name: str) -> None:
    volume = Volume(names.volume_name("home"), "/home/app")
    made = await runtime.create(name, volumes=(volume,))
    with pytest.raises(VolumeInUse, match="in use"):
        await runtime.service.remove_volume(volume.name)
    await runtime.service.remove_container(made.id)
    await runtime.service.remove_volume(volume.name)


async def test_a_removed_volume_has_nothing_left(runtime: Runtime) -> None:
    volume = Volume(names.volume_name("home"), "/home/app")
    await runtime.keep(volume, "secret")
    await runtime.service.remove_volume(volume.name)
    assert "secret" not in await runtime.kept(volume)
    for info in await runtime.service.list_containers(all=True, labels=names.owned_by(runtime.owner)):
        await runtime.service.remove_container(info.id, force=True)
    await runtime.service.remove_volume(volume.name)


@pytest.mark.each_call
async def test_logs_are_the_last_lines_oldest_first(runtime: Runtime, name: str) -> None:
    if isinstance(runtime, MockRuntime):
        made = await runtime.create(name)
        for line in ("one", "two", "three"):
            runtime.mock.print_line(name, line)
    else:
        made = await runtime.create(name, command=("/bin/sh", "-c", "echo one; echo two; echo three"))
        await runtime.service.start_container(made.id)

    async def all_printed() -> bool:
        return await runtime.service.logs(made.id) == ["one", "two", "three"]

    await until(all_printed)
    assert await runtime.service.logs(made.id, tail=2) == ["two", "three"]


async def test_a_container_that_ends_by_itself_tells_its_exit_code(runtime: Runtime, name: str) -> None:
    needs(runtime, Capability.EXIT_CODE)
    made = await runtime.end_with(name, 3)

    async def ended() -> bool:
        return await state_of(runtime, made.id) is ContainerState.EXITED

    await until(ended)
    info = await runtime.service.get_container_info(made.id)
    assert info is not None
    assert (info.exit_code, info.address, info.oom_killed) == (3, None, False)


@pytest.mark.each_call
async def test_a_death_is_told(runtime: Runtime, name: str) -> None:
    """The follower may start a moment after it was asked to, so containers end until one death is seen."""
    deaths: list[ContainerEvent] = []

    async def follow() -> None:
        async for event in runtime.service.events():
            deaths.append(event)

    follower = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(30):
            while not deaths:
                made = await runtime.end_with(names.container_name(), 3)
                await asyncio.sleep(0.2)
    finally:
        follower.cancel()
        await asyncio.wait([follower])
    assert follower.cancelled()
    event = deaths[0]
    assert event.kind == "die"
    assert event.at_ns > 1_600_000_000 * 10**9
    assert event.labels[names.OWNER] == runtime.owner
    assert event.name == event.labels[names.NAME]
    if Capability.EXIT_CODE in runtime.service.capabilities:
        assert event.exit_code == 3
    assert made.name


async def test_environment_reaches_the_container(runtime: Runtime, name: str) -> None:
    given = {"GATEWAY_WORD": 'it\'s a "word"'}
    if isinstance(runtime, MockRuntime):
        await runtime.create(name, environment=given)
        assert runtime.mock.environment_of(name) == given
        return
    made = await runtime.create(name, environment=given, command=("/bin/sh", "-c", 'echo "$GATEWAY_WORD"'))
    await runtime.service.start_container(made.id)

    async def printed() -> bool:
        return await runtime.service.logs(made.id) == [given["GATEWAY_WORD"]]

    await until(printed)


@pytest.mark.each_call
async def test_ping_answers_and_never_raises(runtime: Runtime) -> None:
    assert await runtime.service.ping() is True


@pytest.mark.each_call
async def test_leaving_the_context_leaves_the_containers(runtime: Runtime, name: str) -> None:
    """What is asked after it is asked over new connections; over the blocking door, through another one."""
    needs(runtime, Capability.ADOPTION)
    made = await runtime.create(name)
    await runtime.service.start_container(made.id)
    async with runtime.service as entered:
        assert entered is runtime.service
    assert await state_of(runtime, made.id) is ContainerState.RUNNING


async def test_twenty_containers_at_once(runtime: Runtime) -> None:
    made = await asyncio.gather(*(runtime.create(names.container_name()) for _ in range(20)))
    assert len({info.id for info in made}) == 20
    await asyncio.gather(*(runtime.service.remove_container(info.id, force=True) for info in made))
    assert await runtime.service.list_containers(all=True, labels=names.owned_by(runtime.owner)) == []
