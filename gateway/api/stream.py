"""Server-sent events from the log (WHATWG HTML, 9.2): the id of an event is its position, so ``Last-Event-ID`` resumes.

History first, then live, without gap or double: a reader listens before it reads what was, and passes over what it has.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Final

import msgspec
from starlette.responses import Response, StreamingResponse

from events import codec
from events.catalogue import LogRead, Payload
from events.envelope import SYSTEM, RecordedEvent, container_stream, session_stream
from events.errors import StoreClosed, StoreUnavailable
from events.store import EventStore
from gateway.api import reads, shapes
from gateway.api.call import Call
from gateway.errors import Refused
from projections.listener import Listener, Told
from projections.session_state import SessionState

HEARTBEAT_SECONDS: Final = 15.0
PAGE: Final = 500
_ID: Final = re.compile(
    r"(?P<position>\d{1,18})(?:-(?P<event>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}))?\Z", re.ASCII
)
_STEPS: Final = ("session.", "container.", "token.")
_STEP_TYPES: Final = tuple(f"{family}*" for family in _STEPS)
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def _event_stream(
    call: Call, frames: AsyncGenerator[bytes, None], tell: Callable[[], Awaitable[object]]
) -> Response:
    """What cannot be read is refused here, before the first byte, and is not told as read.

    Whoever asks by HEAD gets no frames: behind them, nothing else would be answered on the connection.
    """
    try:
        first = await anext(frames)
        await tell()
    except BaseException:
        await frames.aclose()
        raise
    if call.request.method == "HEAD":
        await frames.aclose()
        return Response(media_type="text/event-stream", headers=_HEADERS)
    return StreamingResponse(_while_there(first, frames), media_type="text/event-stream", headers=_HEADERS)


async def _while_there(first: bytes, frames: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """End in order when the log goes away: the reader resumes by its last id."""
    async with aclosing(frames):
        yield first
        try:
            async for each in frames:
                yield each
        except (StoreUnavailable, StoreClosed):
            return


def frame(position: int, name: str, data: object) -> bytes:
    """One event on the wire."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (position, name.encode(), msgspec.json.encode(data))


def _opening(position: int) -> bytes:
    """An id without data: who is cut off before the first event resumes from here too."""
    return b"id: %d\n\n" % position


async def _resume_position(call: Call) -> int | None:
    """``Last-Event-ID``, or the parameter ``after``. Raises Refused, also for a position that no log of ours gave.

    A reader that also names the event it had there is refused when the log has another one. Our own ids are positions
    alone as long as a gateway of the release before, which takes nothing else, may be asked next.
    """
    text = call.request.headers.get("last-event-id") or call.request.query_params.get("after")
    if text is None:
        return None
    if (given := _ID.match(text)) is None:
        raise Refused("bad-request", "Last-Event-ID (or after) must be a position of the log, or POSITION-EVENT_ID.")
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


async def progress(call: Call) -> Response:
    """The steps of one session, from its first, or from the one after ``Last-Event-ID``."""
    session_id = (await call.services.access.session(call.session_id, call.caller)).session_id
    after = await _resume_position(call) or 0
    return await _event_stream(
        call,
        _steps(call, lambda state: state.session_id == session_id, after),
        lambda: reads.tell_sessions(call, "progress", session_id=session_id),
    )


async def own_sessions(call: Call) -> Response:
    """The steps of all sessions that the caller may see: from now on, or from the one after ``Last-Event-ID``."""
    after = await _resume_position(call)
    return await _event_stream(
        call,
        _steps(call, call.caller.may_see, call.services.views.position if after is None else after),
        lambda: reads.tell_sessions(call, "progress"),
    )


async def _steps(call: Call, told_of: Callable[[SessionState], bool], after: int) -> AsyncGenerator[bytes, None]:
    """The first frame comes when the log was read. Raises StoreUnavailable, also where there was nothing to read."""
    views = call.services.views

    def seen(session_id: str) -> bool:
        state = views.sessions.get(session_id)
        return state is not None and told_of(state)

    with views.listen() as listener:
        reached = max(after, views.position)
        # Asked for now that we listen: a session of a moment later, or its next container, is live.
        known = [state for state in views.sessions.values() if told_of(state)]
        await call.services.store.head()
        history = await _history(call, known, after, reached)
        yield _opening(after)
        for event in history:
            if step := _step(event, codec.decode(event), seen):
                yield step
        async for told in _live(listener, reached):
            if told is None:
                yield b": \n\n"
            elif step := _step(*told, seen):
                yield step


def _step(event: RecordedEvent, payload: Payload | codec.Unknown, seen: Callable[[str], bool]) -> bytes | None:
    if isinstance(payload, codec.Unknown) or not event.type.startswith(_STEPS):
        return None
    session_id = getattr(payload, "session_id", None)
    if session_id is None or not seen(session_id):
        return None
    return frame(event.position, event.type, shapes.progress(event, payload, session_id))


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


async def _live(listener: Listener, reached: int) -> AsyncIterator[Told | None]:
    """What comes after ``reached``; None as a heartbeat. Ends when the reader was too slow: it resumes by id."""
    while not listener.overrun:
        told = await listener.next(HEARTBEAT_SECONDS)
        if told is None or told[0].position > reached:
            yield told


async def follow(call: Call) -> Response:
    """The log as it grows, for auditors: from ``Last-Event-ID`` or ``after`` (default: from now on)."""
    after = await _resume_position(call)
    head = (await call.services.store.head()).position
    start = head if after is None else after
    types = call.types()
    read = LogRead(what="follow", after=start, types=types)
    return await _event_stream(
        call,
        _followed(call, start, types),
        lambda: call.services.recorder.fact(SYSTEM, read, who=call.caller.who, cause=call.cause),
    )


async def _followed(call: Call, after: int, types: tuple[str, ...]) -> AsyncGenerator[bytes, None]:
    store, loop_quiet = call.services.store, 0.0
    yield _opening(after)
    while True:
        head = (await store.head()).position
        page = await store.read_log(after=after, limit=PAGE, types=types)
        for view in await shapes.events(page, call.services.keyring):
            yield frame(view.position, view.type, view)
        if len(page) == PAGE:
            after = page[-1].position
            continue
        after = max(after, head, page[-1].position if page else 0)
        await store.wait_beyond(after, 1.0)
        loop_quiet = 0.0 if page else loop_quiet + 1.0
        if loop_quiet >= HEARTBEAT_SECONDS:
            loop_quiet = 0.0
            yield b": \n\n"
