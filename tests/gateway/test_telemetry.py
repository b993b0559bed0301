"""Spans at a real OTLP receiver; and receivers that are dead, hung or refusing, which no work may wait for."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import telemetry
from gateway.telemetry import Telemetry, TelemetrySettings
from gateway.trace_context import Remote, extract
from tests.gateway import receivers
from tests.gateway.receivers import attributes, delivering, otlp

CALLER = Remote(bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"), bytes.fromhex("00f067aa0ba902b7"), True, b"rojo=1")


class Told(msgspec.Struct, frozen=True):
    """As a recorded event: names the span it was appended in."""

    trace_id: bytes | None
    span_id: bytes | None


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What ends in the test, in this process."""
    exporter = InMemorySpanExporter()
    with Telemetry(TelemetrySettings(), exporter=exporter).in_use():
        yield exporter


async def ended(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    used = telemetry._telemetry.get()
    assert used is not None
    assert await used.flush()
    await used.aclose()
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_a_span_reaches_a_real_receiver_whole() -> None:
    async with otlp() as (endpoint, receiver), delivering(endpoint, otel_service_name="gw-test"):
        with telemetry.span("outer", "server", {"http.route": "/sessions"}) as outer:
            arriving = receivers.arriving(receiver, outer)
            with telemetry.span("inner", "client") as inner:
                also_arriving = receivers.arriving(receiver, inner)
                telemetry.event_positions(41, 42)
                inner.positions(43)
        parent, got = await arriving, await also_arriving
    assert (got.name, got.trace_id, got.parent_span_id) == ("inner", outer.trace_id, outer.span_id)
    assert attributes(got) == {"gateway.event.positions": [41, 42, 43]}
    assert attributes(parent) == {"http.route": "/sessions"}
    assert (parent.kind, got.kind, parent.parent_span_id) == (2, 3, b"")


async def test_an_error_is_told_by_its_class_alone(spans: InMemorySpanExporter) -> None:
    """A message may hold what no tracing backend may see."""
    with pytest.raises(LookupError), telemetry.span("work"):
        raise LookupError("gwt_secret")
    span = (await ended(spans))["work"]
    assert dict(span.attributes or {}) == {"error.type": "LookupError"}
    assert (span.status.is_ok, span.status.description, list(span.events)) == (False, None, [])


async def test_a_cancellation_is_no_error(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        with telemetry.span("work"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    span = (await ended(spans))["work"]
    assert not span.attributes
    assert span.status.status_code.name == "UNSET"


async def test_a_span_continues_the_trace_of_the_event_it_carries_out(spans: InMemorySpanExporter) -> None:
    with telemetry.span("request") as request:
        told = Told(request.trace_id, request.span_id)
    with telemetry.span("elsewhere"), telemetry.span("carry-out", parent=told):
        pass
    with telemetry.span("bare", parent=Told(None, None)):
        pass
    found = await ended(spans)
    parent = found["carry-out"].parent
    assert parent is not None
    assert parent.span_id.to_bytes(8, "big") == told.span_id
    assert found["bare"].parent is None


async def test_a_root_is_linked_to_the_caller_that_is_not_trusted(spans: InMemorySpanExporter) -> None:
    with telemetry.span("around"), telemetry.span("request", root=True, linked=CALLER) as request:
        assert request.trace_id != CALLER.trace_id
    span = (await ended(spans))["request"]
    assert span.parent is None
    assert [link.context.span_id.to_bytes(8, "big") for link in span.links] == [CALLER.span_id]


def test_a_trusted_callers_trace_goes_on_with_its_choice_and_state() -> None:
    unsampled = Remote(CALLER.trace_id, CALLER.span_id, False, b"rojo=1")
    for caller in (CALLER, unsampled):
        with telemetry.span("request", parent=caller) as span:
            headers: list[tuple[bytes, bytes]] = []
            telemetry.inject(headers)
            assert span.recording is caller.sampled
        assert extract(headers) == Remote(CALLER.trace_id, span.span_id, caller.sampled, b"rojo=1")


def test_without_sampling_there_are_still_ids() -> None:
    """Logs, events and the answer's headers carry them."""
    unsampled = Telemetry(TelemetrySettings(otel_traces_sampler_ratio=0))
    with unsampled.in_use(), telemetry.span("request") as span:
        assert not span.recording
        assert any(span.trace_id)
        assert any(span.span_id)
        assert telemetry.current_ids() == (span.trace_id, span.span_id)
        span.positions(1)
        assert span.traceparent.endswith(b"-00")


def test_the_sdk_can_be_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    disabled = Telemetry(TelemetrySettings())
    with disabled.in_use(), telemetry.span("one") as one, telemetry.span("two", root=True) as two:
        assert any(one.trace_id)
        assert one.trace_id != two.trace_id


def test_outside_of_a_span_nothing_is_said() -> None:
    headers: list[tuple[bytes, bytes]] = []
    telemetry.inject(headers)
    telemetry.event_positions(1)
    assert (telemetry.current(), telemetry.current_ids(), headers) == (None, None, [])


async def test_positions_of_one_span_are_bounded(spans: InMemorySpanExporter) -> None:
    with telemetry.span("work") as span:
        for position in range(200):
            span.positions(position)
    told = ((await ended(spans))["work"].attributes or {})[telemetry.EVENT_POSITIONS]
    assert told == tuple(range(128))


@asynccontextmanager
async def bad_receiver(kind: str) -> AsyncIterator[str]:
    if kind == "refusing":
        async with receivers.refusing() as endpoint:
            yield endpoint
    elif kind == "overloaded":
        async with receivers.refusing(b"503 Service Unavailable") as endpoint:
            yield endpoint
    else:
        with receivers.dead() if kind == "dead" else receivers.hung() as endpoint:
            yield endpoint


@pytest.mark.parametrize("kind", ["dead", "hung", "refusing", "overloaded"])
async def test_no_work_waits_for_a_bad_receiver_and_none_fails(kind: str) -> None:
    """Bounded memory, and an end within its bound: spans are lost, and it is said how many."""
    async with bad_receiver(kind) as endpoint:
        used = Telemetry(receivers.settings(endpoint, otel_bsp_max_queue_size=64))
        longest = 0.0
        for _ in range(500):
            began = time.perf_counter()
            with used.in_use(), telemetry.span("request", "server"):
                pass
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(0)
        now = used.delivery()
        assert longest < 0.5 * telemetry.EXPORT_SECONDS, "a span waited for the receiver"
        assert now.waiting <= 64
        assert now.delivered == 0
        began = time.perf_counter()
        await used.aclose()
        assert time.perf_counter() - began < telemetry.CLOSE_SECONDS + 1.0
        gone = used.delivery()
        assert gone.failed + gone.dropped + gone.waiting <= 500
        assert gone.dropped + gone.failed > 0


async def test_failing_delivery_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    class Flaky(SpanExporter):
        works = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if not self.works:
                raise OSError("gone")
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

    caplog.set_level("INFO", "session_gateway.telemetry")
    exporter = Flaky()
    used = Telemetry(TelemetrySettings(), exporter=exporter)
    for works in (False, False, True, True):
        exporter.works = works
        with used.in_use(), telemetry.span("work"):
            pass
        assert await used.flush()
    assert await used.aclose()
    told = [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "INFO") and "spans" in r.getMessage()]
    assert told == ["spans cannot be delivered; they are dropped until they can", "spans are delivered again"]
    assert used.delivery() == telemetry.Delivery(waiting=0, delivered=2, failed=2, dropped=0)


async def test_what_waits_is_delivered_at_the_end() -> None:
    async with otlp() as (endpoint, receiver):
        used = Telemetry(TelemetrySettings(otel_exporter_otlp_endpoint=endpoint, otel_bsp_schedule_delay=60_000))
        with used.in_use(), telemetry.span("last") as last:
            arriving = receivers.arriving(receiver, last)
        assert used.delivery().waiting == 1
        assert await used.aclose()
        await arriving
    assert used.delivery() == telemetry.Delivery(waiting=0, delivered=1, failed=0, dropped=0)
