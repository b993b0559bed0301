"""A span as the gateway's code sees it, without an SDK behind it."""

from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags

from gateway.span import Span


def test_it_names_itself_as_the_parent_of_what_it_calls() -> None:
    context = SpanContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, False, TraceFlags(0x03))
    span = Span(NonRecordingSpan(context))
    assert span.traceparent == b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert (len(span.trace_id), len(span.span_id), span.tracestate) == (16, 8, b"")


def test_what_is_said_to_a_span_that_is_not_recorded_is_let_go() -> None:
    """Callers need not ask whether it is."""
    span = Span(INVALID_SPAN)
    span.set("http.route", "/sessions")
    span.rename("GET /sessions")
    span.positions(1, 2)
    span.event("opened")
    span.fail("500")
    assert not span.recording
