"""Why: what led to an event, a session, a request or a trace, and what they led to, as a tree. Recorded as a read."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from events.catalogue import LogRead
from events.envelope import STREAM_ID, RecordedEvent, session_stream
from events.filter import EventFilter, session_of
from events.keyring import Keyring
from events.store import EventStore
from gateway import context
from gateway.api import reads, shapes
from gateway.api.call import Call
from gateway.api.shapes import EventView
from gateway.errors import Refused
from projections import causation, related
from projections.causation import Group, Link, Node, Tree
from projections.related import Related

LATE: Final = timedelta(seconds=5)  # between what happened and its place in the log: it had waited in a spool
MOST_TRACES: Final = 20
STEP: Final = 100  # events that are shaped at once: a few milliseconds
_KINDED: Final = re.compile(r"(?:(?P<kind>event|session|request|trace):)?(?P<id>[0-9A-Za-z._-]{1,128})", re.ASCII)
_POSITION: Final = re.compile(r"\d{1,18}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TRACE: Final = re.compile(r"[0-9a-fA-F]{32}")
_NOTES: Final = {
    Link.MISSING: "Its cause {cause} is not in the log.",
    Link.UNREAD: "Its cause {cause} was not looked for: reading had to end.",
    Link.CYCLE: "Its causes lead back to itself; the first of them in the log is shown first.",
    Link.FURTHER: "Caused by {cause}, beside which it stands: the chain is too deep to be shown as one.",
}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the tree is of. ``kind``: event, session, request, trace."""

    kind: str
    id: str


class WhyGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one type beside each other, as one; ``events`` counts what they led to, too. ``all`` shows each."""

    type: str
    count: int
    events: int
    first_position: int
    first_at: datetime
    last_position: int
    last_at: datetime


class WhyNode(msgspec.Struct, frozen=True, kw_only=True):
    """An event and what it led to. Durations are the log's, in microseconds."""

    event: EventView
    asked: bool  # the one that was asked for
    link: str  # cause, further, root, missing, unread, cycle
    note: str | None  # what ``link`` means for this one, in a sentence
    reason: str | None  # its own word for why
    since_cause_us: int | None  # below zero when the log had the effect first
    lasted_us: int | None  # until its own end, or as it says itself
    ended_by: int | None  # the position of that end
    late_us: int | None  # how long after it happened the log had it, when that was over 5 seconds
    children: "list[WhyNode]"
    more: list[WhyGroup]


class WhyCut(msgspec.Struct, frozen=True, kw_only=True):
    """Not all was read. ``reason``: events, lookups, time."""

    reason: str
    reached: int | None  # of what was asked for, everything up to here was read; None: all of it
    unsearched: int  # events of which nobody looked for what they led to


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Roots first, each with what it led to, in the order of the log; what comes after ``position`` is not in it."""

    asked: Asked
    position: int
    events: int
    sessions: list[str]
    trace_ids: list[str]  # of the events that are shown, 20 at most
    roots: list[WhyNode]
    more: list[WhyGroup]
    cut: WhyCut | None


async def of_event(call: Call) -> Response:
    """Of one event, by its id or its position."""
    given = str(call.request.path_params["event_id"])
    if not (_POSITION.fullmatch(given) or _UUID.fullmatch(given)):
        raise Refused("bad-request", "An event is named by its id (a UUID) or by its position.")
    return await _why(call, "event", given)


async def of_any(call: Call) -> Response:
    """Of whatever ``of`` names: an event's id or position, a session, a request, a trace; ``KIND:ID`` says which."""
    found = _KINDED.fullmatch(call.text("of") or "")
    if found is None:
        raise Refused(
            "bad-request", "The parameter of names an event, session, request or trace: ID, or KIND:ID as request:ID."
        )
    return await _why(call, found["kind"], found["id"])


async def _why(call: Call, kind: str | None, given: str) -> Response:
    fold_over = None if _all(call) else causation.FOLD_OVER
    store = call.services.store
    until = (await store.head()).position
    found = await _found(store, kind, given, until)
    if found is None:
        told = f"the {kind} {given}" if kind else given
        raise Refused("event-unknown", f"No event of the log up to position {until} has to do with {told}.")
    asked, read = found
    # Ten thousand events take a part of a second to order and to write down: beside the loop, which others wait for.
    tree = await asyncio.to_thread(
        causation.tree, read.events, asked=read.asked, unread=read.unread, fold_over=fold_over
    )
    views = await _views(list(_events(tree.roots)), call.services.keyring)
    document, body = await asyncio.to_thread(_shaped, asked, read, tree, views, until)
    await _tell(call, asked, _about(asked, read, document.sessions), until)
    return Response(body, media_type="application/json")


def _all(call: Call) -> bool:
    match call.text("all"):
        case None | "false":
            return False
        case "true":
            return True
    raise Refused("bad-request", "The parameter all is true or false.")


def _about(asked: Asked, read: Related, sessions: Sequence[str]) -> str | None:
    """The one session that is read: the one that was asked for, that of the event, or the only one that there is."""
    if asked.kind == "session":
        return asked.id
    of_event = [session_of(event) for event in read.events if event.event_id in read.asked]
    return next((each for each in of_event if each is not None), sessions[0] if len(sessions) == 1 else None)


async def _tell(call: Call, asked: Asked, session_id: str | None, until: int) -> None:
    told = LogRead(
        what="why",
        until=until,
        session_id=session_id,
        trace_id=asked.id if asked.kind == "trace" else None,
        correlation_id=str(context.correlation_id_of(asked.id)) if asked.kind == "request" else None,
    )
    await reads.tell(call, told)


async def _found(store: EventStore, kind: str | None, given: str, until: int) -> tuple[Asked, Related] | None:
    """What ``given`` names, with what belongs to it; tried in this order when no kind says which."""
    if kind in (None, "event"):
        event = await _event(store, given, until)
        if event is not None:
            return Asked(kind="event", id=str(event.event_id)), await related.of_event(store, event, until=until)
    if kind == "session" or (kind is None and await _is_session(store, given)):
        read = await related.of(store, EventFilter(session_id=given), until=until, first=related.STEPS)
        if read.events:
            return Asked(kind="session", id=given), read
    if kind in (None, "request"):
        read = await related.of(store, EventFilter(correlation_id=context.correlation_id_of(given)), until=until)
        if read.events:
            return Asked(kind="request", id=given), read
    if kind in (None, "trace") and _TRACE.fullmatch(given):
        read = await related.of(store, EventFilter(trace_id=bytes.fromhex(given)), until=until)
        if read.events:
            return Asked(kind="trace", id=given.lower()), read
    return None


async def _is_session(store: EventStore, given: str) -> bool:
    stream_id = session_stream(given)
    return STREAM_ID.match(stream_id) is not None and bool(await store.read_stream(stream_id, limit=1))


async def _event(store: EventStore, given: str, until: int) -> RecordedEvent | None:
    if _UUID.fullmatch(given):
        found = await store.find(UUID(given))
        return found if found is not None and found.position <= until else None
    if not _POSITION.fullmatch(given) or not 1 <= int(given) <= until:
        return None
    page = await store.read_log(after=int(given) - 1, limit=1)
    return page[0] if page else None


async def _views(shown: Sequence[RecordedEvent], keyring: Keyring) -> dict[UUID, EventView]:
    """Personal fields opened; the loop turns after each few."""
    views: dict[UUID, EventView] = {}
    for start in range(0, len(shown), STEP):
        step = shown[start : start + STEP]
        views |= zip((event.event_id for event in step), await shapes.events(step, keyring), strict=True)
        await asyncio.sleep(0)
    return views


def _shaped(asked: Asked, read: Related, tree: Tree, views: dict[UUID, EventView], until: int) -> tuple[Why, bytes]:
    traces = dict.fromkeys(view.trace_id for view in views.values() if view.trace_id is not None)
    sessions = {session_of(event) for event in read.events} - {None}
    cut = read.cut
    document = Why(
        asked=asked,
        position=until,
        events=tree.events,
        sessions=sorted(map(str, sessions)),
        trace_ids=list(traces)[:MOST_TRACES],
        roots=[_node(node, views, read.asked) for node in tree.roots],
        more=list(map(_group, tree.groups)),
        cut=None if cut is None else WhyCut(reason=cut.reason, reached=cut.reached, unsearched=cut.unsearched),
    )
    return document, msgspec.json.encode(document)


def _events(nodes: Iterable[Node]) -> Iterable[RecordedEvent]:
    """Of a tree that is at most ``causation.MAX_DEPTH`` deep."""
    for node in nodes:
        yield node.event
        yield from _events(node.children)


def _node(node: Node, views: dict[UUID, EventView], asked: frozenset[UUID]) -> WhyNode:
    event = node.event
    late = event.recorded_at - event.occurred_at
    view = views[event.event_id]
    note = _NOTES.get(node.link)
    return WhyNode(
        event=view,
        asked=event.event_id in asked,
        link=node.link.value,
        note=None if note is None else note.format(cause=event.causation_id),
        reason=_reason(view),
        since_cause_us=_us(node.since_cause),
        lasted_us=_us(node.lasted),
        ended_by=None if node.ended_by is None else node.ended_by.position,
        late_us=_us(late) if late > LATE else None,
        children=[_node(child, views, asked) for child in node.children],
        more=list(map(_group, node.groups)),
    )


def _reason(view: EventView) -> str | None:
    reason = view.payload.get("reason") or view.payload.get("error")
    return reason if isinstance(reason, str) else None


def _us(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(microseconds=1)


def _group(group: Group) -> WhyGroup:
    return WhyGroup(
        type=group.type,
        count=group.count,
        events=group.events,
        first_position=group.first.position,
        first_at=group.first.recorded_at,
        last_position=group.last.position,
        last_at=group.last.recorded_at,
    )
