"""What the tests of local containers ask of them, and how they look at processes, files and records."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import psutil

from docker.local import LocalService, marked
from docker.local_record import Identity, Record, Registry
from docker.service import ContainerInfo, ContainerState, Volume


async def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "it never became true"
        await asyncio.sleep(0.02)


async def info_of(service: LocalService, name: str) -> ContainerInfo:
    info = await service.get_container_info(name)
    assert info is not None
    return info


async def run(service: LocalService, *command: str, volumes: tuple[Volume, ...] = (), name: str = "one") -> list[str]:
    """What a command says in a container of its own, which is removed."""
    deaths = service.events()
    await service.create_container(name, "echo", command=command, volumes=volumes)
    await service.start_container(name)
    await asyncio.wait_for(anext(deaths), 20)
    said = await service.logs(name)
    await service.remove_container(name)
    return said


async def health(service: LocalService, name: str) -> int:
    """The status of the echo agent once it listens; the address is read anew for each try."""
    for _ in range(500):
        info = await info_of(service, name)
        assert info.address is not None, await service.logs(name)
        try:
            async with httpx.AsyncClient(timeout=2) as client:
                return (await client.get(f"http://127.0.0.1:{info.address.port}/global/health")).status_code
        except httpx.TransportError:
            await asyncio.sleep(0.02)
    raise AssertionError(f"{name} never answered")


def processes_of(state: Path, name: str) -> list[psutil.Process]:
    """All processes of a container, however far they went."""
    known = Registry(state / "registry").find(name)
    assert known is not None
    return marked([known])


def touch(*path: str) -> None:
    Path(*path).touch()


def exists(path: str) -> bool:
    return os.path.exists(path)


def contents(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


def record(name: str, owner: Identity, **more: object) -> Record:
    """A record as a gateway process left it."""
    made: Record = msgspec.structs.replace(
        Record(
            id=f"id-{name}",
            name=name,
            image="echo",
            labels={"session": "s-1"},
            volumes=(),
            home="/nowhere",
            owner=owner,
            state=ContainerState.RUNNING,
            created_at=datetime.now(UTC),
        ),
        **more,
    )
    return made
