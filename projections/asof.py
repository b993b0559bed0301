"""What was true then: the same folds up to a position. A time is resolved to a position first, and told."""

import re
from datetime import UTC, datetime
from typing import Any, Final

from events.envelope import session_stream
from events.store import EventStore
from projections.projection import Projection, State, fold
from projections.session_state import Sessions, SessionState

PAGE: Final = 2000
_POSITION: Final = re.compile(r"\d{1,18}\Z", re.ASCII)


class BadMoment(ValueError):
    """Neither a position nor an RFC 3339 time with an offset."""


async def resolve(store: EventStore, moment: str) -> int:
    """A position, or an RFC 3339 time as the last position recorded by then. Raises BadMoment.

    A position beyond the head means the head: nothing later has been true yet.
    """
    if _POSITION.match(moment):
        return min(int(moment), (await store.head()).position)
    try:
        time = datetime.fromisoformat(moment.upper())  # RFC 3339, 5.6: "t" and "z" are as good
    except ValueError:
        raise BadMoment(f"{moment!r} is neither a position nor an RFC 3339 time") from None
    if time.tzinfo is None:
        raise BadMoment(f"{moment!r} needs an offset: Z, or +01:00")
    try:
        utc = time.astimezone(UTC)
    except OverflowError:
        raise BadMoment(f"{moment!r} is outside of the years 1 to 9999 in UTC") from None
    return await store.position_at(utc)


async def as_of(store: EventStore, projection: Projection[State], position: int) -> dict[str, State]:
    """The whole system: the fold of the log up to and including ``position``."""
    states: dict[str, State] = {}
    after = 0
    while after < position:
        page = await store.read_log(after=after, limit=min(PAGE, position - after))
        if not page:
            break
        fold(projection, states, page)
        after = page[-1].position
    return states


async def session_as_of(store: EventStore, session_id: str, position: int) -> SessionState | None:
    """One session, from its own streams alone; equal to what ``as_of`` of everything says of it."""
    events = await _stream(store, session_stream(session_id), position)
    states = fold(Sessions(), {}, events)
    if session_id not in states:
        return None
    for container in states[session_id].containers:
        events += await _stream(store, f"container-{container}", position)
    events.sort(key=lambda event: event.position)
    return fold(Sessions(), {}, events).get(session_id)


async def _stream(store: EventStore, stream_id: str, position: int) -> list[Any]:
    found, after = [], 0
    while page := await store.read_stream(stream_id, after=after, limit=PAGE):
        found += [event for event in page if event.position <= position]
        if page[-1].position > position or len(page) < PAGE:
            break
        after = page[-1].version
    return found
