"""Exhaustion: the kernel killed a process in a container for want of memory, and the container may live on.

Two know of it: the daemon's event, with its time, which it remembers for a while; and, of a daemon of release 23 or
later, the container's own mark, which stays and has no time. So an event is told unless one was told within a minute
of it, before or after, since the daemon's clock can be set back; the mark is told when nothing ever was, and stands for
the first event of an earlier time that comes later. The first of a container and that of a minute have ids of their
own: gateways that see one kill, or a kernel that reports one several times, make one event.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from docker.service import ContainerEvent, ContainerInfo, ContainerState
from events import codec
from events.catalogue import ContainerMemoryExhausted
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
    heard: Mapping[str, Sequence[ContainerEvent]],
    containers: Collection[ContainerInfo],
    sessions: Mapping[str, SessionState],
    *,
    instance: str,
    runtime: str,
) -> list[Kill]:
    """What this instance may have to tell of its own sessions: what was heard of a container, else its mark.

    ``heard``: by the container's name, in order. Another instance hears of its sessions by itself.
    """
    marked = {info.name: info.id for info in containers if info.oom_killed and info.state is ContainerState.RUNNING}
    found = list[Kill]()
    if not heard and not marked:
        return found  # nearly every round
    for state in sessions.values():
        if state.phase not in SEATED or (state.instance, state.runtime) != (instance, runtime):
            continue
        if events := heard.get(state.container):
            found += [Kill(state, event.container_id, at_of(event)) for event in events]
        elif state.container in marked:
            found.append(Kill(state, marked[state.container], None))
    return found


def at_of(event: ContainerEvent) -> datetime:
    """The daemon's time of it."""
    return datetime.fromtimestamp(event.at_ns / 1e9, UTC)


class Known(msgspec.Struct):
    """What was told of a container. ``times``: the daemon's; ``mark``: when it was told by its mark, until the daemon's
    word of that kill comes, if it does."""

    times: list[datetime] = []
    mark: datetime | None = None

    def has(self, at: datetime) -> bool:
        """Whether that kill, or one within a minute of it, was told; or it is the one of the mark, whose time it is."""
        if self.mark is not None and at <= self.mark:
            self.times.append(at)
            self.mark = None
        return any(abs(at - each) <= APART for each in self.times)


def is_new(kill: Kill, known: Known | None) -> bool:
    """Whether it was not told yet."""
    return known is None or (kill.at is not None and not known.has(kill.at))


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
        self._heard: dict[str, list[ContainerEvent]] = {}  # by name; more than a minute apart
        self._told: dict[str, Known] = {}  # by name, of those that were looked for

    def heard(self, event: ContainerEvent) -> bool:
        """The daemon's word, told at a round of the one that carries the session. False when it says nothing new."""
        known, told = self._heard.get(event.name, []), self._told.get(event.name)
        times = [*map(at_of, known), *(told.times if told is not None else ())]
        if any(abs(at_of(event) - each) <= APART for each in times):
            return False
        self._heard[event.name] = [*known, event]
        return True

    async def run_once(self, containers: Collection[ContainerInfo]) -> None:
        """Tell what is new. ``containers``: all of this log. Raises StoreUnavailable: the next round tells it."""
        sessions = self._views.sessions
        for kill in kills(self._heard, containers, sessions, instance=self._instance, runtime=self._runtime):
            name = kill.state.container
            if name not in self._told and (logged := await self._logged(name)) is not None:
                self._told[name] = logged
            if is_new(kill, self._told.get(name)):
                await self._tell(kill, first=name not in self._told)
                self._remember(name, kill)
            if kill.at is not None and (known := self._heard.get(name)):
                self._heard[name] = known[1:]
        self._forget()

    def _remember(self, name: str, kill: Kill) -> None:
        known = self._told.setdefault(name, Known())
        if kill.at is None:
            known.mark = self._now()
        else:
            known.times.append(kill.at)

    def _forget(self) -> None:
        """What was told, and containers that no session has any more. Of a session that another instance carries it is
        kept: that one may be gone, and the session ours at the next round."""
        seated = {state.container for state in self._views.sessions.values() if state.phase in SEATED}
        self._heard = {name: known for name, known in self._heard.items() if known and name in seated}
        self._told = {name: known for name, known in self._told.items() if name in seated}

    async def _logged(self, container: str) -> Known | None:
        """What the log has of it: another process may have told it."""
        known, after = Known(), 0
        while page := await self._store.read_log(
            after=after, limit=PAGE, types=(EVENT,), stream_id=container_stream(container)
        ):
            for event in page:
                payload = codec.decode(event)
                if isinstance(payload, ContainerMemoryExhausted) and payload.found:
                    known.mark = event.occurred_at
                else:
                    known.times.append(event.occurred_at)
            after = page[-1].position
        return known if after else None

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
