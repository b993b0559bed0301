"""The runtimes that ``test_docker_service`` runs over, each with the few things that differ between them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
import pytest

from docker import names
from docker.aiodocker_service import AiodockerService
from docker.blocking import BlockingDockerService
from docker.image import ECHO_IMAGE
from docker.local import ECHO_COMMAND
from docker.mock import MockDockerService
from docker.service import ContainerInfo, DockerService, Mount, Volume
from docker.settings import daemon_url
from tests.contracts.threads import ThreadedService
from tests.docker.local_factory import local_service
from tests.docker.relay import Relay
from tests.docker_fixtures import DockerDaemon


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    """Wait for a condition, asked again and again; TimeoutError after ``seconds``."""
    async with asyncio.timeout(seconds):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.02)


class Runtime(Protocol):
    """A service and what a test may do to it."""

    owner: str

    @property
    def service(self) -> DockerService:
        """The runtime itself."""
        ...

    async def create(self, name: str, **more: object) -> ContainerInfo:
        """A container that serves until it is told to end, labelled with ``owner``."""
        ...

    async def deaf(self, name: str) -> ContainerInfo:
        """A running container that ignores SIGTERM."""
        ...

    async def end_with(self, name: str, code: int) -> ContainerInfo:
        """A container that was started and ends by itself."""
        ...

    async def keep(self, volume: Volume, text: str) -> None:
        """Let a container write ``text`` into the volume, and remove the container."""
        ...

    async def kept(self, volume: Volume) -> str:
        """What another container reads there."""
        ...


class MockRuntime:
    """The shipped fake; ``through``: the door by which it is called, itself when none is given."""

    def __init__(self, mock: MockDockerService | None = None, through: DockerService | None = None) -> None:
        self.mock = mock or MockDockerService(images={ECHO_IMAGE})
        self.service: DockerService = through or self.mock
        self.owner = "mock"

    async def create(self, name: str, **more: object) -> ContainerInfo:
        return await create(self.service, name, self.owner, more)

    async def deaf(self, name: str) -> ContainerInfo:
        info = await self.create(name)
        self.mock.ignore_sigterm(name)
        await self.service.start_container(info.id)
        return info

    async def end_with(self, name: str, code: int) -> ContainerInfo:
        info = await self.create(name)
        await self.service.start_container(info.id)
        self.mock.die(name, code)
        return info

    async def keep(self, volume: Volume, text: str) -> None:
        info = await self.create(names.container_name(), volumes=(volume,))
        self.mock.volumes[volume.name]["note"] = text.encode()
        await self.service.remove_container(info.id, force=True)

    async def kept(self, volume: Volume) -> str:
        await self.create(names.container_name(), volumes=(volume,))
        return self.mock.volumes[volume.name].get("note", b"").decode()


class ProcessRuntime:
    """A runtime whose containers really run something: the daemon, or local processes."""

    def __init__(self, service: DockerService, owner: str) -> None:
        self.service = service
        self.owner = owner

    async def create(self, name: str, **more: object) -> ContainerInfo:
        return await create(self.service, name, self.owner, more)

    async def deaf(self, name: str) -> ContainerInfo:
        info = await self._run(name, "trap '' TERM; echo deaf; while :; do sleep 1; done")

        async def is_deaf() -> bool:
            return await self.service.logs(info.id) == ["deaf"]

        await until(is_deaf)
        return info

    async def end_with(self, name: str, code: int) -> ContainerInfo:
        return await self._run(name, f"echo ending; exit {code}")

    async def keep(self, volume: Volume, text: str) -> None:
        await self._read(volume, f"echo '{text}' > \"$HOME/note\"")

    async def kept(self, volume: Volume) -> str:
        return await self._read(volume, 'cat "$HOME/note"')

    async def ran(self, *command: str, volumes: tuple[Mount, ...] = ()) -> tuple[ContainerInfo, list[str]]:
        """A command in a container to its end: how that ended, and what it printed. The container stays."""
        made = await self.create(names.container_name(), command=command, volumes=volumes)
        await self.service.start_container(made.id)
        await until(lambda: self._ended(made.id))
        info = await self.service.get_container_info(made.id)
        assert info is not None
        return info, await self.service.logs(made.id)

    async def said(self, *command: str, volumes: tuple[Mount, ...] = ()) -> list[str]:
        """What a command printed; its container is removed."""
        info, lines = await self.ran(*command, volumes=volumes)
        await self.service.remove_container(info.id)
        return lines

    async def _read(self, volume: Volume, script: str) -> str:
        return "\n".join(await self.said("/bin/sh", "-c", script, volumes=(volume,)))

    async def _ended(self, container_id: str) -> bool:
        info = await self.service.get_container_info(container_id)
        return info is not None and info.state == "exited"

    async def _run(self, name: str, script: str) -> ContainerInfo:
        info = await self.create(name, command=("/bin/sh", "-c", script))
        await self.service.start_container(info.id)
        return info


async def create(service: DockerService, name: str, owner: str, more: Mapping[str, object]) -> ContainerInfo:
    """Create with the label by which everything of a test is found again."""
    labels = names.labels(owner, "s-1", name)
    given = {"image": ECHO_IMAGE, "labels": labels} | dict(more)
    maker: Callable[..., Awaitable[ContainerInfo]] = service.create_container
    return await maker(name, **given)


@asynccontextmanager
async def mock_runtime() -> AsyncIterator[MockRuntime]:
    """In memory."""
    yield MockRuntime()


@asynccontextmanager
async def local_runtime(folder: Path) -> AsyncIterator[ProcessRuntime]:
    """Child processes under ``folder``."""
    async with local_service(folder, {ECHO_IMAGE: ECHO_COMMAND}) as service:
        yield ProcessRuntime(service, "local")


@asynccontextmanager
async def daemon_runtime(daemon: DockerDaemon) -> AsyncIterator[ProcessRuntime]:
    """The real daemon; what a test made is removed after it."""
    owner = f"{daemon.owner}-{secrets.token_hex(4)}"
    async with AiodockerService(daemon.settings) as service:
        try:
            yield ProcessRuntime(service, owner)
        finally:
            for info in await service.list_containers(all=True, labels=names.owned_by(owner)):
                await service.remove_container(info.id, force=True)


def through_threads(service: Callable[[], DockerService]) -> ThreadedService:
    """The blocking door to what ``service`` makes, entered and left from plain threads."""
    return ThreadedService(lambda: BlockingDockerService(service()))


@asynccontextmanager
async def blocking_mock() -> AsyncIterator[MockRuntime]:
    """In memory, from plain threads."""
    mock = MockDockerService(images={ECHO_IMAGE})
    async with through_threads(lambda: mock) as threaded:
        yield MockRuntime(mock, threaded)


@asynccontextmanager
async def blocking_local(folder: Path) -> AsyncIterator[ProcessRuntime]:
    """Child processes, from plain threads."""
    async with through_threads(lambda: local_service(folder, {ECHO_IMAGE: ECHO_COMMAND})) as threaded:
        yield ProcessRuntime(threaded, "local")


@asynccontextmanager
async def blocking_daemon(daemon: DockerDaemon) -> AsyncIterator[ProcessRuntime]:
    """The real daemon, from plain threads; what a test made is removed after it."""
    door = through_threads(lambda: AiodockerService(daemon.settings))
    async with daemon_runtime(daemon) as direct, door as threaded:
        yield ProcessRuntime(threaded, direct.owner)


def demand_cancelling(runtime: Runtime) -> None:
    """Skip where a test cannot cancel a call: the door itself does it in ``test_docker_interrupted.py``."""
    if isinstance(runtime.service, ThreadedService):
        pytest.skip("asyncio.to_thread cannot be cancelled: its thread goes on with the call, beside the next one")


def over_every_runtime(metafunc: pytest.Metafunc) -> None:
    """Give a test's ``runtime`` its values; the door to a real daemon is tried by tests marked ``each_call`` only."""
    if "runtime" in metafunc.fixturenames:
        of_daemons = ["daemon"]
        if metafunc.definition.get_closest_marker("each_call") is not None:
            of_daemons.append("blocking-daemon")
        marked = [pytest.param(name, marks=pytest.mark.docker) for name in of_daemons]
        metafunc.parametrize("runtime", ["mock", "local", "blocking-mock", "blocking-local", *marked], indirect=True)


def opened(request: pytest.FixtureRequest, folder: Path) -> AbstractAsyncContextManager[Runtime]:
    """The runtime that ``request.param`` names."""
    if request.param in ("daemon", "blocking-daemon"):
        request.getfixturevalue("echo_image")
        daemon = request.getfixturevalue("docker_daemon")
        return daemon_runtime(daemon) if request.param == "daemon" else blocking_daemon(daemon)
    if request.param in ("local", "blocking-local"):
        return local_runtime(folder) if request.param == "local" else blocking_local(folder)
    return mock_runtime() if request.param == "mock" else blocking_mock()


@asynccontextmanager
async def relayed(daemon: DockerDaemon, call_timeout: float = 60.0) -> AsyncIterator[tuple[AiodockerService, Relay]]:
    """The real daemon behind a relay that can be cut or frozen."""
    target = urlsplit(daemon_url(daemon.settings))
    async with Relay(target.hostname or "", target.port or 0) as relay:
        settings = msgspec.structs.replace(
            daemon.settings, docker_host=f"tcp://127.0.0.1:{relay.port}", docker_call_timeout=call_timeout
        )
        async with AiodockerService(settings) as service:
            yield service, relay
