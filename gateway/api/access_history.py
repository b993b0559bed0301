"""Access history: who read a session, when, what of it and why; for its owner's frontend, and for auditors.

Made from ``log.read`` alone. A frontend's reading of its own sessions is none, nor is an operator's look at the
present; what was proxied to the session is in its exchanges.
"""

import asyncio
import time
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from starlette.responses import Response

from events import codec
from events.catalogue import LogRead
from events.envelope import ADMISSION, SYSTEM, RecordedEvent, container_stream, session_stream
from events.filter import EventFilter
from events.registry import EVENT_TYPES, tags
from events.store import EventStore, type_matches
from gateway.api import cursor as cursors
from gateway.api import events, follows, reads, shapes
from gateway.api.call import Call, answer
from gateway.api.cursor import Cursor

PAGE: Final = 500
Scope = Literal["session", "everything"]
_READS: Final = EventFilter(types=tuple(tags(LogRead)))
_SHARED_STREAMS: Final = (ADMISSION, SYSTEM)  # whose events tell of many sessions
_OF_SESSIONS: Final = [tag for tag, known in EVENT_TYPES.items() if "session_id" in known.payload.__struct_fields__]


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """A key, or an operator at the machine or the database; and the person that the key's holder named."""

    kind: str
    id: str
    key_id: str | None = None
    on_behalf_of: str | None = None
    assurance: str = "none"


class AccessRead(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. ``scope``: of this session, or of everything, where the session was among what could be seen.

    What was read lies in (``after``, ``until``]. Following has no end at its beginning, and is told again at its end.
    ``filtered``: an actor, a trace or a request
    that was asked for made it less.
    """

    position: int
    event_id: str
    recorded_at: datetime
    scope: Scope
    what: str
    reader: Reader
    after: int | None
    until: int | None
    types: list[str]
    stream: str | None
    filtered: bool
    purpose: str | None


class AccessHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Oldest first. ``complete``: all up to ``head`` was looked at; ``cursor`` goes on, also with what comes later."""

    session_id: str
    reads: list[AccessRead]
    next: int  # everything up to this position was looked at
    head: int
    complete: bool
    cursor: str


class Reading(msgspec.Struct):
    """What of a ``log.read``, of any release, says whether it concerns a session."""

    what: str = ""
    after: int | None = None
    until: int | None = None
    types: tuple[str, ...] = ()
    stream: str | None = None
    session_id: str | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The session that is asked about: its streams, and the position of its first event."""

    session_id: str
    streams: frozenset[str]
    begun: int


_READING: Final = msgspec.json.Decoder(Reading)


async def show(call: Call) -> Response:
    """A page of the readings of one session: since its first event, and of who followed by then."""
    state = await call.services.access.session(call.session_id, call.caller)
    store, of = call.services.store, f"access-history/{state.session_id}"
    limit = events.page_size(call)
    if reads.is_audit(call, "access_history"):
        reads.check(call, state.session_id)
    subject = Subject(
        session_id=state.session_id,
        streams=frozenset([session_stream(state.session_id), *map(container_stream, state.containers)]),
        begun=await _begun(store, state.session_id),
    )
    after = await _after(call, of)
    head = (await store.head()).position
    found, reached = await search(store, subject, after, head, limit)
    shown = await shapes.events([event for event, _ in found], call.services.keyring)
    going_on = await cursors.at(call.services.tokens, store, reached, of=of, wanted=_READS)
    await reads.tell_sessions(call, "access_history", reached, state.session_id)
    page = AccessHistory(
        session_id=state.session_id,
        reads=[_read(view, scope) for view, (_, scope) in zip(shown, found, strict=True)],
        next=reached,
        head=head,
        complete=reached >= head,
        cursor=going_on,
    )
    path = f"/sessions/{state.session_id}/access-history"
    return answer(page, headers={} if page.complete else events.next_page(path, going_on, limit))


async def search(
    store: EventStore, subject: Subject, after: int, end: int, limit: int
) -> tuple[list[tuple[RecordedEvent, Scope]], int]:
    """Up to ``limit`` readings in (after, end], and how far was looked; bounded in time as a page of events is."""
    found, reached, began = list[tuple[RecordedEvent, Scope]](), after, time.monotonic()
    while reached < end and len(found) < limit:
        page = await events.search(store, _READS, reached, end, PAGE)
        if page.reached <= reached:
            break
        ended = {event.causation_id for event in page.events if event.position < subject.begun}
        for event in page.events:
            if isinstance(codec.decode(event), codec.Unreadable):
                continue
            scope = scope_of(_READING.decode(event.payload), subject)
            if event.position < subject.begun and scope is not None:
                scope = scope if event.event_id not in ended and await _was_open(store, event, subject) else None
            if scope is not None:
                found.append((event, scope))
            if len(found) == limit or time.monotonic() - began > events.SEARCH_SECONDS:
                return found, event.position
        reached = page.reached
        if time.monotonic() - began > events.SEARCH_SECONDS:
            break
    return found, reached


async def _was_open(store: EventStore, event: RecordedEvent, subject: Subject) -> bool:
    """Whether ``event`` began to follow, and no end of it is known from before the session."""
    read = _READING.decode(event.payload)
    if read.what not in follows.KINDS or read.until is not None:
        return False
    await asyncio.sleep(0)  # a log in memory never waits, and others want their turn
    ended = msgspec.structs.replace(_READS, causation_id=event.event_id)
    return not (await events.search(store, ended, event.position, subject.begun - 1, 1)).events


def scope_of(read: Reading, subject: Subject) -> Scope | None:
    """Whether a reading was of this session, or of much that it was among; None when it cannot have shown it."""
    if read.session_id == subject.session_id or read.stream in subject.streams:
        return "session"
    if read.session_id is not None or (read.stream is not None and read.stream not in _SHARED_STREAMS):
        return None
    if read.until is not None and read.until < subject.begun:
        return None
    return "everything" if _may_tell_of_sessions(read.types) else None


def _may_tell_of_sessions(types: Collection[str]) -> bool:
    return any(type_matches(tag, tuple(types)) for tag in _OF_SESSIONS)


async def _begun(store: EventStore, session_id: str) -> int:
    return next((event.position for event in await store.read_stream(session_stream(session_id), limit=1)), 1)


async def _after(call: Call, of: str) -> int:
    text = call.text("cursor")
    if text is None:
        return 0  # who followed by then reads the session too
    found = cursors.decode(call.services.tokens, text, Cursor, of=of)
    await cursors.verify(call.services.store, found)
    return found.position


def _read(view: shapes.EventView, scope: Scope) -> AccessRead:
    told: dict[str, Any] = view.payload
    return AccessRead(
        position=view.position,
        event_id=view.event_id,
        recorded_at=view.recorded_at,
        scope=scope,
        what=told["what"],
        reader=msgspec.convert(view.actor, Reader),
        after=told.get("after"),
        until=told.get("until"),
        types=list(told.get("types") or ()),
        stream=told.get("stream"),
        filtered=any(told.get(name) is not None for name in ("actor", "trace_id", "correlation_id")),
        purpose=told.get("purpose"),
    )
