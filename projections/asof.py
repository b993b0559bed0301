"""What was true then: the same folds up to a position. A time is resolved to a position first, and told."""

import asyncio
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from events.envelope import RecordedEvent, container_stream, session_stream
from events.store import EventStore
from projections import moment
from projections.moment import BadMoment, Fold
from projections.projection import Projection, State, fold
from projections.session_state import Sessions, SessionState

__all__ = ["BadMoment", "as_of", "resolve", "session_as_of"]
# Events that are read at once; of a stream the first pages are smaller. With 1,000 the loop stood still for half as
# long again, and full collections of garbage came twice as often: 50 ms each.
PAGE: Final = 500
STEP: Final = 250  # events that are folded before others of the process get their turn: a few milliseconds
_FIRST_PAGE: Final = 128
_READS: Final = 4  # streams of one session that are read side by side


async def resolve(store: EventStore, then: str, zone: tzinfo | None = None, fold: Fold | None = None) -> int:
    """A position, or a time (``moment.parse``) as the last position recorded by then. Raises BadMoment.

    A position beyond the head means the head, and so does a time to come: nothing later has been true yet. A time
    before the first event is position 0.
    """
    found = moment.parse(then, zone, fold)
    if isinstance(found, int):
        return min(found, (await store.head()).position)
    return await store.position_at(found)


async def as_of(store: EventStore, projection: Projection[State], position: int) -> dict[str, State]:
    """The whole system: the fold of the log up to and including ``position``.

    Holds two pages of events at most, whatever the log's length, and lets the loop turn between steps.
    """
    states: dict[str, State] = {}
    after = 0
    ahead = _page(store, after, position)
    try:
        while page := await ahead:
            after = page[-1].position
            ahead = _page(store, after, position)  # Postgres reads while we fold
            await _fold(projection, states, page)
    finally:
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)
    return states


def _page(store: EventStore, after: int, position: int) -> asyncio.Task[list[RecordedEvent]]:
    async def read() -> list[RecordedEvent]:
        wanted = min(PAGE, position - after)
        return await store.read_log(after=after, limit=wanted) if wanted > 0 else []

    return asyncio.create_task(read(), name="as-of")


async def _fold(projection: Projection[State], states: dict[str, State], events: Sequence[RecordedEvent]) -> None:
    for start in range(0, len(events), STEP):
        fold(projection, states, events[start : start + STEP])
        await asyncio.sleep(0)


async def session_as_of(store: EventStore, session_id: str, position: int) -> SessionState | None:
    """One session, from its own streams alone; equal to what ``as_of`` of everything says of it.

    Costs in proportion to what the session had done by ``position``: each stream is read once, up to there and little
    further, and of its containers' streams no more than a page each is held.
    """
    own = _Stream(store, session_stream(session_id), position)
    events = await own.rest()
    begun = fold(Sessions(), {}, events).get(session_id)
    if begun is None:
        return None
    containers = [_Stream(store, container_stream(name), position) for name in dict.fromkeys(begun.containers)]
    states: dict[str, SessionState] = {}
    while containers:
        for start in range(0, len(containers), _READS):
            await asyncio.gather(*(each.fill() for each in containers[start : start + _READS]))
        containers = [each for each in containers if each.page]
        # Up to here nothing can come any more, of no stream: each has shown what it has, or is at its end.
        known = min((each.page[-1].position for each in containers if not each.ended), default=position)
        part = [event for each in containers for event in each.take(known)]
        part += [event for event in events if event.position <= known]
        events = [event for event in events if event.position > known]
        await _fold(Sessions(), states, sorted(part, key=lambda event: event.position))
    return fold(Sessions(), states, events).get(session_id)


class _Stream:
    """One stream up to a position, in pages that grow: most sessions are short, and some are asked about early."""

    def __init__(self, store: EventStore, stream_id: str, position: int) -> None:
        self._store, self._stream_id, self._position = store, stream_id, position
        self._after, self._limit = 0, _FIRST_PAGE
        self.page: list[RecordedEvent] = []
        self.ended = False

    async def fill(self) -> None:
        """Have a page, unless there is still one or nothing more to come."""
        if self.page or self.ended:
            return
        page = await self._store.read_stream(self._stream_id, after=self._after, limit=self._limit)
        self.page = [event for event in page if event.position <= self._position]
        self.ended = len(self.page) < self._limit
        if page:
            self._after = page[-1].version
        self._limit = min(self._limit * 4, PAGE)

    def take(self, position: int) -> list[RecordedEvent]:
        """The events of the page up to ``position``; they are gone from it."""
        taken = [event for event in self.page if event.position <= position]
        self.page = self.page[len(taken) :]
        return taken

    async def rest(self) -> list[RecordedEvent]:
        """All of it."""
        found: list[RecordedEvent] = []
        while not self.ended:
            await self.fill()
            found += self.take(self._position)
        return found
