"""Streams of events: the steps of sessions, and the log as it grows. ``Last-Event-ID`` resumes them at a position.

History first, then live, without gap or double: a reader listens before it reads what was, and passes over what it has.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Final

from starlette.responses import Response

from events import codec
from events.catalogue import LogRead, Payload
from events.envelope import RecordedEvent, container_stream, session_stream
from events.store import EventStore
from gateway.access.keys import in_force
from gateway.api import event_query, events, reads, shapes, sse
from gateway.api.call import Call
from gateway.api.follows import Follow
from gateway.errors import Refused
from gateway.sessions.waiting import Lines, Place
from projections.listener import Folded, Listener
from projections.session_state import SessionState

PAGE: Final = 500
WAITING: Final = "session.waiting"  # of no log: the place of a session that waits for its boot
_STEPS: Final = ("session.", "container.", "token.")
_STEP_TYPES: Final = tuple(f"{family}*" for family in _STEPS)


async def _resume_position(call: Call) -> int | None:
    """``Last-Event-ID``, or the parameter ``after``. Raises Refused."""
    last = await event_query.last_event_id(call)
    after = call.text("after") if last is None else None
    return last if after is None else await event_query.place(call, after)


async def progress(call: Call) -> Response:
    """The steps of one session, from its first, or from the one after ``Last-Event-ID``."""
    session_id = (await call.services.access.session(call.session_id, call.caller)).session_id
    after = await _resume_position(call) or 0
    follow = _follow_steps(call, "progress", after, session_id)
    frames = _steps(call, lambda state: state.session_id == session_id, after, follow.reach, only=session_id)
    return await sse.event_stream(call.request, frames, follow.begin, ended=follow.end)


async def own_sessions(call: Call) -> Response:
    """The steps of all sessions that the caller may see: from now on, or from the one after ``Last-Event-ID``."""
    after = await _resume_position(call)
    after = call.services.views.position if after is None else after
    follow = _follow_steps(call, "all_progress", after, None)
    frames = _steps(call, call.caller.may_see, after, follow.reach)
    return await sse.event_stream(call.request, frames, follow.begin, ended=follow.end)


def _follow_steps(call: Call, what: str, after: int, session_id: str | None) -> Follow:
    return Follow(call, LogRead(what=what, after=after, session_id=session_id), is_told=reads.is_audit(call, what))


async def _steps(
    call: Call,
    shown: Callable[[SessionState], bool],
    after: int,
    reach: Callable[[int], None],
    *,
    only: str | None = None,
) -> AsyncGenerator[bytes, None]:
    """The first frame comes when the log was read. Raises StoreUnavailable, also where there was nothing to read."""
    views = call.services.views

    def seen(session_id: str) -> bool:
        state = views.sessions.get(session_id)
        return state is not None and shown(state)

    with views.listen() as listener:
        reached = max(after, views.position)
        # Asked for now that we listen: a session of a moment later, or its next container, is live.
        known = [state for state in views.sessions.values() if shown(state)]
        await call.services.store.head()
        history = await _history(call, known, after, reached)
        yield sse.place(after)
        reach(reached)
        for event in history:
            if step := _step(event, codec.decode(event), seen):
                yield step
        waiting = _Waiting(call.services.runner.lines, seen, only)
        for frame in waiting.news():
            yield frame
        async for new in _live(listener, reached):
            if not _may_go_on(call):
                return
            if new is None:
                yield b": \n\n"
                continue
            reach(new[0].position)
            if step := _step(*new, seen):
                yield step
            for frame in waiting.news():
                yield frame


class _Waiting:
    """What one reader was told of places in the line."""

    def __init__(self, lines: Lines, seen: Callable[[str], bool], only: str | None) -> None:
        self._lines, self._seen, self._only = lines, seen, only
        self._changes: int | None = None
        self._told: dict[str, Place] = {}

    def news(self) -> list[bytes]:
        """A frame for each place that is new; nothing, and no work, where no line has moved."""
        if self._lines.changes == self._changes:
            return []
        everyone = self._lines.places
        names = everyone if self._only is None else everyone.keys() & {self._only}
        now = {name: everyone[name] for name in names if self._seen(name)}
        self._changes, before, self._told = self._lines.changes, self._told, now
        return [sse.ephemeral(WAITING, place) for name, place in now.items() if before.get(name) != place]


def _step(event: RecordedEvent, payload: Payload | codec.Unknown, seen: Callable[[str], bool]) -> bytes | None:
    if isinstance(payload, codec.Unknown) or not event.type.startswith(_STEPS):
        return None
    session_id = getattr(payload, "session_id", None)
    if session_id is None or not seen(session_id):
        return None
    return sse.frame(event.position, event.type, shapes.progress(event, payload, session_id))


async def _history(call: Call, known: Iterable[SessionState], after: int, until: int) -> list[RecordedEvent]:
    """The steps of ``known`` sessions in (after, until], read from their own streams."""
    found = list[RecordedEvent]()
    for state in known:
        if state.position <= after:
            continue
        streams = [session_stream(state.session_id), *map(container_stream, state.containers)]
        for stream_id in streams:
            found += await _steps_of(call.services.store, stream_id, after)
    return sorted((event for event in found if event.position <= until), key=lambda event: event.position)


async def _steps_of(store: EventStore, stream_id: str, after: int) -> list[RecordedEvent]:
    found = list[RecordedEvent]()
    while page := await store.read_log(after=after, limit=PAGE, types=_STEP_TYPES, stream_id=stream_id):
        found += page
        after = page[-1].position
    return found


async def _live(listener: Listener, reached: int) -> AsyncIterator[Folded | None]:
    """What comes after ``reached``; None as a heartbeat. Ends when the reader was too slow: it resumes by id."""
    while not listener.overrun:
        new = await listener.next(sse.HEARTBEAT_SECONDS)
        if new is None or new[0].position > reached:
            yield new


async def follow(call: Call) -> Response:
    """The log as it grows, for auditors: from ``Last-Event-ID``, or where the query says (default: from now on)."""
    last, asked = await event_query.last_event_id(call), await event_query.asked(call)
    reads.demand(call, asked.narrow)
    if asked.until is not None:
        raise Refused("bad-request", "What has an end cannot be followed: this cursor is of a reading with until.")
    start = asked.after if last is None else last
    head = (await call.services.store.head()).position
    start = head if start is None else start
    follow = Follow(call, events.reading("follow", asked, start, None))
    frames = call.services.followers.follow(asked.wanted, start, allowed=lambda: _may_go_on(call), reach=follow.reach)
    return await sse.event_stream(call.request, frames, follow.begin, ended=follow.end, says_overrun=True)


def _may_go_on(call: Call) -> bool:
    """A stream ends when its reader's key was revoked, or has expired."""
    return in_force(call.caller.key_id, call.services.views, call.services.recorder.now())
