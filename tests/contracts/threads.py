"""The blocking door seen as an async service, so that the suites run over it: each call is made in a plain thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from docker.blocking import BlockingDockerService
from docker.service import ContainerEvent, ContainerInfo, Mount, VolumeInfo


class ThreadedService:
    """``DockerService`` by ``asyncio.to_thread``. A test that cancels a call leaves it at work in its thread.

    A door that was left is closed for good: what is asked after it goes through another one, to a service made anew.
    """

    def __init__(self, door: Callable[[], BlockingDockerService]) -> None:
        self._another = door
        self._door = door()
        self.runtime = self._door.runtime
        self.capabilities = self._door.capabilities

    async def __aenter__(self) -> Self:
        """The door's own ``with``, in a plain thread; one that is open already stays so."""
        await asyncio.to_thread(self._door.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        door, self._door = self._door, self._another()
        await asyncio.to_thread(door.__exit__, kind, error, trace)

    async def create_container(
        self,
        name: str,
        image: str,
        *,
        environment: Mapping[str, str] = {},
        labels: Mapping[str, str] = {},
        volumes: tuple[Mount, ...] = (),
        port: int = 4096,
        command: tuple[str, ...] | None = None,
    ) -> ContainerInfo:
        given: dict[str, Any] = {"environment": environment, "labels": labels, "volumes": volumes}
        return await asyncio.to_thread(self._door.create_container, name, image, port=port, command=command, **given)

    async def start_container(self, container_id: str) -> None:
        await asyncio.to_thread(self._door.start_container, container_id)

    async def stop_container(self, container_id: str, timeout: int = 10) -> None:
        await asyncio.to_thread(self._door.stop_container, container_id, timeout)

    async def remove_container(self, container_id: str, force: bool = False) -> None:
        await asyncio.to_thread(self._door.remove_container, container_id, force)

    async def get_container_info(self, container_id: str) -> ContainerInfo | None:
        return await asyncio.to_thread(self._door.get_container_info, container_id)

    async def list_containers(self, all: bool = False, labels: Mapping[str, str] = {}) -> list[ContainerInfo]:
        return await asyncio.to_thread(self._door.list_containers, all, labels)

    async def list_volumes(self, labels: Mapping[str, str] = {}) -> list[VolumeInfo]:
        return await asyncio.to_thread(self._door.list_volumes, labels)

    async def remove_volume(self, name: str) -> None:
        await asyncio.to_thread(self._door.remove_volume, name)

    async def logs(self, container_id: str, tail: int = 50) -> list[str]:
        return await asyncio.to_thread(self._door.logs, container_id, tail)

    async def events(self, past: bool = False) -> AsyncIterator[ContainerEvent]:
        followed = await asyncio.to_thread(self._door.events, past)
        while (event := await asyncio.to_thread(next, followed, None)) is not None:
            yield event

    async def ping(self) -> bool:
        return await asyncio.to_thread(self._door.ping)
