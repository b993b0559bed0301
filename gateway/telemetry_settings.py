"""Settings of ``telemetry``."""

from typing import Annotated

import msgspec
from msgspec import Meta


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """OTEL_*: where spans and gauges go and how many. Names as OpenTelemetry has them, where it has them."""

    otel_exporter_otlp_endpoint: Annotated[
        str, Meta(description="base URL of an OTLP/HTTP receiver, such as http://127.0.0.1:4318; empty: none")
    ] = ""
    otel_service_name: Annotated[str, Meta(min_length=1, description="service.name of every span")] = "session-gateway"
    otel_traces_sampler_ratio: Annotated[
        float, Meta(ge=0, le=1, description="share of new traces that is recorded; a trusted caller's choice is kept")
    ] = 1.0
    otel_bsp_max_queue_size: Annotated[
        int, Meta(ge=1, description="ended spans that wait for delivery at most; further ones push out the oldest")
    ] = 2048
    otel_bsp_schedule_delay: Annotated[
        int, Meta(ge=1, description="milliseconds that spans are gathered before a batch is sent")
    ] = 1000
    otel_metric_export_interval: Annotated[
        int, Meta(ge=1, description="milliseconds between two deliveries of the gauges")
    ] = 10_000
