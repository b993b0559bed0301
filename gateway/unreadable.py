"""Unreadable events: every fold passes over them alike, and an auditor is told of each one.

A payload that no release wrote (a damaged disk, a hand in the table) must not take the service down, and must not be
passed over in silence. For each position there is one ``alert.raised`` in the log, whichever process comes upon it and
however often: its id is made from the position. The views queue what they come upon (``passed``), and the projector
waits until it is told before a checkpoint moves past it (``tell``): a process that is killed in between forgets none.
"""

import logging
from typing import Final
from uuid import UUID

import msgspec

from events.catalogue import AlertRaised
from events.codec import decode
from events.envelope import SYSTEM, ActorKind, RecordedEvent
from events.filter import EventFilter
from events.ids import named
from gateway import context, telemetry
from gateway.recorder import Recorder, Who
from gateway.workers.worker import Worker

NAME: Final = "unreadable_event"
SECONDS: Final = 60.0
PAGE: Final = 500
MOST: Final = 1_000  # alerts that a process raises: what is broken in more places is broken as a whole
_ALERTS: Final = EventFilter(types=("alert.raised",), stream_id=SYSTEM)
log = logging.getLogger("session_gateway.unreadable")


class Passed(msgspec.Struct, frozen=True):
    """An event that was passed over."""

    log_id: UUID
    position: int
    event_id: UUID
    type: str

    @property
    def alert_id(self) -> UUID:
        return named(NAME, str(self.log_id), str(self.position))


class Unreadables:
    """One process's knowledge of them."""

    def __init__(self, recorder: Recorder, instance: str) -> None:
        self._recorder, self._instance = recorder, instance
        self._told: set[UUID] = set()
        self._queue: dict[UUID, Passed] = {}
        self._looked = 0  # up to which position the log was looked through for alerts of former processes
        self._until: int | None = None  # where the log ended when that began
        self._beyond = 0
        self._beyond_at = 0  # the last position that was counted so
        self.worker = Worker("unreadable", self.run_once, SECONDS)

    @property
    def count(self) -> int:
        """Events of the log that nobody can read, as far as this process knows: those with an alert, and new ones."""
        return len(self._told | self._queue.keys()) + self._beyond

    def passed(self, event: RecordedEvent) -> None:
        """A hook of ``Views.on_unreadable``: the next ``run_once`` tells of it."""
        one = Passed(event.log_id, event.position, event.event_id, event.type)
        if self._is_new(one):
            self._queue[one.alert_id] = one
            self.worker.poke()

    async def tell(self, event: RecordedEvent) -> None:
        """Return when the log, or the spool, has the alert. Raises StoreUnavailable."""
        one = Passed(event.log_id, event.position, event.event_id, event.type)
        if self._is_new(one) or one.alert_id in self._queue:
            await self._raise(one)

    async def run_once(self) -> None:
        """Learn of the alerts that the log has already, then raise those that wait. Raises StoreUnavailable."""
        await self._look()
        for one in list(self._queue.values()):
            await self._raise(one)

    def _is_new(self, one: Passed) -> bool:
        if one.alert_id in self._told or one.alert_id in self._queue:
            return False
        if self.count >= MOST:
            if one.position <= self._beyond_at:
                return False  # counted: it is read again and again, by the views and for the tables
            self._beyond, self._beyond_at = self._beyond + 1, one.position
        log.error(
            "the event at position %d (%s) cannot be read, and is passed over: events show %d%s",
            *(one.position, one.type, one.position),
            "; too many: it has no alert" if self._beyond else "",
            extra={"operation": NAME, "position": one.position},
        )
        return not self._beyond

    async def _look(self) -> None:
        if self._until is None:
            self._until = (await self._recorder.store.head()).position
        while self._looked < self._until:
            found = await self._recorder.store.search(_ALERTS, after=self._looked, until=self._until, limit=PAGE)
            for event in found.events:
                if isinstance(said := decode(event), AlertRaised) and said.name == NAME:
                    self._told.add(event.event_id)
            self._looked = max(found.reached, self._looked + 1)

    async def _raise(self, one: Passed) -> None:
        detail = (
            f"The event at position {one.position} ({one.type}) is nothing that a release wrote, and every reader"
            f" passes over it: `events show {one.position}` shows its bytes."
        )
        payload = AlertRaised(instance=self._instance, name=NAME, detail=detail)
        who = Who(kind=ActorKind.GATEWAY, id=self._instance)
        with telemetry.span("gateway.alert", root=True):
            cause = msgspec.structs.replace(context.cause(), causation_id=one.event_id)
            await self._recorder.fact(SYSTEM, payload, who=who, cause=cause, event_id=one.alert_id)
        self._told.add(one.alert_id)
        self._queue.pop(one.alert_id, None)
