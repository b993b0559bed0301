"""The log for auditors: in pages, and one event. Every read is itself an event: who read what, and why."""

import time
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from starlette.responses import Response

from events import registry
from events.catalogue import LogRead
from events.envelope import RecordedEvent
from events.filter import EventFilter, Found, session_of
from events.store import EventStore
from gateway import names
from gateway.api import cursor, event_query, reads, shapes
from gateway.api.call import Call, answer
from gateway.api.event_query import Asked
from gateway.errors import Refused

MOST: Final = 1000
SEARCH_SECONDS: Final = 2.0  # after which a page is answered with what was found


async def read(call: Call) -> Response:
    """A page of what the query asks for, oldest first; ``Link`` and ``cursor`` go on where it ended."""
    limit = page_size(call)
    asked = await event_query.asked(call)
    reads.demand(call, asked.narrow)
    if call.request.method == "HEAD":
        return Response(media_type="application/json")  # nothing is read, so nothing is told
    store, after = call.services.store, asked.after or 0
    head = (await store.head()).position
    end = head if asked.until is None else min(head, asked.until)
    found = await search(store, asked.wanted, after, end, limit)
    complete = found.reached >= end
    views = await shapes.events(found.events, call.services.keyring)
    going_on = None
    if not complete or asked.until is None:
        going_on = await cursor.at(
            call.services.tokens,
            store,
            found.reached,
            of=event_query.OF,
            wanted=asked.wanted,
            until=asked.until,
            seen=found.events,
        )
    # Told as of the session that it was of, whatever it was asked by.
    asked = msgspec.structs.replace(asked, session_id=asked.session_id or event_query.one_session(found.events))
    await reads.record(call, reading("events", asked, after, found.reached))
    page = shapes.EventPage(
        events=views,
        after=after,
        until=asked.until,
        next=found.reached,
        head=head,
        complete=complete,
        cursor=going_on,
        unknown_types=registry.unknown(asked.wanted.types),
    )
    return answer(page, headers={} if complete else next_page("/events", going_on, limit))


def page_size(call: Call) -> int:
    """The parameter ``limit``. Raises Refused."""
    limit = call.number("limit", 100, most=MOST)
    if limit == 0:
        raise Refused("bad-request", f"The parameter limit must be from 1 to {MOST}.")
    return limit


def next_page(path: str, going_on: str | None, limit: int) -> dict[str, str]:
    """The header that names the next page (RFC 8288)."""
    return {"link": f'<{path}?{urlencode({"cursor": going_on, "limit": limit})}>; rel="next"'}


def reading(what: str, asked: Asked, after: int, until: int | None) -> LogRead:
    """The reading as an event, its purpose aside."""
    wanted = asked.wanted
    return LogRead(
        what=what,
        after=after,
        until=until,
        types=wanted.types,
        stream=wanted.stream_id,
        session_id=asked.session_id,
        actor=wanted.actor,
        trace_id=wanted.trace_id.hex() if wanted.trace_id else None,
        correlation_id=str(wanted.correlation_id) if wanted.correlation_id else None,
    )


async def search(store: EventStore, wanted: EventFilter, after: int, end: int, limit: int) -> Found:
    """Up to ``limit`` events in (after, end], looked for until there are as many, or SEARCH_SECONDS have passed.

    ``reached`` is at least ``after``, and ``end`` when all was looked at.
    """
    events, reached, began = list[RecordedEvent](), after, time.monotonic()
    while reached < end and len(events) < limit:
        found = await store.search(wanted, after=reached, until=end, limit=limit - len(events))
        events += found.events
        if found.reached <= reached:
            break
        reached = found.reached
        if time.monotonic() - began > SEARCH_SECONDS:
            break
    return Found(events, reached)


async def show(call: Call) -> Response:
    """One event, by its id or its position."""
    event = await one(call, str(call.request.path_params["event_id"]))
    session_id = session_of(event)
    read = LogRead(
        what="event", after=event.position - 1, until=event.position, stream=event.stream_id, session_id=session_id
    )
    reads.check(call, session_id)
    (view,) = await shapes.events([event], call.services.keyring)
    await reads.tell(call, read)
    return answer(view)


async def one(call: Call, text: str) -> RecordedEvent:
    """The event that an id or a position names. Raises Refused, StoreUnavailable."""
    found: RecordedEvent | None = None
    if names.is_position(text):
        page = await call.services.store.read_log(after=int(text) - 1, limit=1) if int(text) else []
        found = next((event for event in page if event.position == int(text)), None)
    elif names.is_uuid(text):
        found = await call.services.store.find(UUID(text))
    else:
        raise Refused("bad-request", "An event is named by its id, a UUID, or by its position.")
    if found is None:
        raise Refused("event-unknown", "The log holds no such event.")
    return found
