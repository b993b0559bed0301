"""DockerService: what a session needs of a container runtime, the whole contract on one screen.

Three implementations keep it (``aiodocker_service``, ``mock``, ``local``) and one suite holds them to it
(``tests/contracts/test_docker_service.py``). What an implementation cannot do it does not declare in
``capabilities``; what it declares, it does. This module leaves to ``docker/spec.py`` what a session's container looks
like, and to the gateway what a container means.
"""

import enum
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

import msgspec


class ContainerState(enum.StrEnum):
    """The daemon's own words (Docker Engine API, ``State.Status``)."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


class Capability(enum.StrEnum):
    """What a runtime can do beyond the calls below; the contract suite skips by these."""

    LIMITS = "limits"  # memory, CPU and process limits are enforced
    ISOLATION = "isolation"  # own file system, user and network: safe against a hostile session
    ADOPTION = "adoption"  # containers outlive the gateway and are found again by their labels
    EXIT_CODE = "exit_code"  # the exit code of a container that ended is known
    PAUSE = "pause"  # a container can be frozen
    HOST_DIRS = "host_dirs"  # a folder of the host can be mounted
    FAULTS = "faults"  # can be told to fail, lag and die (the mock)


class Address(msgspec.Struct, frozen=True):
    """Where the gateway reaches the port that the container serves on."""

    host: str
    port: int


class Volume(msgspec.Struct, frozen=True):
    """A named volume and where the container sees it; made when absent, kept until ``remove_volume``."""

    name: str
    target: str  # absolute path inside the container
    labels: Mapping[str, str] = {}


class VolumeInfo(msgspec.Struct, frozen=True):
    """A named volume that exists."""

    name: str
    labels: Mapping[str, str] = {}


class HostDir(msgspec.Struct, frozen=True):
    """A folder of the runtime's own machine, which is there already, and where the container sees it. Never removed."""

    source: str  # absolute path on that machine
    target: str


Mount = Volume | HostDir


class ContainerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of one container now, as the runtime says."""

    id: str  # the runtime's own id: 64 hex digits
    name: str
    image: str
    state: ContainerState
    labels: Mapping[str, str] = {}
    address: Address | None = None  # None unless running and published
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None  # only when it ended, and only with Capability.EXIT_CODE
    oom_killed: bool = False  # while it runs: the kernel killed a process in it; when it ended: that was its end
    # Against what sessions are asked to be now, a clause each, by runtimes with Capability.ISOLATION:
    breaches: tuple[str, ...] = ()  # it does not isolate, and must not serve
    departures: tuple[str, ...] = ()  # what else differs: a limit, or what a later release or other settings ask for


class DockerService(Protocol):
    """A container runtime. Every call is bounded in time, raises only ``docker.errors`` and may be cancelled.

    ``create_container`` is idempotent by name: a container of that name with the same labels is answered as it is (one
    that never started may be made anew), one with other labels raises ``NameTaken``. Stop and remove are idempotent: a
    container that is stopped, or gone, is what was asked for. A missing container otherwise raises ``ContainerGone``.
    """

    runtime: str  # "docker", "mock", "local": shown to people, recorded in events
    capabilities: frozenset[Capability]

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

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
        """Create, not start. ``port`` is the one served inside. Raises ImageMissing, NameTaken, DaemonDown,
        LimitsNotApplied; HostDirRefused for a folder that the runtime does not see, or without the capability."""
        ...

    async def start_container(self, container_id: str) -> None:
        """Start it; already running is success. Raises ContainerGone, DaemonDown."""
        ...

    async def stop_container(self, container_id: str, timeout: int = 10) -> None:
        """Ask it to end (SIGTERM), kill it after ``timeout`` seconds. Returns when it has ended."""
        ...

    async def remove_container(self, container_id: str, force: bool = False) -> None:
        """Remove it (its named volumes stay). A running one needs ``force``, else raises ContainerRunning."""
        ...

    async def get_container_info(self, container_id: str) -> ContainerInfo | None:
        """By id or name; None when there is none."""
        ...

    async def list_containers(self, all: bool = False, labels: Mapping[str, str] = {}) -> list[ContainerInfo]:
        """Running ones (``all``: also those that ended) that carry every one of ``labels``."""
        ...

    async def list_volumes(self, labels: Mapping[str, str] = {}) -> list[VolumeInfo]:
        """Named volumes that carry every one of ``labels``; those of their first container, which made them."""
        ...

    async def remove_volume(self, name: str) -> None:
        """Remove a named volume and what it holds; one that is gone is success. Raises VolumeInUse."""
        ...

    async def logs(self, container_id: str, tail: int = 50) -> list[str]:
        """The last ``tail`` lines of its output, oldest first."""
        ...

    def events(self, past: bool = False) -> AsyncIterator["ContainerEvent"]:
        """Deaths as they happen, until cancelled; ``past``: before, those that the runtime remembers, if it does.

        A hint: ``list_containers`` is the truth.
        """
        ...

    async def ping(self) -> bool:
        """True when the runtime answers. Never raises."""
        ...


class ContainerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a container by itself."""

    container_id: str
    name: str
    kind: str  # "die" or "oom"
    at_ns: int  # the daemon's own clock, nanoseconds since 1970
    exit_code: int | None = None
    labels: Mapping[str, str] = {}
