"""The daemon's events as one stream, whatever becomes of connections and certificates beneath it.

A hint, as the contract says: the daemon forgets what happened when it restarts, and only a full list tells the truth.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from aiodocker.events import DockerEvents

from docker.answers import clock_ns, container_event
from docker.connection import Connection
from docker.errors import BadDockerSettings, DaemonDown, DaemonFailed, DockerError
from docker.identity import LOOK_SECONDS
from docker.service import ContainerEvent

_FILTER: Final = {"filters": json.dumps({"type": ["container"], "event": ["die", "oom"]})}
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
# The daemon stamps an event before it tells it: of two at once the later may come first. So much is asked for again.
_OVERLAP_NS: Final = 1_000_000_000
_REMEMBERED: Final = 1024  # events told; the daemon itself remembers 256 of all kinds
_LONG_AGO_NS: Final = 2 * _OVERLAP_NS  # of 1970; to the daemon, zero would mean: nothing of the past


class Told:
    """Which events were told: a new subscription asks for the last of them again, and each is told once.

    By their names alone: a clock that is set back makes later events earlier ones.
    """

    def __init__(self) -> None:
        self._last_ns = 0
        self._recent: dict[tuple[int, str, str], None] = {}  # in the order of telling

    @property
    def began(self) -> bool:
        return self._last_ns > 0

    def begin(self, clock_ns: int) -> None:
        """``clock_ns``: the daemon's own clock before the first subscription."""
        self._last_ns = clock_ns

    def look(self, clock_ns: int) -> None:
        """The daemon's clock before a later one. Was it set back, nobody knows when: all is asked for again."""
        if clock_ns < self._last_ns - _OVERLAP_NS:
            self._last_ns = _LONG_AGO_NS

    @property
    def since(self) -> str:
        """From when to ask the daemon, in seconds of its clock."""
        seconds, rest = divmod(self._last_ns - _OVERLAP_NS, 10**9)
        return f"{seconds}.{rest:09d}"

    def is_new(self, event: ContainerEvent) -> bool:
        """True once for each event."""
        key = (event.at_ns, event.container_id, event.kind)
        if key in self._recent:
            return False
        self._recent[key] = None
        if len(self._recent) > _REMEMBERED:
            del self._recent[next(iter(self._recent))]
        set_back = event.at_ns < self._last_ns - _OVERLAP_NS
        self._last_ns = event.at_ns if set_back else max(self._last_ns, event.at_ns)
        return True


async def events(connection: Connection, past: bool = False) -> AsyncIterator[ContainerEvent]:
    """As ``DockerService.events``: subscribes again, with growing pauses, for as long as the daemon is away.

    A daemon remembers its last 256 events, of all kinds, until it restarts. Raises what will not mend itself: a daemon
    that never accepted us. Once it has, a certificate that is refused is one that is being replaced on one side before
    the other.
    """
    told, pause = Told(), _FIRST_PAUSE
    if past:
        told.begin(_LONG_AGO_NS)
    while True:
        began = time.monotonic()
        try:
            async with aclosing(_subscription(connection, told)) as subscription:
                async for event in subscription:
                    yield event
        except (DaemonDown, DaemonFailed):
            pass  # away or starting: what the pause is for
        except BadDockerSettings:
            raise
        except DockerError:
            if not connection.accepted:
                raise
        connection.epoch += 1  # a daemon that ends ends the stream, and not each does it by an error
        if time.monotonic() - began > _LONGEST_PAUSE:
            pause = _FIRST_PAUSE
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _subscription(connection: Connection, told: Told) -> AsyncGenerator[ContainerEvent]:
    """One client's events, until the connection ends or other certificates are in use.

    A fresh DockerEvents each time: a used one never starts again (aiodocker 0.27).
    """
    parameters = dict(_FILTER)
    async with connection.call("tell its time") as client:
        clock = clock_ns(await client.system.info())
    if told.began:
        told.look(clock)
        parameters["since"] = told.since
    else:
        told.begin(clock)
    async with connection.mapped("follow events"), connection.clients.lent() as client:
        untyped: Any = DockerEvents  # in aiodocker
        stream = untyped(client)
        subscriber = stream.subscribe(create_task=False)
        reader = asyncio.create_task(stream.run(**parameters))
        try:
            while connection.clients.current() is client:
                line = await _next(subscriber)
                if line is None:
                    await reader
                    break
                event = container_event(line) if line else None
                if event is not None and told.is_new(event):
                    yield event
        finally:
            reader.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.exception()  # read, or asyncio complains that nobody did


async def _next(subscriber: Any) -> dict[str, Any] | None:
    """The next line; empty when none came for a while, None when no more will."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            line: dict[str, Any] | None = await subscriber.get()
            return line
    except TimeoutError:
        return {}
