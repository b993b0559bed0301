"""Why: what led to an event, a session, a request or a trace, and what they led to, as a tree. Recorded as a read."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
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
from gateway import context, names
from gateway.api import events, reads, shapes
from gateway.api.call import Call
from gateway.api.shapes import EventView
from gateway.errors import Refused
from projections import causation, related
from projections.causation import Group, Link, Node, Tree
from projections.related import Related

MOST_TRACES: Final = 20
MOST_SHOWN: Final = 2000  # events, each with its payload opened
PROBE: Final = 100  # events that are looked at before a purpose is asked for
STEP: Final = 100  # events that are shaped at once: a few milliseconds
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


class _Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, found and not yet read. ``event``, or ``wanted``. ``session_id``: a session it is about."""

    asked: Asked
    session_id: str | None
    event: RecordedEvent | None = None
    wanted: EventFilter = EventFilter()


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
    """Not all is there. ``reason``: events, sessions, lookups, time: not all was read; shown: ``after`` goes on."""

    reason: str
    reached: int | None  # of what was asked for, everything up to here is there; None: all of it
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
    if not _names_event(given):
        raise Refused("bad-request", "An event is named by its id (a UUID) or by its position.")
    return await _why(call, "event", given)


async def of_any(call: Call) -> Response:
    """Of whatever ``of`` names: an event's id or position, a session, a request, a trace; ``KIND:ID`` says which."""
    found = names.KINDED.fullmatch(call.text("of") or "")
    if found is None:
        raise Refused(
            "bad-request", "The parameter of names an event, session, request or trace: ID, or KIND:ID as request:ID."
        )
    return await _why(call, found["kind"], found["id"])


async def _why(call: Call, kind: str | None, given: str) -> Response:
    after = _after(call)
    found = await _sought(call, kind, given)
    if found is not None:
        reads.check(call, found.session_id)
    async with call.services.whys.taken():
        return Response(await _answer(call, found, kind, given, after), media_type="application/json")


async def _answer(call: Call, found: _Sought | None, kind: str | None, given: str, after: int | None) -> bytes:
    """The answer, with its reading told. ``after``: beyond which position every event is shown; None: sums of many."""
    until = (await call.services.store.head()).position
    read = None if found is None else await _read(call.services.store, found, until)
    if found is None or read is None or not read.events:
        told = f"the {kind} {given}" if kind else given
        raise Refused("event-unknown", f"No event of the log up to position {until} has to do with {told}.")
    sessions = sorted({session for event in read.events if (session := session_of(event)) is not None})
    reads.check(call, next(iter(sessions), None))
    # Ten thousand events take a part of a second to order and to write down: beside the loop, which others wait for.
    tree, cut = await asyncio.to_thread(_tree, read, after)
    views = await _views(list(_events(tree.roots)), call.services.keyring)
    body = await asyncio.to_thread(_shaped, found.asked, read, tree, views, until=until, sessions=sessions, cut=cut)
    # At once: the writer makes one batch of them, and none waits for the one before.
    about: list[str | None] = [*sessions] or [None]
    await asyncio.gather(*(reads.tell(call, _told(found, session_id, until)) for session_id in about))
    return body


def _tree(read: Related, after: int | None) -> tuple[Tree, WhyCut | None]:
    """No more than MOST_SHOWN events that are shown singly, beside what led to them."""
    cut = read.cut
    told = None if cut is None else WhyCut(reason=cut.reason, reached=cut.reached, unsearched=cut.unsearched)
    if after is None:
        for fold_over in (causation.FOLD_OVER, 1, 0):
            tree = causation.tree(read.events, asked=read.asked, unread=read.unread, fold_over=fold_over)
            if sum(1 for _ in _events(tree.roots)) <= MOST_SHOWN:
                break
        return tree, told
    part = causation.part(read.events, after=after, most=MOST_SHOWN, asked=read.asked)
    if part.reached is not None:
        told = WhyCut(reason="shown", reached=part.reached, unsearched=0 if cut is None else cut.unsearched)
    return causation.tree(part.events, asked=read.asked, unread=read.unread | part.left_out, fold_over=None), told


def _after(call: Call) -> int | None:
    """Beyond which position every event is to be shown singly; None when they are not. Raises Refused."""
    match call.text("all"):
        case None | "false" if call.text("after") is None:
            return None
        case None | "false":
            raise Refused("bad-request", "The parameter after goes on with all=true.")
        case "true":
            return call.number("after", 0)
    raise Refused("bad-request", "The parameter all is true or false.")


def _told(found: _Sought, session_id: str | None, until: int) -> LogRead:
    """The reading as the access history of one session has it: what was asked for, by the field that names it."""
    asked, event = found.asked, found.event
    if event is not None:
        return LogRead(
            what="why",
            after=event.position - 1,
            until=event.position,
            types=(event.type,),
            stream=event.stream_id if session_of(event) == session_id else None,
            session_id=session_id,
        )
    return LogRead(
        what="why",
        until=until,
        session_id=session_id,
        trace_id=asked.id if asked.kind == "trace" else None,
        correlation_id=str(context.correlation_id_of(asked.id)) if asked.kind == "request" else None,
    )


async def _sought(call: Call, kind: str | None, given: str) -> _Sought | None:
    """What ``given`` names; looked for in this order when no kind says which."""
    store = call.services.store
    if kind in (None, "event") and (event := await _event(call, given)) is not None:
        return _Sought(asked=Asked(kind="event", id=str(event.event_id)), session_id=session_of(event), event=event)
    if kind in (None, "session") and await _is_session(store, given):
        asked = Asked(kind="session", id=given)
        return _Sought(asked=asked, session_id=given, wanted=EventFilter(session_id=given))
    if kind in (None, "request"):
        found = await _probed(store, "request", given, EventFilter(correlation_id=context.correlation_id_of(given)))
        if found is not None:
            return found
    if kind in (None, "trace") and names.is_trace(given):
        return await _probed(store, "trace", given.lower(), EventFilter(trace_id=bytes.fromhex(given)))
    return None


async def _probed(store: EventStore, kind: str, given: str, wanted: EventFilter) -> _Sought | None:
    """A request or a trace, with a session that comes early in it; None when the log has nothing of it."""
    head = (await store.head()).position
    probe = await events.search(store, wanted, 0, head, PROBE)
    if not probe.events and probe.reached >= head:
        return None
    session_id = next((session for event in probe.events if (session := session_of(event)) is not None), None)
    return _Sought(asked=Asked(kind=kind, id=given), session_id=session_id, wanted=wanted)


async def _read(store: EventStore, found: _Sought, until: int) -> Related:
    if found.event is not None:
        return await related.of_event(store, found.event, until=until)
    first = related.STEPS if found.asked.kind == "session" else ()
    return await related.of(store, found.wanted, until=until, first=first)


async def _is_session(store: EventStore, given: str) -> bool:
    stream_id = session_stream(given)
    return STREAM_ID.match(stream_id) is not None and bool(await store.read_stream(stream_id, limit=1))


def _names_event(given: str) -> bool:
    return names.is_position(given) or names.is_uuid(given)


async def _event(call: Call, given: str) -> RecordedEvent | None:
    try:
        return await events.one(call, given) if _names_event(given) else None
    except Refused as refused:
        if refused.slug != "event-unknown":
            raise
        return None


async def _views(shown: Sequence[RecordedEvent], keyring: Keyring) -> dict[UUID, EventView]:
    """Personal fields opened; the loop turns after each few."""
    views: dict[UUID, EventView] = {}
    for start in range(0, len(shown), STEP):
        step = shown[start : start + STEP]
        views |= zip((event.event_id for event in step), await shapes.events(step, keyring), strict=True)
        await asyncio.sleep(0)
    return views


def _shaped(
    asked: Asked,
    read: Related,
    tree: Tree,
    views: Mapping[UUID, EventView],
    *,
    until: int,
    sessions: list[str],
    cut: WhyCut | None,
) -> bytes:
    traces = dict.fromkeys(view.trace_id for view in views.values() if view.trace_id is not None)
    document = Why(
        asked=asked,
        position=until,
        events=len(read.events),
        sessions=sessions,
        trace_ids=list(traces)[:MOST_TRACES],
        roots=[_node(node, views, read.asked) for node in tree.roots],
        more=list(map(_group, tree.groups)),
        cut=cut,
    )
    return msgspec.json.encode(document)


def _events(nodes: Iterable[Node]) -> Iterable[RecordedEvent]:
    """Of a tree that is at most ``causation.MAX_DEPTH`` deep."""
    for node in nodes:
        yield node.event
        yield from _events(node.children)


def _node(node: Node, views: Mapping[UUID, EventView], asked: frozenset[UUID]) -> WhyNode:
    event = node.event
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
        late_us=shapes.late_us(event),
        children=[_node(child, views, asked) for child in node.children],
        more=list(map(_group, node.groups)),
    )


def _reason(view: EventView) -> str | None:
    reason = view.payload.get("reason") or view.payload.get("error")
    return reason if isinstance(reason, str) else None


def _us(duration: timedelta | None) -> int | None:
    return None if duration is None else shapes.microseconds(duration)


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
