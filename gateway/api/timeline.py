"""The timeline of one session: its steps in order, with what went through it between them, and when nothing did.

For whom it may be seen by. Of other people's doings a frontend is told what happened to its session, not who did it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from starlette.responses import Response

from events import codec
from events.catalogue import LogRead
from events.filter import EventFilter
from events.mark import Mark
from events.store import EventStore
from gateway.access.roles import Role
from gateway.api import cursor as cursors
from gateway.api import reads, session_list, shapes
from gateway.api.call import Call, answer
from gateway.api.cursor import Cursor
from gateway.api.shapes import EventView
from gateway.errors import Refused
from projections import timeline
from projections.lifecycle import Phase
from projections.timeline import Carried, Entry, Gap, Step, Timeline, Use

PAGE: Final = 1000
SECONDS: Final = 10.0  # after which reading ends, and says where


class Doer(msgspec.Struct, frozen=True, kw_only=True):
    """Who did it. ``id`` and ``on_behalf_of`` are null where it is none of the reader's business."""

    kind: str
    id: str | None
    on_behalf_of: str | None


class StepView(msgspec.Struct, frozen=True, kw_only=True, tag="step", tag_field="kind"):
    """Something happened. ``phase`` and ``generation`` are those after it; no personal field, no credential."""

    position: int
    at: datetime
    since_us: int | None  # the step before
    type: str
    phase: str
    generation: int
    who: Doer
    reason: str | None
    facts: dict[str, Any]
    trace_id: str | None
    correlation_id: str | None
    late_us: int | None  # how long after it happened the log had it, when that was over 5 seconds


class UseView(msgspec.Struct, frozen=True, kw_only=True, tag="use", tag_field="kind"):
    """Exchanges, checks of health, denials and repeated looks at the token between two steps, added up.

    ``open``: begun and not ended by then. ``denials``: by reason, of anybody; none for a frontend.
    """

    first_position: int
    last_position: int
    at: datetime
    until: datetime
    exchanges: int
    failed: int
    open: int
    bytes_in: int
    bytes_out: int
    checks: int
    checks_failed: int
    revealed: int
    denials: Mapping[str, int]


class GapView(msgspec.Struct, frozen=True, kw_only=True, tag="gap", tag_field="kind"):
    """Nothing for more than 5 minutes; of exchanges that were ``open`` their end tells."""

    at: datetime
    until: datetime
    lasted_us: int
    open: int


class TimelineView(msgspec.Struct, frozen=True, kw_only=True):
    """Up to ``position``, with the phase there. ``complete``: that is all up to ``until``; else ``cursor`` goes on."""

    session_id: str
    position: int
    phase: str
    entries: list[StepView | UseView | GapView]
    until: int
    complete: bool
    cursor: str | None


class Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a timeline goes on; sealed as every cursor is."""

    at: Cursor
    carried: Carried


async def show(call: Call) -> Response:
    """The timeline up to now, or as of a position or time; or where the ``cursor`` of one goes on."""
    state = await call.services.access.session(call.session_id, call.caller)
    if reads.is_audit(call, "timeline"):
        reads.check(call, state.session_id)
    then, place = await session_list.then(call), await _place(call, state.session_id)
    if then is not None and place is not None:
        raise Refused("bad-request", "A cursor says where the timeline ends: leave out as_of.")
    store = call.services.store
    head = await store.head()
    after, until = (0, then) if place is None else (place.at.position, place.at.until)
    is_now = until is None
    until = head.position if until is None else until
    line = await _begun(store, state.session_id, place)
    whole = await _read(store, line, after, until, _families(call))
    if whole and line.state is None:
        raise Refused("session-unknown", f"The session did not exist at position {until}.")
    now = (head.recorded_at if is_now else await _moment(store, until)) if whole else None
    position = until if whole else line.reached
    document = TimelineView(
        session_id=state.session_id,
        position=position,
        phase=(Phase.ABSENT if line.state is None else line.state.phase).value,
        entries=await _entries(call, line.finish(now)),
        until=until,
        complete=whole,
        cursor=None if whole else await _cursor(call, line, until),
    )
    if reads.is_audit(call, "timeline"):
        await reads.tell(
            call, LogRead(what="timeline", after=after or None, until=position, session_id=line.session_id)
        )
    return answer(document)


async def _place(call: Call, session_id: str) -> Place | None:
    """Where the cursor that was given goes on. Raises Refused."""
    text = call.text("cursor")
    if text is None:
        return None
    place = cursors.decode(call.services.tokens, text, Place, of=_of(call, session_id))
    await cursors.verify(call.services.store, place.at)
    return place


async def _cursor(call: Call, line: Timeline, until: int) -> str:
    store = call.services.store
    there = await store.read_log(after=line.reached - 1, limit=1) if line.reached else []
    at = Cursor(
        log_id=store.log_id,
        position=line.reached,
        mark=Mark.of(there[0]) if there else None,
        until=until,
        wanted=EventFilter(session_id=line.session_id),
    )
    place = Place(at=at, carried=line.carried)
    return cursors.encode(call.services.tokens, place, of=_of(call, line.session_id))


def _of(call: Call, session_id: str) -> str:
    """A frontend's goes on for frontends: it was made of less."""
    return f"timeline/{'own' if _is_owner(call) else 'all'}/{session_id}"


async def _begun(store: EventStore, session_id: str, place: Place | None) -> Timeline:
    """Empty, or as it was where it goes on; for that few events are read, however much went through the session."""
    if place is None:
        return Timeline(session_id)
    line = Timeline(session_id, carried=place.carried)
    wanted, after = EventFilter(session_id=session_id, types=timeline.STATE), 0
    while after < place.at.position:
        found = await store.search(wanted, after=after, until=place.at.position, limit=PAGE)
        await asyncio.sleep(0)
        line.recall(found.events)
        if found.reached <= after:
            break
        after = found.reached
    line.reached = place.at.position
    return line


def _families(call: Call) -> tuple[str, ...]:
    """Who was refused is for those who read the log."""
    return timeline.FAMILIES if _is_owner(call) else (*timeline.FAMILIES, *timeline.DENIALS)


def _is_owner(call: Call) -> bool:
    return call.caller.role is Role.FRONTEND


async def _read(store: EventStore, line: Timeline, after: int, until: int, types: tuple[str, ...]) -> bool:
    """Page by page into the timeline; False when there was no room, or no time, for all."""
    wanted = EventFilter(session_id=line.session_id, types=types)
    ends = time.monotonic() + SECONDS
    while after < until:
        found = await store.search(wanted, after=after, until=until, limit=PAGE)
        await asyncio.sleep(0)  # a log in memory never waits, and others want their turn
        if not line.add(found.events):
            return False
        if found.reached <= after:
            break
        after = line.reached = found.reached
        if after < until and time.monotonic() > ends:
            return False
    return True


async def _moment(store: EventStore, position: int) -> datetime | None:
    page = await store.read_log(after=position - 1, limit=1) if position else []
    return page[0].recorded_at if page else None


async def _entries(call: Call, entries: Sequence[Entry]) -> list[StepView | UseView | GapView]:
    events = [entry.event for entry in entries if isinstance(entry, Step)]
    views = {view.position: view for view in await shapes.events(events, call.services.keyring)}
    return [_entry(call, entry, views) for entry in entries]


def _entry(call: Call, entry: Entry, views: dict[int, EventView]) -> StepView | UseView | GapView:
    match entry:
        case Step():
            return _step(call, entry, views[entry.event.position])
        case Use():
            return UseView(
                first_position=entry.first.position,
                last_position=entry.last.position,
                at=entry.first.recorded_at,
                until=entry.last.recorded_at,
                exchanges=entry.exchanges,
                failed=entry.failed,
                open=entry.open,
                bytes_in=entry.bytes_in,
                bytes_out=entry.bytes_out,
                checks=entry.checks,
                checks_failed=entry.checks_failed,
                revealed=entry.revealed,
                denials=entry.denials,
            )
        case Gap():
            lasted = entry.until - entry.since
            return GapView(at=entry.since, until=entry.until, lasted_us=shapes.microseconds(lasted), open=entry.open)


def _step(call: Call, step: Step, view: EventView) -> StepView:
    event = step.event
    facts: dict[str, Any] = {}
    if not isinstance(step.payload, codec.Unknown):
        facts = shapes.progress(event, step.payload, call.session_id).facts
    reason = facts.pop("reason", None)
    return StepView(
        position=event.position,
        at=event.recorded_at,
        since_us=None if step.since is None else shapes.microseconds(step.since),
        type=event.type,
        phase=step.phase.value,
        generation=step.generation,
        who=_doer(call, view.actor),
        reason=reason if isinstance(reason, str) else None,
        facts=facts,
        trace_id=view.trace_id,
        correlation_id=view.correlation_id,
        late_us=shapes.late_us(event),
    )


def _doer(call: Call, actor: dict[str, Any]) -> Doer:
    """A frontend is told of itself and its users; that somebody else's key, or a person at the machine, did it."""
    kind = str(actor["kind"])
    if _is_owner(call) and kind not in ("session", "container") and actor.get("key_id") != call.caller.key_id:
        return Doer(kind=kind, id=None, on_behalf_of=None)
    return Doer(kind=kind, id=actor["id"], on_behalf_of=actor["on_behalf_of"])
