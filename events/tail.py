"""Tail: ordered reading from a place, waiting at the head. The poll is the truth, NOTIFY only makes it quick.

Each page is read with the event before it. When that one is not what the reader saw there, the log has forked; so no
reader can pass over a fork, also when it met no error: a pool reconnects in silence.
"""

from collections.abc import AsyncIterator
from typing import Final

from events.envelope import RecordedEvent
from events.errors import LogForked
from events.mark import Mark, Marks, forked
from events.store import EventStore

PAGE: Final = 1000
POLL_SECONDS: Final = 0.25


async def follow(
    store: EventStore, place: int | Marks, *, poll_seconds: float = POLL_SECONDS, page: int = PAGE
) -> AsyncIterator[list[RecordedEvent]]:
    """Every event beyond ``place`` in order, for ever, in the pages they are read in; an empty page when none came.

    The empty pages come once a poll, so that a reader can look at its own end. A reader that comes back gives its
    ``Marks``, which move with each page. Raises StoreUnavailable when the store does (the reader decides how long to
    try), LogForked when the log is not the one that was read or positions are not contiguous.
    """
    marks = place if isinstance(place, Marks) else Marks(store.log_id, after=place)
    while True:
        events = await read_on(store, marks, page)
        yield events
        if len(events) < page:
            await store.wait_beyond(marks.position, poll_seconds)


async def read_on(store: EventStore, marks: Marks, limit: int) -> list[RecordedEvent]:
    """The next events, at most ``limit``; ``marks`` move past them. Raises as ``follow``."""
    last = marks.last
    if last is None:
        page = await store.read_log(after=marks.position, limit=limit)
    else:
        page = await store.read_log(after=last.position - 1, limit=limit + 1)
        if not page or Mark.of(page[0]) != last:
            raise await forked(store, marks)
        del page[0]
    for event in page:
        if event.position != marks.position + 1:
            raise LogForked(
                f"position {marks.position + 1} is missing: the log continues at {event.position}",
                same_until=marks.position,
                differs_from=marks.position + 1,
                known_until=marks.position,
            )
        marks.add(Mark.of(event))
    return page
