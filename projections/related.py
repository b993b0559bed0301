"""Related: reads from the log what belongs to an event, a session, a request or a trace; ``causation`` makes the tree.

Read are the events that were asked for; those of the same request, when an event was; what led to them, event by
event; and what they led to. Bounded in events, sessions, look-ups and time: who stops early says so, and what was left
out.

A request's id is the caller's to choose, and two callers may choose the same. So no session comes into another's tree
by the request's id alone: only by cause, which the gateway writes, or where the request itself is asked for.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol
from uuid import UUID

import msgspec

from events.envelope import RecordedEvent, session_stream
from events.filter import EventFilter, Found, session_of
from events.store import type_matches

PAGE: Final = 1000
# They lead to nothing but an end of their own, which belongs to the same request: their effects are not looked for.
_LEAVES: Final = ("exchange.*", "log.*", "access.*", "health.*")
STEPS: Final = ("session.*", "token.*", "container.*", "admission.*", "subject.*", "gateway.*")
_BEGINNINGS: Final = ("session.requested", "session.resumed", "session.imported")


class Reading(Protocol):
    """What is read with: a part of ``EventStore``."""

    async def search(
        self, wanted: EventFilter, *, after: int = 0, until: int | None = None, limit: int = 100
    ) -> Found: ...
    async def find(self, event_id: UUID) -> RecordedEvent | None: ...


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much is read, at most. Causes that are found one by one come on top of ``events``."""

    events: int = 10_000
    sessions: int = 50  # the reading of each is told of, and each has a person
    lookups: int = 500  # causes, and events whose effects are searched for
    seconds: float = 10.0
    clock: Callable[[], float] = time.monotonic


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Reading ended early: ``reason`` is events, sessions, lookups or time.

    What ``unsearched`` events led to is not known.
    """

    reason: str
    reached: int | None  # of what was asked for itself, everything up to here was read; None: all of it
    unsearched: int = 0


class Related(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order of position, each once. ``unread``: causes that were not looked for."""

    events: tuple[RecordedEvent, ...]
    asked: frozenset[UUID]
    unread: frozenset[UUID] = frozenset()
    cut: Cut | None = None


async def of_event(store: Reading, event: RecordedEvent, *, until: int, budget: Budget | None = None) -> Related:
    """Of one event: what led to it, its request's events, what those led to, and how its session began.

    Of its request those that concern the same session; none that concerns a session, when it concerns none itself.

    A stop is a request of its own, and so is a resume: the session's opening, and its newest resume, stand beside it.
    """
    reader = _Reader(store, until, budget or Budget())
    reader.take([event])
    await reader.causes()
    session_id = session_of(event)
    if session_id is not None:
        await reader.beginnings(session_id, event.position)
    if event.correlation_id is not None:
        of_request = EventFilter(correlation_id=event.correlation_id, session_id=session_id)
        await reader.collect(of_request, alone=session_id is None)
    return await reader.finished(session_id, frozenset({event.event_id}))


async def of(
    store: Reading, wanted: EventFilter, *, until: int, budget: Budget | None = None, first: tuple[str, ...] = ()
) -> Related:
    """Of all events that a filter finds: what led to them, and what they led to. Empty when it finds none.

    ``first``: types that there must be room for, before whatever else there is much of.
    """
    reader = _Reader(store, until, budget or Budget())
    if not first or await reader.collect(msgspec.structs.replace(wanted, types=first)):
        await reader.collect(wanted)
    return await reader.finished(wanted.session_id)


class _Reader:
    """One reading; what it holds is bounded by its budget."""

    def __init__(self, store: Reading, until: int, budget: Budget) -> None:
        self._store = store
        self._until = until
        self._left = budget.events
        self._sessions = budget.sessions
        self._lookups = budget.lookups
        self._now = budget.clock
        self._ends_at = budget.clock() + budget.seconds
        self._known: dict[UUID, RecordedEvent] = {}
        self._seeds: list[RecordedEvent] = []  # whose effects are looked for
        self._absent: set[UUID] = set()
        self._cut: str | None = None
        self._reached: int | None = None

    def take(self, events: Iterable[RecordedEvent]) -> RecordedEvent | None:
        """Keep what is new; the first for which there was no room, if any."""
        for event in events:
            if event.event_id in self._known:
                continue
            if self._left == 0:
                self._cut = self._cut or "events"
                return event
            self._left -= 1
            self._known[event.event_id] = event
            self._seeds.append(event)
        return None

    async def collect(self, wanted: EventFilter, *, alone: bool = False) -> bool:
        """Everything that ``wanted`` finds, ``alone``: and that concerns no session; False when that was cut."""
        after = 0
        while after < self._until and self._cut is None:
            if self._late():
                self._reached = after
                break
            # One more than there is room for, so that a reading that fits exactly is not taken for cut.
            limit = min(PAGE, self._left + 1)
            found = await self._store.search(wanted, after=after, until=self._until, limit=limit)
            await asyncio.sleep(0)  # a log in memory never waits, and others want their turn
            events = [event for event in found.events if session_of(event) is None] if alone else found.events
            if (refused := self.take(events)) is not None:
                self._reached = refused.position - 1
            if found.reached <= after:
                break
            after = found.reached
        return self._cut is None

    async def beginnings(self, session_id: str, until: int) -> None:
        """The session's opening, and its newest resume up to a position. What these led to is not looked for."""
        wanted, after = EventFilter(stream_id=session_stream(session_id), types=_BEGINNINGS), 0
        begun: list[RecordedEvent] = []
        while after < until and not self._late():
            found = await self._store.search(wanted, after=after, until=until, limit=PAGE)
            begun = [*begun[:1], *found.events[:1], *(found.events or begun)[-1:]]
            if found.reached <= after:
                break
            after = found.reached
        for event in (*begun[:1], *begun[-1:]):
            self._known.setdefault(event.event_id, event)

    async def causes(self) -> None:
        """What led to what is known, up to the roots."""
        waiting = list(self._known.values())
        while waiting:
            cause = waiting.pop().causation_id
            if cause is None or cause in self._known or cause in self._absent:
                continue
            if not self._may_look():
                return
            found = await self._store.find(cause)
            if found is None:
                self._absent.add(cause)
            else:
                self._known[found.event_id] = found
                waiting.append(found)

    async def finished(self, session_id: str | None, asked: frozenset[UUID] = frozenset()) -> Related:
        """With all causes, and the effects of what was collected. ``session_id``: whose events are never left out."""
        await self.causes()
        unsearched = await self._effects()
        await self.causes()
        events = self._of_few(session_id)
        named = {event.causation_id for event in events if event.causation_id is not None}
        cut = None if self._cut is None else Cut(reason=self._cut, reached=self._reached, unsearched=unsearched)
        unread = frozenset(named - self._known.keys() - self._absent)
        return Related(events=tuple(events), asked=asked, unread=unread, cut=cut)

    def _of_few(self, first: str | None) -> list[RecordedEvent]:
        """All that is known, in order of position, without the events of sessions for which there is no room."""
        events = sorted(self._known.values(), key=lambda event: event.position)
        sessions = dict.fromkeys([first, *map(session_of, events)])
        sessions.pop(None, None)
        left_out = set(list(sessions)[self._sessions :])
        if left_out:
            dropped = [event for event in events if session_of(event) in left_out]
            self._cut = self._cut or "sessions"
            before = dropped[0].position - 1
            self._reached = before if self._reached is None else min(before, self._reached)
            for event in dropped:
                del self._known[event.event_id]
        return [event for event in events if event.event_id in self._known]

    async def _effects(self) -> int:
        """What the collected events led to, and that to; the number of events that could not be asked any more.

        Looked for in the whole log: what waited in a spool may stand before its cause.
        """
        reached = self._reached
        asked = 0
        while asked < len(self._seeds) and self._cut is None:
            event = self._seeds[asked]
            if not type_matches(event.type, _LEAVES):
                if not self._may_look():
                    break
                if not await self.collect(EventFilter(causation_id=event.event_id)):
                    break
            asked += 1
        self._reached = reached
        return sum(not type_matches(event.type, _LEAVES) for event in self._seeds[asked:])

    def _may_look(self) -> bool:
        if self._lookups == 0:
            self._cut = self._cut or "lookups"
            return False
        self._lookups -= 1
        return not self._late()

    def _late(self) -> bool:
        if self._now() <= self._ends_at:
            return False
        self._cut = self._cut or "time"
        return True
