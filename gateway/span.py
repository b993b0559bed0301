"""A span under way, as the gateway's code sees it. Begun and ended by ``gateway/telemetry.py``."""

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from gateway import trace_context

Value = str | bool | int | float | Sequence[str] | Sequence[int]

EVENT_POSITIONS: Final = "gateway.event.positions"
MAX_POSITIONS: Final = 128  # of one span; a unit of the log holds as many events


class Span:
    """A span under way. Without sampling it still has its ids; what is set on it is then let go."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def trace_id(self) -> bytes:
        return self._span.get_span_context().trace_id.to_bytes(16, "big")

    @property
    def span_id(self) -> bytes:
        return self._span.get_span_context().span_id.to_bytes(8, "big")

    @property
    def traceparent(self) -> bytes:
        """W3C trace context, version 00, with this span as the parent."""
        sampled = bool(self._span.get_span_context().trace_flags & TraceFlags.SAMPLED)
        return trace_context.traceparent(self.trace_id, self.span_id, sampled=sampled)

    @property
    def tracestate(self) -> bytes:
        """What the vendors of the caller's trace said; empty in a trace of our own."""
        return self._span.get_span_context().trace_state.to_header().encode("ascii")

    @property
    def recording(self) -> bool:
        return self._span.is_recording()

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, key: str, value: Value) -> None:
        self._span.set_attribute(key, value)

    def event(self, name: str, attributes: Mapping[str, Value] | None = None) -> None:
        """A moment within the span."""
        self._span.add_event(name, attributes)

    def positions(self, *positions: int) -> None:
        """Name events of the log that were appended within this span; at most MAX_POSITIONS are kept, the first."""
        if self._span.is_recording():
            known = (getattr(self._span, "attributes", None) or {}).get(EVENT_POSITIONS, ())
            self._span.set_attribute(EVENT_POSITIONS, (*known, *positions)[:MAX_POSITIONS])

    def fail(self, error_type: str) -> None:
        """The span's work failed: by the class of an error or a status code, never by a message."""
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))
