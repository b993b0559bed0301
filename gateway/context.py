"""The request that the current task works for: its ids, session and route (spec row G2).

Set once by ``gateway/middleware.py``; tasks started within a request keep it, so that what they log and append can be
followed back. Who acts is not here: ``gateway/access/caller.py`` knows.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final
from uuid import UUID

import msgspec

from events import ids
from events.codec import Cause
from gateway import telemetry

REQUEST_ID_HEADER: Final = b"x-request-id"
_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_HEX: Final = "[0-9a-fA-F]"
_UUID: Final = re.compile(f"{_HEX}{{32}}|{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}")


class RequestContext(msgspec.Struct, frozen=True, kw_only=True):
    """One request. ``trace_id`` (16 bytes) and ``span_id`` (8 bytes) are those of its server span."""

    request_id: str
    correlation_id: UUID
    trace_id: bytes
    span_id: bytes
    session_id: str | None = None
    route: str | None = None


class _Slot:
    """Holds the newest RequestContext, so that middleware and every task of the request see the same one."""

    __slots__ = ("now",)

    def __init__(self, now: RequestContext) -> None:
        self.now = now


_slot: ContextVar[_Slot | None] = ContextVar("request", default=None)


@contextmanager
def begin(request: RequestContext) -> Iterator[None]:
    """Make ``request`` the current one within the block."""
    token = _slot.set(_Slot(request))
    try:
        yield
    finally:
        _slot.reset(token)


def current() -> RequestContext | None:
    """The request that this task works for; None outside of one."""
    slot = _slot.get()
    return slot.now if slot is not None else None


def request_id() -> str:
    """Its id; empty outside of a request."""
    slot = _slot.get()
    return slot.now.request_id if slot is not None else ""


def set_route(template: str) -> None:
    """Say which route of the table it is: the template, never the path. Without a request it does nothing."""
    _change(route=template)


def set_session(session_id: str) -> None:
    """Say which session it is about. Without a request it does nothing."""
    _change(session_id=session_id)


def cause() -> Cause:
    """What an event appended now comes from: this request, and the span that the task works in."""
    now, inner = current(), telemetry.current_ids()
    if now is None:
        trace_id, span_id = inner or (None, None)
        return Cause(trace_id=trace_id, span_id=span_id)
    trace_id, span_id = inner or (now.trace_id, now.span_id)
    return Cause(correlation_id=now.correlation_id, trace_id=trace_id, span_id=span_id)


def request_id_for(presented: Sequence[bytes], trace_id: bytes, *, began_here: bool) -> str:
    """The id of a request whose ``X-Request-ID`` lines are ``presented``.

    A single acceptable one is kept. Else it is the trace id when the request began that trace, so that one is found by
    the other; a trace from outside may span many requests, and the id is new.
    """
    if len(presented) == 1 and _ACCEPTED.fullmatch(text := presented[0].decode("latin-1")):
        return text
    return trace_id.hex() if began_here else ids.uuid7().hex


def correlation_id_of(request_id: str) -> UUID:
    """The UUID by which events name the request: itself when it is one, else derived from it."""
    return UUID(request_id) if _UUID.fullmatch(request_id) else ids.named("request", request_id)


def _change(**fields: str) -> None:
    slot = _slot.get()
    if slot is not None:
        slot.now = msgspec.structs.replace(slot.now, **fields)
