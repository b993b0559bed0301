"""Spans, and where gauges are delivered: the only door to the OpenTelemetry SDK (spec row G3).

Spans are written by hand: an ASGI instrumentation costs five to ten times as much. Delivery is a background thread
behind a bounded queue, so a receiver that is dead, hung or refusing costs spans, never a request. The exporter's own
variables (OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE, _COMPRESSION) are read by the exporter itself.

No attribute carries a token, a body, a query value or a person: exceptions are told by their class alone.
"""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal, Protocol

import msgspec
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from gateway import trace_context
from gateway.span import EVENT_POSITIONS as EVENT_POSITIONS
from gateway.span import Span as Span
from gateway.span import Value
from gateway.telemetry_settings import TelemetrySettings as TelemetrySettings
from gateway.trace_context import Header, Remote

Kind = Literal["internal", "server", "client", "producer", "consumer"]

EXPORT_SECONDS: Final = 5.0  # for one batch, retries included
CLOSE_SECONDS: Final = 2.0
_ROOT: Final = otel_context.Context()
_IDS: Final = RandomIdGenerator()
_SDK_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
)
log = logging.getLogger("session_gateway.telemetry")


class HasTrace(Protocol):
    """Whatever names the span it came from, as a recorded event does."""

    @property
    def trace_id(self) -> bytes | None: ...
    @property
    def span_id(self) -> bytes | None: ...


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the ended, sampled spans."""

    waiting: int
    delivered: int
    failed: int  # the receiver did not take them
    dropped: int  # the queue was full


class Telemetry:
    """One process's tracer and meter. Nothing global: it counts where it is ``in_use``.

    Without an endpoint (and without ``exporter``) spans exist in this process only, with ids for logs and events.
    """

    def __init__(self, settings: TelemetrySettings, *, exporter: SpanExporter | None = None) -> None:
        self.settings = settings
        self._ratio = TraceIdRatioBased(settings.otel_traces_sampler_ratio)
        # Without shutdown_on_exit: the SDK's own exit handler may wait 30 s for a receiver that hangs.
        resource = Resource.create({"service.name": settings.otel_service_name})
        self._provider = TracerProvider(sampler=ParentBased(self._ratio), resource=resource, shutdown_on_exit=False)
        self._meters = _meters(settings, resource) if settings.otel_exporter_otlp_endpoint else None
        self.meter = (self._meters or metrics.NoOpMeterProvider()).get_meter("session_gateway")
        if exporter is None and settings.otel_exporter_otlp_endpoint:
            exporter = _otlp(settings.otel_exporter_otlp_endpoint)
        self._deliverer = None if exporter is None else _Deliverer(exporter, settings.otel_bsp_max_queue_size)
        self._processor = None if self._deliverer is None else _Processor(self._deliverer, settings)
        if self._processor is not None:
            self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("session_gateway")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within the block, make this the telemetry of the calling context and of the tasks made there."""
        before = _telemetry.get()
        _telemetry.set(self)
        try:
            yield
        finally:
            _telemetry.set(before)

    def delivery(self) -> Delivery:
        """How delivery goes. All zero without a receiver."""
        return Delivery(waiting=0, delivered=0, failed=0, dropped=0) if self._deliverer is None else self._deliverer()

    async def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Deliver what waits now; False when that took longer than ``seconds``, and goes on behind."""
        return self._processor is None or await _in_thread(self._processor.force_flush, seconds)

    async def aclose(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Deliver what waits, for at most ``seconds``, and stop. False: spans were lost, or the receiver hangs."""
        gauges, closed = await asyncio.gather(self._close_meters(seconds), self._close_spans(seconds))
        return gauges and closed

    async def _close_meters(self, seconds: float) -> bool:
        """With the figures as they are at the end."""
        return self._meters is None or await _in_thread(
            functools.partial(self._meters.shutdown, seconds * 1000), seconds
        )

    async def _close_spans(self, seconds: float) -> bool:
        if self._processor is None or self._deliverer is None:
            return True
        self._deliverer.last_moment = time.monotonic() + seconds
        closed = await _in_thread(self._processor.shutdown, seconds)
        self._deliverer.stop()
        return closed and not self._deliverer().waiting

    def start(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        attributes: Mapping[str, Value] | None = None,
        parent: HasTrace | Remote | None = None,
        root: bool = False,
        linked: Remote | None = None,
    ) -> trace.Span:
        """Begin a span of the SDK; the caller ends it. ``span`` is the usual way."""
        where = _ROOT if root else self._parent(parent)
        links = (Link(_context_of(linked)),) if linked is not None else ()
        began = self._tracer.start_span(
            name,
            where,
            kind=SpanKind[kind.upper()],
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )
        if began.get_span_context().is_valid:
            return began
        # OTEL_SDK_DISABLED: logs and events still need ids.
        flags, state = TraceFlags(TraceFlags.DEFAULT), trace.TraceState()
        return NonRecordingSpan(
            SpanContext(_IDS.generate_trace_id(), _IDS.generate_span_id(), False, flags, state),
        )

    def _parent(self, parent: HasTrace | Remote | None) -> otel_context.Context | None:
        if parent is None or parent.trace_id is None or parent.span_id is None:
            return None
        if not isinstance(parent, Remote):
            # An event does not say whether its trace is recorded; the ratio decides the same for the same trace id.
            number = int.from_bytes(parent.trace_id, "big")
            sampled = self._ratio.should_sample(None, number, "").decision is Decision.RECORD_AND_SAMPLE
            parent = Remote(parent.trace_id, parent.span_id, sampled)
        return trace.set_span_in_context(NonRecordingSpan(_context_of(parent)), _ROOT)


@functools.cache
def _by_itself() -> Telemetry:
    """Where nobody said otherwise: spans with ids, delivered nowhere."""
    return Telemetry(TelemetrySettings())


_telemetry: ContextVar[Telemetry | None] = ContextVar("telemetry", default=None)


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Value] | None = None,
    *,
    parent: HasTrace | Remote | None = None,
    root: bool = False,
    linked: Remote | None = None,
) -> Iterator[Span]:
    """A span around the block; the current one within it.

    Its parent is the current span, or ``parent`` when that names one, or none with ``root``. An exception is told as
    ``error.type`` and passes; a cancellation is no error.
    """
    telemetry = _telemetry.get() or _by_itself()
    began = telemetry.start(name, kind=kind, attributes=attributes, parent=parent, root=root, linked=linked)
    token = otel_context.attach(trace.set_span_in_context(began))
    wrapped = Span(began)
    try:
        yield wrapped
    except Exception as error:
        wrapped.fail(type(error).__qualname__)
        raise
    finally:
        otel_context.detach(token)
        began.end()


def current() -> Span | None:
    """The span that this task works in; None outside of one."""
    found = trace.get_current_span()
    return Span(found) if found.get_span_context().is_valid else None


def current_ids() -> tuple[bytes, bytes] | None:
    """Trace id and span id of the current span."""
    found = current()
    return (found.trace_id, found.span_id) if found is not None else None


def meter() -> metrics.Meter:
    """Where gauges are made; delivered nowhere without a receiver."""
    return (_telemetry.get() or _by_itself()).meter


def event_positions(*positions: int) -> None:
    """Name events of the log in the current span, if there is one."""
    found = current()
    if found is not None:
        found.positions(*positions)


def inject(headers: list[Header]) -> None:
    """Add the current span as ``traceparent`` (and its ``tracestate``) to the headers of a request going out."""
    found = current()
    if found is None:
        return
    headers.append((trace_context.TRACEPARENT, found.traceparent))
    if found.tracestate:
        headers.append((trace_context.TRACESTATE, found.tracestate))


def _context_of(remote: Remote) -> SpanContext:
    return SpanContext(
        int.from_bytes(remote.trace_id, "big"),
        int.from_bytes(remote.span_id, "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if remote.sampled else TraceFlags.DEFAULT),
        trace_state=trace.TraceState.from_header([remote.state.decode("ascii", "replace")]),
    )


def _otlp(endpoint: str) -> SpanExporter:
    # Each failed batch is several of the SDK's lines; we say once that delivery fails, and once that it works again.
    for name in _SDK_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)


def _meters(settings: TelemetrySettings, resource: Resource) -> MeterProvider:
    exporter = _GaugeExporter(f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/metrics", timeout=EXPORT_SECONDS)
    reader = PeriodicExportingMetricReader(exporter, settings.otel_metric_export_interval, EXPORT_SECONDS * 1000)
    return MeterProvider([reader], resource=resource, shutdown_on_exit=False)


class _GaugeExporter(OTLPMetricExporter):
    """Says once when delivery begins or ceases to fail. Called by the SDK's thread."""

    failing = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: object
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        failing = result is not MetricExportResult.SUCCESS
        if failing != self.failing:
            self.failing = failing
            log.log(
                logging.WARNING if failing else logging.INFO,
                "gauges cannot be delivered" if failing else "gauges are delivered again",
                extra={"operation": "export"},
            )
        return result


class _Deliverer(SpanExporter):
    """Hands batches on, counts, says once when that begins or ceases to fail. Called by the SDK's thread."""

    def __init__(self, exporter: SpanExporter, most: int) -> None:
        self._exporter = exporter
        self._most = most
        self._lock = threading.Lock()
        self._waiting = self._delivered = self._failed = self._dropped = 0
        self._failing = self._stopped = False
        self.last_moment = float("inf")

    def __call__(self) -> Delivery:
        with self._lock:
            return Delivery(
                waiting=self._waiting, delivered=self._delivered, failed=self._failed, dropped=self._dropped
            )

    def queued(self) -> None:
        """One more span waits, or pushes out the oldest."""
        with self._lock:
            if self._waiting >= self._most:
                self._dropped += 1
            else:
                self._waiting += 1

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            self._waiting = max(0, self._waiting - len(spans))
        taken = time.monotonic() < self.last_moment and self._taken(spans)
        with self._lock:
            self._delivered += len(spans) if taken else 0
            self._failed += 0 if taken else len(spans)
        self._say(failing=not taken)
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def _taken(self, spans: Sequence[ReadableSpan]) -> bool:
        try:
            return self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("an exporter of spans failed", extra={"operation": "export"})
            return False

    def shutdown(self) -> None:
        """Left to ``stop``, which does not wait for the thread that calls this."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def stop(self) -> None:
        """Let go of the receiver; a retry under way is given up."""
        if not self._stopped:
            self._stopped = True
            self._exporter.shutdown()

    def _say(self, *, failing: bool) -> None:
        if failing != self._failing and not self._stopped:
            self._failing = failing
            if failing:
                log.warning("spans cannot be delivered; they are dropped until they can", extra={"operation": "export"})
            else:
                log.info("spans are delivered again", extra={"operation": "export"})


class _Processor(BatchSpanProcessor):
    """The SDK's bounded queue and thread; tells the deliverer what goes in."""

    def __init__(self, deliverer: _Deliverer, settings: TelemetrySettings) -> None:
        most = settings.otel_bsp_max_queue_size
        self._deliverer = deliverer
        super().__init__(
            deliverer,
            max_queue_size=most,
            schedule_delay_millis=settings.otel_bsp_schedule_delay,
            max_export_batch_size=min(512, most),
        )

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._deliverer.queued()
        super().on_end(span)


async def _in_thread(work: Callable[[], object], seconds: float) -> bool:
    """Run blocking ``work`` beside the loop; False when it takes longer than ``seconds``.

    A daemon thread of its own: the loop's executor would make the process wait for it at its end.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                pass  # nobody waits any more, and the loop is closed

    threading.Thread(target=run, name="telemetry", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        return False
    return True
