"""What happened to a container. Stream ``container-{name}``; facts, true in any order, written with ``ANY``.

The daemon's own facts carry an id made from container, kind and the daemon's time, so a second observer's telling is
a duplicate.
"""

import msgspec


class ContainerCreated(msgspec.Struct, frozen=True, kw_only=True, tag="container.created"):
    container: str
    session_id: str
    generation: int
    container_id: str  # the runtime's own id
    image: str
    runtime: str


class ContainerStarted(msgspec.Struct, frozen=True, kw_only=True, tag="container.started"):
    """It runs; ``host`` and ``port`` are where this gateway reaches it."""

    container: str
    session_id: str
    generation: int
    container_id: str
    host: str
    port: int


class ContainerDied(msgspec.Struct, frozen=True, kw_only=True, tag="container.died"):
    """It ended without being asked to."""

    container: str
    session_id: str
    generation: int
    container_id: str
    exit_code: int | None = None
    oom_killed: bool = False


class ContainerMemoryExhausted(msgspec.Struct, frozen=True, kw_only=True, tag="container.memory_exhausted"):
    """The kernel killed a process in it for want of memory. It may live on: its own end is ``container.died``."""

    container: str
    session_id: str
    generation: int
    container_id: str
    found: bool = False  # by the container's mark, which has no time: it happened at some time before ``occurred_at``


class ContainerRemoved(msgspec.Struct, frozen=True, kw_only=True, tag="container.removed"):
    container: str
    session_id: str
    generation: int


class ContainerAdopted(msgspec.Struct, frozen=True, kw_only=True, tag="container.adopted"):
    """A gateway that just started found it running and serves it again."""

    container: str
    session_id: str
    generation: int
    container_id: str
    host: str
    port: int
    instance: str


class ContainerLost(msgspec.Struct, frozen=True, kw_only=True, tag="container.lost"):
    """The log says that it runs, the runtime does not know it or says that it ended."""

    container: str
    session_id: str
    generation: int
    exit_code: int | None = None
    oom_killed: bool = False
