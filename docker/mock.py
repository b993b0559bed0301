"""A container runtime in memory that keeps the whole contract, and can be told to fail, lag, and let containers die.

Product code: shipped for whoever tests against the gateway, held to ``tests/contracts/test_docker_service.py`` like the
real ones. Deterministic: the clock and the sleep are given, ids and ports are counted. Nothing runs in its containers;
``address_of`` can put a real local server behind one.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

from docker.errors import (
    ContainerGone,
    ContainerRunning,
    DaemonDown,
    DaemonFailed,
    HostDirRefused,
    ImageMissing,
    NameTaken,
    VolumeInUse,
)
from docker.service import (
    Address,
    Capability,
    ContainerEvent,
    ContainerInfo,
    ContainerState,
    HostDir,
    Mount,
    Volume,
    VolumeInfo,
)

Call = Literal["create", "start", "stop", "remove", "inspect", "list", "list_volumes", "remove_volume", "logs", "ping"]

_TERMINATED = 143  # 128 + SIGTERM
_KILLED = 137  # 128 + SIGKILL
_FIRST_PORT = 40_000
_ALIVE = (ContainerState.RUNNING, ContainerState.PAUSED)


class Faults:
    """How the calls of a runtime in memory can be made to fail and to lag."""

    def __init__(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        self.calls: list[tuple[Call, str]] = []  # every call that reached the runtime, with its subject
        self._sleep = sleep
        self._faults: defaultdict[Call, list[Exception]] = defaultdict(list)
        self._lags: dict[Call, float] = {}
        self._down = False

    def fail_next(self, call: Call, error: Exception, times: int = 1) -> None:
        """Let the next ``times`` calls of this kind raise ``error`` and do nothing."""
        self._faults[call] += [error] * times

    def lag(self, call: Call, seconds: float) -> None:
        """Let every call of this kind take that long before it does anything; 0 ends it."""
        self._lags[call] = seconds

    def go_down(self) -> None:
        """As if the daemon had ended: every call raises DaemonDown, calls that lag included."""
        self._down = True

    def come_back(self) -> None:
        """End what ``go_down`` began; the containers are as they were."""
        self._down = False

    async def _arrive(self, call: Call, subject: str) -> None:
        """What every call goes through: latency, then faults."""
        await self._sleep(self._lags.get(call, 0))
        if self._down:
            raise DaemonDown("The mock daemon is down.")
        if self._faults[call]:
            raise self._faults[call].pop(0)
        self.calls.append((call, subject))


class Follower:
    """One reader of a mock's events; told from any thread, since a blocking service has its loop in another."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[ContainerEvent | Exception] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None  # known from the first step on

    def tell(self, told: ContainerEvent | Exception) -> None:
        """What the reader gets next; an exception ends its stream."""
        if self._loop is None:
            self._told.put_nowait(told)
        else:
            self._loop.call_soon_threadsafe(self._told.put_nowait, told)

    async def next(self) -> ContainerEvent:
        """Waits for it."""
        self._loop = asyncio.get_running_loop()
        told = await self._told.get()
        if isinstance(told, Exception):
            raise told
        return told


class Containers(Faults):
    """What there is, what containers do by themselves, and what a test may ask about them."""

    def __init__(self, sleep: Callable[[float], Awaitable[object]], now: Callable[[], datetime]) -> None:
        super().__init__(sleep)
        self._now = now
        self._containers: dict[str, ContainerInfo] = {}  # by id
        self._environments: dict[str, dict[str, str]] = {}
        self._folders: dict[str, dict[str, str]] = {}
        self._lines: defaultdict[str, list[str]] = defaultdict(list)
        self._deaf: set[str] = set()
        self._frozen: dict[str, Address | None] = {}  # where a paused container was reached
        self._followers: list[Follower] = []
        self._silent = False

    def die(self, name: str, exit_code: int) -> None:
        """Let a running container end by itself."""
        self._end(name, exit_code)

    def oom(self, name: str) -> None:
        """Let the kernel kill a running container for its memory: an ``oom`` event, then its death with 137."""
        info = self._living(name)
        self._tell(info, "oom", None)
        self._end(name, _KILLED, oom_killed=True)

    def oom_child(self, name: str) -> None:
        """Let the kernel kill a child in a container that lives on: an ``oom`` event, and a mark that stays."""
        self._tell(self._change(self._living(name), oom_killed=True), "oom", None)

    def lose_events(self, error: Exception | None = None) -> None:
        """Let the events stream be lost: what happens is told to nobody until ``find_events``, and never later.

        Whoever follows now gets ``error``, when it is given; else hears nothing, as over a connection that is cut.
        """
        self._silent = True
        if error is not None:
            for follower in self._followers:
                follower.tell(error)

    def find_events(self) -> None:
        """End what ``lose_events`` began."""
        self._silent = False

    def pause(self, name: str) -> None:
        """Freeze a running container."""
        info = self._living(name)
        if info.state is ContainerState.RUNNING:
            self._frozen[info.id] = info.address
            self._change(info, state=ContainerState.PAUSED, address=None)

    def unpause(self, name: str) -> None:
        """Let a frozen container go on."""
        info = self._living(name)
        if info.state is ContainerState.PAUSED:
            self._change(info, state=ContainerState.RUNNING, address=self._frozen.pop(info.id))

    def ignore_sigterm(self, name: str) -> None:
        """Let a container end at the end of its stop time-out only, by SIGKILL."""
        self._deaf.add(name)

    def print_line(self, name: str, line: str) -> None:
        """Let a container write a line that ``logs`` answers."""
        self._lines[self._existing(name).id].append(line)

    def environment_of(self, name: str) -> Mapping[str, str]:
        """The environment that a container was created with."""
        return self._environments[self._existing(name).id]

    def folders_of(self, name: str) -> Mapping[str, str]:
        """The host's folders that a container was created with: where it sees them -> what they are."""
        return self._folders[self._existing(name).id]

    def _find(self, container: str) -> ContainerInfo | None:
        by_id = self._containers.get(container)
        return by_id or next((info for info in self._containers.values() if info.name == container), None)

    def _existing(self, container: str) -> ContainerInfo:
        info = self._find(container)
        if info is None:
            raise ContainerGone(f"There is no container {container}.")
        return info

    def _living(self, container: str) -> ContainerInfo:
        info = self._existing(container)
        if info.state not in _ALIVE:
            raise DaemonFailed(f"Container {container} is not running.")
        return info

    def _end(self, container: str, exit_code: int, *, oom_killed: bool = False) -> None:
        info = self._change(
            self._living(container),
            state=ContainerState.EXITED,
            address=None,
            finished_at=self._now(),
            exit_code=exit_code,
            oom_killed=oom_killed,
        )
        self._tell(info, "die", exit_code)

    def _change(self, info: ContainerInfo, **changes: object) -> ContainerInfo:
        self._containers[info.id] = changed = msgspec.structs.replace(info, **changes)
        return changed

    def _tell(self, info: ContainerInfo, kind: str, exit_code: int | None) -> None:
        event = ContainerEvent(
            container_id=info.id,
            name=info.name,
            kind=kind,
            at_ns=int(self._now().timestamp() * 1e9),
            exit_code=exit_code,
            labels=info.labels,
        )
        for follower in () if self._silent else self._followers:
            follower.tell(event)


class MockDockerService(Containers):
    """A ``DockerService`` in memory. ``images``: the names that exist; None, every name does.

    Faults: ``fail_next``, ``lag``, ``go_down`` and ``come_back``; ``lose_events`` and ``find_events``: nobody is told.
    What containers do by themselves: ``die``, ``oom``, ``oom_child``, ``print_line``; ``pause`` and ``unpause`` freeze
    one; ``ignore_sigterm`` makes it need its whole stop time-out.
    """

    runtime = "mock"
    capabilities = frozenset(
        {Capability.ADOPTION, Capability.EXIT_CODE, Capability.PAUSE, Capability.HOST_DIRS, Capability.FAULTS}
    )

    def __init__(
        self,
        *,
        images: Collection[str] | None = None,
        address_of: Callable[[str], Address] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(sleep, now)
        self.images = None if images is None else set(images)
        self._volume_labels: dict[str, dict[str, str]] = {}
        self.sees_host = True  # False: as if the daemon ran on another machine
        self.volumes: dict[str, dict[str, bytes]] = {}  # what a test puts in stays, as on a disk
        self._address_of = address_of or self._next_address
        self._mounts: dict[str, set[str]] = {}
        self._made = 0
        self._ports = _FIRST_PORT

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Containers stay, as they do on a daemon."""

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
        await self._arrive("create", name)
        existing = self._find(name)
        if existing is not None:
            if dict(existing.labels) != dict(labels):
                raise NameTaken(f"A container named {name} exists with other labels.")
            return existing
        if self.images is not None and image not in self.images:
            raise ImageMissing(f"The image {image} is not here.")
        for volume in volumes:
            if isinstance(volume, HostDir) and not self._sees(volume):
                raise HostDirRefused("The mock daemon does not see the folder.")
        named = [volume for volume in volumes if isinstance(volume, Volume)]
        for volume in named:
            if volume.name not in self.volumes:
                self.volumes[volume.name], self._volume_labels[volume.name] = {}, dict(volume.labels)
        self._made += 1
        made = ContainerInfo(
            id=f"{self._made:064x}",
            name=name,
            image=image,
            state=ContainerState.CREATED,
            labels=dict(labels),
            created_at=self._now(),
        )
        self._containers[made.id] = made
        self._environments[made.id] = dict(environment)
        self._mounts[made.id] = {volume.name for volume in named}
        self._folders[made.id] = {volume.target: volume.source for volume in volumes if isinstance(volume, HostDir)}
        return made

    async def start_container(self, container_id: str) -> None:
        await self._arrive("start", container_id)
        info = self._existing(container_id)
        if info.state not in _ALIVE:
            self._change(
                info,
                state=ContainerState.RUNNING,
                address=self._address_of(info.name),
                started_at=self._now(),
                finished_at=None,
                exit_code=None,
                oom_killed=False,
            )

    async def stop_container(self, container_id: str, timeout: int = 10) -> None:
        await self._arrive("stop", container_id)
        info = self._find(container_id)
        if info is None or info.state not in _ALIVE:
            return
        deaf = info.name in self._deaf
        if deaf:
            await self._sleep(timeout)
            info = self._find(container_id)  # it may have died, or been removed, meanwhile
        if info is not None and info.state in _ALIVE:
            self._end(container_id, _KILLED if deaf else _TERMINATED)

    async def remove_container(self, container_id: str, force: bool = False) -> None:
        await self._arrive("remove", container_id)
        info = self._find(container_id)
        if info is None:
            return
        if info.state in _ALIVE:
            if not force:
                raise ContainerRunning(f"Container {container_id} is running: stop it first or use force.")
            self._end(container_id, _KILLED)
        del self._containers[info.id]

    async def get_container_info(self, container_id: str) -> ContainerInfo | None:
        await self._arrive("inspect", container_id)
        return self._find(container_id)

    async def list_containers(self, all: bool = False, labels: Mapping[str, str] = {}) -> list[ContainerInfo]:
        await self._arrive("list", "")
        return [
            info
            for info in self._containers.values()
            if (all or info.state in _ALIVE) and labels.items() <= info.labels.items()
        ]

    async def list_volumes(self, labels: Mapping[str, str] = {}) -> list[VolumeInfo]:
        await self._arrive("list_volumes", "")
        made = [VolumeInfo(name, self._volume_labels.get(name, {})) for name in self.volumes]
        return [volume for volume in made if labels.items() <= volume.labels.items()]

    async def remove_volume(self, name: str) -> None:
        await self._arrive("remove_volume", name)
        users = [info.name for info in self._containers.values() if name in self._mounts[info.id]]
        if users:
            raise VolumeInUse(f"Volume {name} is in use by {', '.join(users)}.")
        self.volumes.pop(name, None)

    async def logs(self, container_id: str, tail: int = 50) -> list[str]:
        await self._arrive("logs", container_id)
        return self._lines[self._existing(container_id).id][-tail:] if tail else []

    def events(self, past: bool = False) -> AsyncIterator[ContainerEvent]:
        """Follows from this call on, not from the first step of the loop over it."""
        follower = Follower()
        self._followers.append(follower)
        return self._follow(follower)

    async def ping(self) -> bool:
        try:
            await self._arrive("ping", "")
        except Exception:  # whatever a test told it to fail with: ping never raises
            return False
        return True

    async def _follow(self, follower: Follower) -> AsyncIterator[ContainerEvent]:
        try:
            while True:
                yield await follower.next()
        finally:
            self._followers.remove(follower)

    def _sees(self, folder: HostDir) -> bool:
        return self.sees_host and Path(folder.source).is_dir()

    def _next_address(self, name: str) -> Address:
        """A new port at each start, as on a daemon; nothing listens there."""
        self._ports += 1
        return Address(host="127.0.0.1", port=self._ports)
