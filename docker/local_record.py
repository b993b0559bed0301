"""What the local runtime remembers of each container: one JSON file a name, so that a crash leaves a trace.

Several gateway processes may share the directory. A file is replaced whole, never edited, and holds no secret: the
environment of a container stays in the memory of the process that was given it.
"""

import asyncio
import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from docker.errors import DaemonFailed, VolumeInUse
from docker.local_child import HOST
from docker.service import Address, ContainerEvent, ContainerInfo, ContainerState


class Identity(msgspec.Struct, frozen=True):
    """One process for good: a pid alone is used again, a pid and its start time are not."""

    pid: int
    started: float  # seconds since 1970, as psutil reads it


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One container as last written by the gateway process that owns it."""

    id: str
    name: str
    image: str
    labels: dict[str, str]
    volumes: tuple[str, ...]  # names
    home: str  # with the name, the mark that all its processes carry in their environment
    owner: Identity
    state: ContainerState
    created_at: datetime
    child: Identity | None = None
    port: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None


class Registry:
    """The records of one state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, record: Record) -> bool:
        """Write a new one; False when the name is taken, by whichever process."""
        beside = self._beside(record)
        try:
            os.link(beside, self._path(record.name))
        except FileExistsError:
            return False
        finally:
            beside.unlink()
        return True

    def put(self, record: Record) -> None:
        self._beside(record).replace(self._path(record.name))

    def find(self, id_or_name: str) -> Record | None:
        named = self._read(self._path(id_or_name)) if "/" not in id_or_name else None
        return named or next((record for record in self.all() if record.id == id_or_name), None)

    def all(self) -> list[Record]:
        """Oldest first."""
        records = [self._read(path) for path in self._directory.glob("*.json")]
        return sorted((record for record in records if record is not None), key=lambda record: record.created_at)

    def demand_unused(self, volume: str) -> None:
        """Raises VolumeInUse while a container, running or not, has it."""
        users = [record.name for record in self.all() if volume in record.volumes]
        if users:
            raise VolumeInUse(f"Volume {volume} is in use by {', '.join(users)}.")

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _beside(self, record: Record) -> Path:
        beside = self._directory / f"{record.name}.{secrets.token_hex(4)}.new"
        beside.write_bytes(msgspec.json.encode(record))
        return beside

    @staticmethod
    def _read(path: Path) -> Record | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise DaemonFailed(f"{path} is not a record of the local runtime: {error}.") from error


def info(record: Record, running: bool) -> ContainerInfo:
    """What is true of it now; ``running`` is what its process says, which a record cannot know."""
    lost = record.state is ContainerState.RUNNING and not running
    return ContainerInfo(
        id=record.id,
        name=record.name,
        image=record.image,
        state=ContainerState.EXITED if lost else record.state,
        labels=record.labels,
        address=Address(HOST, record.port) if running and record.port is not None else None,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        exit_code=record.exit_code,
    )


def death(record: Record) -> ContainerEvent:
    """Its time is the record's ``finished_at`` exactly, so that two who see the one fact name it alike."""
    moment = record.finished_at or record.created_at
    return ContainerEvent(
        container_id=record.id,
        name=record.name,
        kind="die",
        at_ns=(int(moment.timestamp()) * 1_000_000 + moment.microsecond) * 1000,
        exit_code=record.exit_code,
        labels=record.labels,
    )


class Deaths:
    """One reader of ``events``: it misses nothing that happens after it was made."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()

    def tell(self, event: ContainerEvent | None) -> None:
        """None: the service has closed and the iteration ends."""
        self._queue.put_nowait(event)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ContainerEvent:
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        return event
