"""What ``docker/service.py`` promises while the runtime is away: every call is bounded in time and says DaemonDown."""

import asyncio

import pytest

from docker import names
from docker.errors import DaemonDown
from tests.contracts.runtimes import daemon_runtime, mock_runtime, relayed, until
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
