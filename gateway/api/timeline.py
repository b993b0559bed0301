"""The timeline of one session: its steps in order, with what went through it between them, and when nothing did.

For whom it may be seen by. Of other people's doings a frontend is told what happened to its session, not who did it.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from starlette.responses import Response

from events import codec
from events.filter import EventFilter
from events.store import EventStore
from gateway.access.roles import Role
from gateway.api import reads, session_list, shapes
from gateway.api.call import Call, answer
from gateway.api.shapes import EventView
from gateway.errors import Refused
from projections import timeline
from projections.timeline import Entry, Gap, Step, Timeline, Use

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
    """Exchanges and checks of health between two steps, added up; ``open``: begun and not ended by then."""

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


class GapView(msgspec.Struct, frozen=True, kw_only=True, tag="gap", tag_field="kind"):
    """Nothing for more than 5 minutes; of exchanges that were ``open`` their end tells."""

    at: datetime
    until: datetime
    lasted_us: int
    open: int


class TimelineView(msgspec.Struct, frozen=True, kw_only=True):
    """``reached``: null, or the position behind which reading had to end; what came after it is left out."""

    session_id: str
    position: int
    phase: str
    entries: list[StepView | UseView | GapView]
    reached: int | None


async def show(call: Call) -> Response:
    """The timeline up to now, or as of a position or time."""
    state = await call.services.access.session(call.session_id, call.caller)
    if reads.is_audit(call, "timeline"):
        reads.check(call, state.session_id)
    then = await session_list.then(call)
    store = call.services.store
    head = await store.head()
    until = head.position if then is None else then
    line = Timeline(state.session_id)
    whole = await _read(store, line, until, _families(call))
    if line.state is None:
        raise Refused("session-unknown", f"The session did not exist at position {until}.")
    now = (head.recorded_at if then is None else await _moment(store, until)) if whole else None
    document = TimelineView(
        session_id=state.session_id,
        position=until,
        phase=line.state.phase.value,
        entries=await _entries(call, line.finish(now)),
        reached=None if whole else line.reached,
    )
    await reads.tell_sessions(call, "timeline", until, state.session_id)
    return answer(document)


def _families(call: Call) -> tuple[str, ...]:
    """Who was refused is for those who read the log."""
    return timeline.FAMILIES if _is_owner(call) else (*timeline.FAMILIES, *timeline.DENIALS)


def _is_owner(call: Call) -> bool:
    return call.caller.role is Role.FRONTEND


async def _read(store: EventStore, line: Timeline, until: int, types: tuple[str, ...]) -> bool:
    """Page by page into the timeline; False when there was no room, or no time, for all."""
    wanted = EventFilter(session_id=line.session_id, types=types)
    after, ends = 0, time.monotonic() + SECONDS
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
