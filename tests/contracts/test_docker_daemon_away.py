"""What ``docker/service.py`` promises while the runtime is away: every call is bounded in time and says DaemonDown."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from docker import names
from docker.aiodocker_service import AiodockerService
from docker.errors import DaemonDown, DockerError
from docker.service import ContainerInfo
from tests.contracts.runtimes import create, daemon_runtime, mock_runtime, relayed, until
from tests.docker.relay import Relay
from tests.docker_fixtures import DockerDaemon


@pytest.fixture
def name() -> str:
    return names.container_name()


async def test_a_mock_daemon_that_goes_down_in_mid_call_is_down(name: str) -> None:
    async with mock_runtime() as runtime:
        made = await runtime.create(name)
        runtime.mock.lag("stop", 0.05)
        call = asyncio.create_task(runtime.service.stop_container(made.id))
        await asyncio.sleep(0)
        runtime.mock.go_down()
        with pytest.raises(DaemonDown):
            await call
        assert await runtime.service.ping() is False
        runtime.mock.come_back()
        assert await runtime.service.get_container_info(name) == made


@pytest.mark.docker
@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_a_daemon_that_goes_away_in_mid_call_is_down(
    docker_daemon: DockerDaemon, echo_image: str, how: str
) -> None:
    """Cut: the connection ends. Frozen: nothing comes any more, and only the time-out ends the call."""
    async with daemon_runtime(docker_daemon) as direct, relayed(docker_daemon, call_timeout=1.0) as (service, relay):
        made = await direct.deaf(names.container_name())
        call = asyncio.create_task(service.stop_container(made.id, timeout=3))

        async def stopping() -> bool:
            return relay.connections > 0

        await until(stopping)
        if how == "cut":
            await relay.cut()
        else:
            relay.freeze()
        with pytest.raises(DaemonDown):
            await asyncio.wait_for(call, 10)
        await relay.mend()
        assert await service.ping() is True
        assert await service.get_container_info(made.id) is not None


def every_call(service: AiodockerService, made: ContainerInfo, name: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """About ``made``, which exists, and ``name``, which does not."""
    return {
        "create": lambda: create(service, name, "away", {}),
        "start": lambda: service.start_container(made.id),
        "inspect": lambda: service.get_container_info(made.id),
        "list": lambda: service.list_containers(all=True, labels={names.NAME: made.name}),
        "logs": lambda: service.logs(made.id),
        "list volumes": service.list_volumes,
        "remove volume": lambda: service.remove_volume("gw-never-was"),
        "stop": lambda: service.stop_container(made.id, timeout=5),
        "remove": lambda: service.remove_container(made.id, force=True),
    }


@pytest.mark.docker
async def test_every_call_that_is_cut_off_is_down_and_is_done_when_repeated(
    docker_daemon: DockerDaemon, echo_image: str
) -> None:
    """Each is cut before its first request arrived, after it, before the next, and so on until it gets through."""
    async with daemon_runtime(docker_daemon) as direct, relayed(docker_daemon) as (service, relay):
        made, name = await direct.create(names.container_name()), names.container_name()
        cuts = dict.fromkeys(every_call(service, made, name), 0)
        for kind, call in every_call(service, made, name).items():
            while await cut_off(relay, service, call, after=cuts[kind]):
                cuts[kind] += 1
        assert min(cuts.values()) >= 2, cuts
        assert cuts["create"] > cuts["list"] >= 3, "these ask several times"
        assert await direct.service.get_container_info(made.id) is None
        (info,) = await direct.service.list_containers(all=True, labels={names.NAME: name})
        await direct.service.remove_container(info.id)


async def cut_off(
    relay: Relay, service: AiodockerService, call: Callable[[], Awaitable[object]], *, after: int
) -> bool:
    """Cut it ``after`` so many pieces of what it says, and see that it is told; False when it got through before."""
    await relay.mend()
    assert await service.ping() is True
    relay.freeze(after=after)
    under_way, frozen = asyncio.ensure_future(call()), asyncio.ensure_future(relay.frozen.wait())
    await asyncio.wait([under_way, frozen], timeout=20, return_when=asyncio.FIRST_COMPLETED)
    frozen.cancel()
    if under_way.done():
        await under_way
        return False
    await relay.cut()
    with pytest.raises(DaemonDown):
        await asyncio.wait_for(under_way, 5)
    return True


@pytest.mark.docker
async def test_a_call_whose_connection_is_cut_off_while_it_is_made_is_down(docker_daemon: DockerDaemon) -> None:
    """In the middle of the handshake too, which must not be taken for a refusal. Only ping answers: False."""
    async with relayed(docker_daemon) as (service, relay):
        for after in range(3):
            for call in (service.list_volumes, service.ping):
                await relay.cut()
                await relay.mend()
                relay.freeze(after=after)
                under_way = asyncio.create_task(outcome(call))
                await asyncio.wait_for(relay.frozen.wait(), 20)
                await relay.cut()
                said = await asyncio.wait_for(under_way, 5)
                assert said is False if call == service.ping else isinstance(said, DaemonDown)
                await relay.mend()
                assert isinstance(await call(), list | bool), "repeated, it is answered"
                assert await service.ping() is True


async def outcome(call: Callable[[], Awaitable[object]]) -> object:
    try:
        return await call()
    except DockerError as error:
        return error


@pytest.mark.docker
async def test_events_go_on_wherever_their_beginning_is_cut_off(docker_daemon: DockerDaemon, echo_image: str) -> None:
    """In the handshake, in the question for the daemon's time, in the subscription."""
    async with daemon_runtime(docker_daemon) as direct, relayed(docker_daemon) as (service, relay):
        dead = await direct.end_with(names.container_name(), 0)
        assert await service.ping() is True
        for after in range(4):
            await relay.cut()
            await relay.mend()
            relay.freeze(after=after)
            found = asyncio.create_task(told(service, dead.name))
            await asyncio.wait_for(relay.frozen.wait(), 20)
            await relay.cut()
            await relay.mend()
            await asyncio.wait_for(found, 20)


async def told(service: AiodockerService, name: str) -> None:
    """Return when its death was told, at once if the daemon remembers it."""
    async with aclosing(service.events(past=True)) as events:  # type: ignore[type-var]  # a generator, which the contract leaves open
        async for event in events:
            if event.name == name:
                return


@pytest.mark.docker
async def test_a_daemon_that_is_away_answers_every_call_with_down(docker_daemon: DockerDaemon, name: str) -> None:
    async with relayed(docker_daemon) as (service, relay):
        assert await service.ping() is True
        await relay.cut()
        assert await service.ping() is False
        for call in (
            service.create_container(name, "image"),
            service.start_container(name),
            service.stop_container(name),
            service.remove_container(name),
            service.get_container_info(name),
            service.list_containers(),
            service.list_volumes(),
            service.logs(name),
            service.remove_volume(name),
        ):
            with pytest.raises(DaemonDown):
                await call


@pytest.mark.docker
async def test_events_go_on_after_the_daemon_was_away(docker_daemon: DockerDaemon, echo_image: str) -> None:
    """aiodocker's own subscription ends silently when its connection does."""
    async with daemon_runtime(docker_daemon) as direct, relayed(docker_daemon) as (service, relay):
        seen: list[str] = []

        async def follow() -> None:
            async for event in service.events():
                seen.append(event.name)

        follower = asyncio.create_task(follow())
        try:
            for _ in range(2):
                before = len(seen)
                async with asyncio.timeout(30):
                    while len(seen) == before:
                        await direct.end_with(names.container_name(), 0)
                        await asyncio.sleep(0.2)
                await relay.cut()
                await relay.mend()
        finally:
            follower.cancel()
            await asyncio.wait([follower])
        assert len(seen) == len(set(seen)), "what was told before the cut is not told again"
