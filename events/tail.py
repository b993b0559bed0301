"""Tail: ordered reading from a position, waiting at the head. The poll is the truth, NOTIFY only makes it quick."""

from collections.abc import AsyncIterator
from typing import Final

from events.envelope import RecordedEvent
from events.errors import LogForked
from events.store import EventStore

PAGE: Final = 1000
POLL_SECONDS: Final = 0.25


async def follow(
    store: EventStore, after: int, *, poll_seconds: float = POLL_SECONDS, page: int = PAGE
) -> AsyncIterator[list[RecordedEvent]]:
    """Every event beyond ``after`` in order, for ever, in the pages they are read in; an empty page when none came.

    The empty pages come once a poll, so that a reader can look at its own end. Raises StoreUnavailable when the store
    does (the reader decides how long to try), LogForked when positions are not contiguous.
    """
    position = after
    while True:
        events = await store.read_log(after=position, limit=page)
        for event in events:
            if event.position != position + 1:
                raise LogForked(f"position {position + 1} is missing: the log continues at {event.position}")
            position = event.position
        yield events
        if len(events) < page:
            await store.wait_beyond(position, poll_seconds)
