"""Exhaustion: the kernel killed a process in a container for want of memory, and the container may live on.

Two know of it: the daemon's event, with its time, and the container's own mark, which stays and has no time. So an
event is told unless something was told of that container since, or less than a minute before; the mark is told when
nothing ever was. The first of a container and that of a minute have ids of their own: gateways that see one kill, or a
kernel that reports one several times, make one event.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from docker.service import ContainerEvent, ContainerInfo, ContainerState
from events.envelope import container_stream
from events.store import EventStore
from gateway import telemetry
from gateway.sessions.observe import Observer, exhausted_id
from gateway.sessions.runner import Runner, caused_by
from projections.lifecycle import SEATED
from projections.session_state import SessionState
from projections.views import Views

APART: Final = timedelta(minutes=1)
EVENT: Final = "container.memory_exhausted"
PAGE: Final = 500
log = logging.getLogger("session_gateway.exhaustion")


class Kill(msgspec.Struct, frozen=True):
    """Something to tell. ``at`` is the daemon's time; None: it was found on the container."""

    state: SessionState
    container_id: str
    at: datetime | None


def kills(
    heard: Mapping[str, datetime],
    containers: Collection[ContainerInfo],
    sessions: Mapping[str, SessionState],
    *,
    instance: str,
    runtime: str,
) -> list[Kill]:
    """What this instance may have to tell of its own sessions: each container once, by the daemon's time if it has one.

    ``heard``: by the container's name. Another instance hears of its sessions by itself.
    """
    marked = {info.name: info for info in containers if info.oom_killed and info.state is ContainerState.RUNNING}
    ids = {info.name: info.id for info in containers}
    return [
        Kill(state, ids[state.container], heard.get(state.container))
        for state in sessions.values()
        if state.phase in SEATED
        and (state.instance, state.runtime) == (instance, runtime)
        and state.container in ids
        and (state.container in heard or state.container in marked)
    ]


def is_new(kill: Kill, told: datetime | None) -> bool:
    """Whether it was not told yet. ``told``: when the newest event of the container happened."""
    if told is None:
        return True
    return kill.at is not None and kill.at > told + APART


class Exhaustion:
    """Part of the reconciler's round, so that one task of a process writes, and what was heard waits for the log."""

    def __init__(
        self,
        store: EventStore,
        views: Views,
        runner: Runner,
        observer: Observer,
        *,
        instance: str,
        runtime: str,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._views, self._runner, self._observer = store, views, runner, observer
        self._instance, self._runtime, self._now = instance, runtime, now
        self._heard: dict[str, datetime] = {}  # by name; the first that was not told
        self._told: dict[str, datetime] = {}  # by name: of those that were looked for

    def heard(self, event: ContainerEvent) -> bool:
        """The daemon's word, told at the next round. False when it says nothing new: no reason for a round."""
        at = datetime.fromtimestamp(event.at_ns / 1e9, UTC)
        if event.name in self._heard or (event.name in self._told and at <= self._told[event.name] + APART):
            return False
        self._heard[event.name] = at
        return True

    async def run_once(self, containers: Collection[ContainerInfo]) -> None:
        """Tell what is new. ``containers``: all of this log. Raises StoreUnavailable: the next round tells it."""
        heard = dict(self._heard)
        for kill in kills(heard, containers, self._views.sessions, instance=self._instance, runtime=self._runtime):
            name = kill.state.container
            if name not in self._told and (newest := await self._newest(name)) is not None:
                self._told[name] = newest
            if is_new(kill, self._told.get(name)):
                await self._tell(kill, first=name not in self._told)
                self._told[name] = kill.at or self._now()
        for name in heard:
            del self._heard[name]
        there = {info.name for info in containers}
        self._told = {name: at for name, at in self._told.items() if name in there}

    async def _newest(self, container: str) -> datetime | None:
        """When the newest one of the log happened: another process may have told it."""
        newest, after = None, 0
        while page := await self._store.read_log(
            after=after, limit=PAGE, types=(EVENT,), stream_id=container_stream(container)
        ):
            newest, after = page[-1].occurred_at, page[-1].position
        return newest

    async def _tell(self, kill: Kill, *, first: bool) -> None:
        minute = None if first or kill.at is None else int(kill.at.timestamp() // APART.total_seconds())
        intent = await self._runner.intent(kill.state.session_id)
        attributes = {"session.id": kill.state.session_id}
        with telemetry.span("session.memory_exhausted", attributes=attributes, parent=intent) as span:
            await self._observer.memory_exhausted(
                kill.state, kill.container_id, exhausted_id(kill.container_id, minute), kill.at, caused_by(intent, span)
            )
            log.warning(
                "the kernel killed a process of a session for want of memory (CONTAINER_MEMORY_LIMIT)",
                extra={"session_id": kill.state.session_id, "operation": "watch", "container": kill.state.container},
            )
