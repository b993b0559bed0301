"""Event query: what a reader asks of the log, from the parameters of ``GET /events`` and its stream.

A filter, and where to begin: beyond a position (``after``), a time (``since``), or where a cursor stands. A cursor
brings its filter along; one given beside it must be the same.
"""

import re
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from events.envelope import STREAM_ID, ActorKind, RecordedEvent, session_stream
from events.filter import EventFilter, session_of
from events.store import EventStore
from gateway import names
from gateway.api import cursor as cursors
from gateway.api.call import Call
from gateway.api.cursor import Cursor
from gateway.errors import Refused
from projections import asof

OF: Final = "events"
NAMED_SECONDS: Final = 2.0  # in which it is looked whether the log names a session
FILTERS: Final = ("type", "stream", "session", "actor", "trace", "correlation")
_PLACE: Final = re.compile(
    r"(?P<position>\d{1,18})(?:-(?P<event>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}))?\Z", re.ASCII
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """``after`` is None when nothing says where to begin. ``session_id``: the one session that it is about.

    ``narrow``: in words, what it is about when a purpose must be given; None: of much, or of all.
    """

    wanted: EventFilter
    after: int | None
    until: int | None
    session_id: str | None
    narrow: str | None


async def asked(call: Call) -> Asked:
    """What the query says, its times resolved to positions. Raises Refused."""
    wanted = _filter(call)
    after, until = await _beginning(call), await _moment(call, "until")
    text = call.text("cursor")
    if text is not None:
        if after is not None or until is not None:
            raise Refused("bad-request", "A cursor says where to begin and end: leave out after, since and until.")
        found = cursors.decode(call.services.tokens, text, Cursor, of=OF)
        _check(found.wanted)
        if wanted not in (EventFilter(), found.wanted):
            raise Refused("bad-cursor", "The cursor is of other filters; give the same, or none beside it.")
        await cursors.verify(call.services.store, found)
        wanted, after, until = found.wanted, found.position, found.until
    session_id = await session_read(call.services.store, wanted)
    narrow = "one session" if session_id is not None else _narrow(wanted)
    return Asked(wanted=wanted, after=after, until=until, session_id=session_id, narrow=narrow)


def _narrow(wanted: EventFilter) -> str | None:
    """A part of the log that can be that of one person, however it was found. Types and ranges are many's."""
    if wanted.actor is not None:
        return "what one actor did"
    return "one request or trace" if wanted.trace_id or wanted.correlation_id else None


async def session_read(store: EventStore, wanted: EventFilter) -> str | None:
    """The one session that a filter reads: by its id, its stream or its container's, or because one of them acted.

    Raises Refused: nobody has heard of it, or two of them are named, of which nothing can be.
    """
    by_name = [wanted.session_id, await _of_stream(store, wanted.stream_id), await _of_actor(store, wanted.actor)]
    named = list(dict.fromkeys(each for each in by_name if each is not None))
    if len(named) > 1:
        raise Refused("bad-request", f"The parameters name two sessions, {named[0]} and {named[1]}: give one.")
    if named and not await _is_known(store, named[0]):
        raise Refused("session-unknown", f"The log has nothing of a session {named[0]}.")
    return named[0] if named else None


async def _is_known(store: EventStore, session_id: str) -> bool:
    """Whether it has a stream, or any event names it: refusals name whatever was asked for.

    When that cannot be told in time, it may be.
    """
    if await store.read_stream(session_stream(session_id), limit=1):
        return True
    wanted, reached, began = EventFilter(session_id=session_id), 0, time.monotonic()
    head = (await store.head()).position
    while reached < head and time.monotonic() - began < NAMED_SECONDS:
        found = await store.search(wanted, after=reached, until=head, limit=1)
        if found.events:
            return True
        reached = max(found.reached, reached + 1)
    return reached < head


async def _of_stream(store: EventStore, stream_id: str | None) -> str | None:
    if stream_id is None:
        return None
    kind, _, name = stream_id.partition("-")
    if kind == "session":
        return name
    if kind != "container":
        return None
    first = await store.read_stream(stream_id, limit=1)
    if not first:
        raise Refused("session-unknown", f"The log knows no session with a container {name}.")
    return session_of(first[0])


async def _of_actor(store: EventStore, actor: str | None) -> str | None:
    kind, _, name = (actor or "").partition(":")
    if kind not in (ActorKind.SESSION, ActorKind.CONTAINER) or not STREAM_ID.match(f"{kind}-{name}"):
        return None
    return await _of_stream(store, f"{kind}-{name}")


def one_session(events: Iterable[RecordedEvent]) -> str | None:
    """The session of what was found, when all of it that concerns a session concerns the same one."""
    sessions = {session_of(event) for event in events} - {None}
    return sessions.pop() if len(sessions) == 1 else None


async def last_event_id(call: Call) -> int | None:
    """Where the reader of a stream was. Raises Refused."""
    text = call.request.headers.get("last-event-id")
    return await place(call, text) if text else None


async def place(call: Call, text: str) -> int:
    """The position of an id. Raises Refused, also for one that no log of ours gave.

    A reader that also names the event it had there is refused when the log has another one. Our own ids are positions
    alone as long as a gateway of the release before, which takes nothing else, may be asked next.
    """
    if (given := _PLACE.match(text)) is None:
        raise Refused("bad-request", "after (or Last-Event-ID) must be a position of the log, or POSITION-EVENT_ID.")
    position = int(given["position"])
    await call.known_position(position)
    if given["event"] is not None:
        await _same_event(call, position, given["event"])
    return position


async def _same_event(call: Call, position: int, event_id: str) -> None:
    there = await call.services.store.read_log(after=position - 1, limit=1) if position else []
    if [str(event.event_id) for event in there if event.position == position] != [event_id]:
        raise Refused(
            "bad-request",
            f"At position {position} the log does not hold the event {event_id}: it is another log, or one that was "
            "restored. Begin again, from 0 or from a position before the restored one.",
        )


def _filter(call: Call) -> EventFilter:
    trace, correlation = call.text("trace"), call.text("correlation")
    if trace is not None and not names.is_trace(trace):
        raise Refused("bad-request", "The parameter trace must be the 32 hexadecimal digits of a trace id.")
    if correlation is not None and not names.is_uuid(correlation):
        raise Refused("bad-request", "The parameter correlation must be a UUID.")
    wanted = EventFilter(
        types=call.types(),
        stream_id=call.text("stream"),
        session_id=call.text("session"),
        actor=call.text("actor"),
        trace_id=None if trace is None else bytes.fromhex(trace),
        correlation_id=None if correlation is None else UUID(correlation),
    )
    _check(wanted)
    return wanted


def _check(wanted: EventFilter) -> None:
    """Refuse what no filter of ours can be, whoever says it: the query, or a cursor. Raises Refused."""
    if wanted.stream_id is not None and not names.is_stream(wanted.stream_id):
        raise Refused("bad-request", "The parameter stream is not the name of a stream.")
    if wanted.session_id is not None and not names.is_session(wanted.session_id):
        raise Refused("bad-request", "The parameter session is not the id of a session.")
    if wanted.actor is not None and not names.is_actor(wanted.actor):
        kinds = ", ".join(ActorKind)
        raise Refused("bad-request", f"The parameter actor must be the id of a key, or KIND:ID with one of {kinds}.")
    if wanted.causation_id is not None or not names.are_types(wanted.types) or len(wanted.trace_id or bytes(16)) != 16:
        raise Refused("bad-cursor", "The cursor has a filter that cannot be asked for. Begin again without it.")


async def _beginning(call: Call) -> int | None:
    if call.text("after") is not None and call.text("since") is not None:
        raise Refused("bad-request", "Give after or since, not both.")
    after, since = call.text("after"), call.text("since")
    if since is not None and not names.is_position(since):
        return await _moment(call, "since")
    text = since if after is None else after
    return None if text is None else await place(call, text)


async def _moment(call: Call, name: str) -> int | None:
    """A position or a time as a position: what was recorded by then lies up to it, what came later beyond."""
    text = call.text(name)
    if text is None:
        return None
    try:
        return await asof.resolve(call.services.store, text)
    except asof.BadMoment as error:
        raise Refused("bad-request", f"{name}: {error}.") from error
