"""LocalService: sessions as child processes, for a machine without Docker. For trying out: it isolates nobody.

An image is a name for a command line. A container is a process group with its own HOME, workspace and port on
127.0.0.1, an environment of what it was given and nothing of ours, and, when we are root, an unprivileged user. All its
processes carry its name and HOME in their environment, so that they are found wherever they went, also by the next
gateway: containers do not outlive the gateway, and what a killed one left running is ended by the next start and listed
as exited. Disk, users and records are in ``docker/local_places.py`` and ``docker/local_record.py``.
"""

import asyncio
import os
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet, WeakValueDictionary

import msgspec
import psutil

from docker.errors import ContainerGone, ContainerRunning, DaemonDown, DaemonFailed, ImageMissing, NameTaken
from docker.local_child import HOST, Child, free_port, is_free, last_lines, older
from docker.local_places import SEARCH_PATH, UNPRIVILEGED, Places, volumes_alone
from docker.local_record import Deaths, Identity, Record, Registry, death, info
from docker.service import Capability, ContainerEvent, ContainerInfo, ContainerState, Mount, Volume, VolumeInfo

ECHO = Path(__file__).with_name("agent") / "echo.py"
ECHO_COMMAND = ("{python}", "-I", str(ECHO), "--host", "{host}", "--port", "{port}")
FALLBACK = Path("/var/lib/session-gateway")
NAME_RULE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # Docker's own, for containers and volumes
PORT_RACE_SECONDS = 10.0  # a process that ends sooner, its port now held by another, lost a race for the port
PORT_ATTEMPTS = 3
POLL_SECONDS = 0.05
KILL_SECONDS = 5.0  # from SIGKILL to the end of a process, on a machine that is busy
LEAVE_SECONDS = 2  # from SIGTERM to SIGKILL when we leave, and for what a killed gateway left behind


class Launch(msgspec.Struct, frozen=True):
    """What starting a container takes and its record must not hold."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


class LocalService:
    """DockerService over child processes.

    ``images`` maps a name to a command line in which ``{python}``, ``{host}`` and ``{port}`` are filled in. ``user`` is
    the uid that containers run as when we are root; ``fallback`` is where their directories go when that user cannot
    reach ``state_dir``. Several gateway processes may share a ``state_dir``: each sees and may stop all containers, and
    ends those that it started.
    """

    runtime = "local"
    capabilities = frozenset({Capability.EXIT_CODE})

    def __init__(
        self,
        state_dir: Path,
        images: Mapping[str, tuple[str, ...]],
        *,
        user: int = UNPRIVILEGED,
        search_path: str = SEARCH_PATH,
        fallback: Path = FALLBACK,
    ) -> None:
        self._state_dir, self._images, self._fallback = state_dir, dict(images), fallback
        self._user = user if os.geteuid() == 0 else None
        self._search_path = search_path
        self._owner = Identity(0, 0.0)  # nobody until it is open
        self._places: Places | None = None
        self._registry = Registry(state_dir)
        self._launches: dict[str, Launch] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._readers: WeakSet[Deaths] = WeakSet()

    async def __aenter__(self) -> Self:
        places = await asyncio.to_thread(Places.prepare, self._state_dir, self._user, self._fallback)
        self._registry, self._owner = Registry(places.registry), identity(os.getpid())
        await self._end_leftovers()
        self._places = places
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stops = (self.stop_container(name, LEAVE_SECONDS) for name in tuple(self._watches))
        outcomes = await asyncio.gather(*stops, return_exceptions=True)
        self._places = None
        for reader in self._readers:
            reader.tell(None)
        for failure in (outcome for outcome in outcomes if outcome is not None):
            raise failure

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
        """Create, not start. ``port`` is not used: each process serves on a free one, filled in for ``{port}``."""
        places, named = self._open(), volumes_alone(volumes)
        for word in (name, *(volume.name for volume in named)):
            if not NAME_RULE.fullmatch(word):
                raise DaemonFailed(f"{word!r} is not a name for a container or volume: letters, digits, _ . and -.")
        if image not in self._images:
            raise ImageMissing(f"There is no local image {image!r}; there are: {', '.join(sorted(self._images))}.")
        words = await asyncio.to_thread(places.command, command or self._images[image])  # before anything is made
        known = self._registry.find(name)
        if known is None:
            known = self._new_record(places, name, image, labels, named)
        if known.labels != dict(labels):
            raise NameTaken(f"A container named {name} exists with other labels.")
        if name not in self._launches:
            own = {"HOSTNAME": name} | {word: str(path) for word, path in places.mounts(name, named).items()}
            surroundings = {"PATH": self._search_path, "LANG": "C.UTF-8", **environment, **own}
            self._launches[name] = Launch(words, surroundings)
        return info(known, is_running(known))

    def _new_record(
        self, places: Places, name: str, image: str, labels: Mapping[str, str], volumes: tuple[Volume, ...]
    ) -> Record:
        """The record of that name: the one just made, or the one that another process made first."""
        record = Record(
            id=secrets.token_hex(32),
            name=name,
            image=image,
            labels=dict(labels),
            volumes=tuple(volume.name for volume in volumes),
            home=str(places.mounts(name, volumes)["HOME"]),
            owner=self._owner,
            state=ContainerState.CREATED,
            created_at=datetime.now(UTC),
        )
        return record if self._registry.add(record) else self._known(name)

    async def start_container(self, container_id: str) -> None:
        record = self._known(container_id)
        async with self._lock(record.name):
            record = self._known(container_id)
            if not is_running(record):
                self._launch(record)

    def _launch(self, record: Record) -> None:
        launch = self._launches.get(record.name)
        if launch is None:
            raise DaemonFailed(f"{record.name} was created by another gateway process; create it here to start it.")
        child, record = self._spawn(record, launch)
        self._watches[record.name] = asyncio.create_task(
            self._watch(record, launch, child), name=f"local-{record.name}"
        )

    def _spawn(self, record: Record, launch: Launch) -> tuple[Child, Record]:
        port = free_port()
        filled = tuple(word.replace("{host}", HOST).replace("{port}", str(port)) for word in launch.command)
        child = Child.start(filled, launch.environment, user=self._user, log=self._log(record.name))
        changes = {"child": identity(child.pid), "owner": self._owner, "port": port, "started_at": datetime.now(UTC)}
        cleared = {"state": ContainerState.RUNNING, "finished_at": None, "exit_code": None}
        record = msgspec.structs.replace(record, **changes, **cleared)
        self._registry.put(record)
        return child, record

    async def _watch(self, record: Record, launch: Launch, child: Child) -> None:
        """Follow one container to its end, write that down, and tell the readers."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            code = await child.end()
            await end_marked([record], grace=0)
            if attempt == PORT_ATTEMPTS or not lost_port(record, code):
                break
            try:
                child, record = self._spawn(record, launch)
            except DaemonFailed:
                break  # the end that was seen stands
        changes = {"state": ContainerState.EXITED, "finished_at": datetime.now(UTC), "exit_code": code}
        ended = msgspec.structs.replace(record, **changes)
        self._registry.put(ended)
        del self._watches[record.name]
        for reader in self._readers:
            reader.tell(death(ended))

    async def stop_container(self, container_id: str, timeout: int = 10) -> None:
        self._open()
        record = self._registry.find(container_id)
        if record is None:
            return
        async with self._lock(record.name):
            await self._stop(record.name, (signal.SIGTERM, timeout), (signal.SIGKILL, KILL_SECONDS))

    async def _stop(self, name: str, *steps: tuple[signal.Signals, float]) -> None:
        for number, patience in steps:
            record = self._registry.find(name)
            if record is None or not is_running(record):
                return
            signal_group(record, number)
            if await self._has_ended(record, patience):
                return
        raise DaemonFailed(f"{name} did not end {KILL_SECONDS:g} s after SIGKILL.")

    async def _has_ended(self, record: Record, patience: float) -> bool:
        watch = self._watches.get(record.name)
        if watch is not None:
            return bool((await asyncio.wait([watch], timeout=patience))[0])
        deadline = time.monotonic() + patience  # another gateway process follows it, and writes down its end
        while (now := self._registry.find(record.name)) is not None and is_running(now):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def remove_container(self, container_id: str, force: bool = False) -> None:
        places = self._open()
        record = self._registry.find(container_id)
        if record is None:
            return
        async with self._lock(record.name):
            record = self._registry.find(container_id)  # it may be gone, and its name be given anew
            if record is None:
                return
            if is_running(record) and not force:
                raise ContainerRunning(f"{record.name} is running; stop it first, or remove it by force.")
            await to_its_end(self._discard(places, record.name))

    async def _discard(self, places: Places, name: str) -> None:
        await self._stop(name, (signal.SIGKILL, KILL_SECONDS))
        await asyncio.to_thread(places.discard, places.containers / name)
        for path in (self._log(name), older(self._log(name))):
            path.unlink(missing_ok=True)
        self._launches.pop(name, None)
        self._registry.remove(name)

    async def get_container_info(self, container_id: str) -> ContainerInfo | None:
        self._open()
        record = self._registry.find(container_id)
        return None if record is None else info(record, is_running(record))

    async def list_containers(self, all: bool = False, labels: Mapping[str, str] = {}) -> list[ContainerInfo]:
        self._open()
        matching = [record for record in self._registry.all() if labels.items() <= record.labels.items()]
        return [info(record, is_running(record)) for record in matching if all or is_running(record)]

    async def list_volumes(self, labels: Mapping[str, str] = {}) -> list[VolumeInfo]:
        kept = await asyncio.to_thread(self._open().kept)
        return [volume for volume in kept if labels.items() <= volume.labels.items()]

    async def remove_volume(self, name: str) -> None:
        """Raises VolumeInUse while a container, running or not, has it."""
        places = self._open()
        self._registry.demand_unused(name)
        if NAME_RULE.fullmatch(name):
            await to_its_end(asyncio.to_thread(places.discard_volume, name))

    async def logs(self, container_id: str, tail: int = 50) -> list[str]:
        return await asyncio.to_thread(last_lines, self._log(self._known(container_id).name), tail)

    def events(self, past: bool = False) -> AsyncIterator[ContainerEvent]:
        """Deaths of the containers that this process started; ends when the service closes."""
        reader = Deaths()
        self._readers.add(reader)
        return reader

    async def ping(self) -> bool:
        return self._places is not None

    def _open(self) -> Places:
        if self._places is None:
            raise DaemonDown("The local runtime is not open.")
        return self._places

    def _known(self, container_id: str) -> Record:
        self._open()
        record = self._registry.find(container_id)
        if record is None:
            raise ContainerGone(f"There is no container {container_id}.")
        return record

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _log(self, name: str) -> Path:
        return self._state_dir / "logs" / name

    async def _end_leftovers(self) -> None:
        """End what a gateway process that is gone left running; its end is when we saw to it, its exit code unknown."""
        orphans = [record for record in self._registry.all() if process_of(record.owner) is None]
        await end_marked(orphans, grace=LEAVE_SECONDS)
        for record in orphans:
            if record.state is ContainerState.RUNNING:
                ended = {"state": ContainerState.EXITED, "finished_at": datetime.now(UTC)}
                self._registry.put(msgspec.structs.replace(record, **ended))


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Neither a kill nor a thread that removes files can be taken back: who cancels waits for the end of it."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def identity(pid: int) -> Identity:
    """Raises DaemonFailed when there is no such process; a child that has ended but is not waited for still is one."""
    try:
        return Identity(pid, psutil.Process(pid).create_time())
    except psutil.Error as error:
        raise DaemonFailed(f"Process {pid} cannot be read: {error}.") from error


def process_of(identity: Identity | None) -> psutil.Process | None:
    """The process itself while it lives: not a later one with its pid, and not a zombie."""
    if identity is None:
        return None
    try:
        process = psutil.Process(identity.pid)
        same = abs(process.create_time() - identity.started) < 0.5
        return process if same and is_alive(process) else None
    except psutil.NoSuchProcess:
        return None


def is_running(record: Record) -> bool:
    """Until its owner has written down its end; where the owner is gone, until the process ends."""
    alive = process_of(record.owner) is not None or process_of(record.child) is not None
    return record.state is ContainerState.RUNNING and alive


def lost_port(record: Record, code: int) -> bool:
    """Whether it ended, not by a signal, because another process took its port before it could."""
    age = datetime.now(UTC) - (record.started_at or record.created_at)
    early = age.total_seconds() < PORT_RACE_SECONDS
    return 0 < code < 128 and early and record.port is not None and not is_free(record.port)


def signal_group(record: Record, number: signal.Signals) -> None:
    """Signal the container's process group; its leader must be the one that was recorded."""
    process = process_of(record.child)
    if process is not None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return


def marked(records: Iterable[Record]) -> list[psutil.Process]:
    """All processes of these containers, also those that left the process group (terminals do)."""
    marks = {(record.name, record.home) for record in records}
    found = []
    for pid in psutil.pids() if marks else ():
        try:
            process = psutil.Process(pid)
            environment = process.environ()
        except psutil.Error:
            continue  # ended meanwhile, or another user's and therefore not one of ours
        if (environment.get("HOSTNAME"), environment.get("HOME")) in marks:
            found.append(process)
    return found


async def end_marked(records: Iterable[Record], grace: float) -> None:
    """SIGTERM, then SIGKILL after ``grace`` seconds (at once for 0). psutil signals no later process with their pid."""
    processes = await asyncio.to_thread(marked, records)
    steps = [(signal.SIGTERM, grace)] if grace else []
    for number, patience in (*steps, (signal.SIGKILL, KILL_SECONDS)):
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            processes = [one for one in processes if is_alive(one)]
            if not processes:
                return
            await asyncio.sleep(POLL_SECONDS)


def is_alive(process: psutil.Process) -> bool:
    """False also for a zombie, which another process may be slow to wait for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
