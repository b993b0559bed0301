"""OTLP receivers for the tests: a real one, and three that no request may wait for."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from gateway.telemetry import Span, Telemetry, TelemetrySettings

WAIT_SECONDS = 10.0


def settings(endpoint: str, **more: Any) -> TelemetrySettings:
    """Settings that deliver at once."""
    return TelemetrySettings(otel_exporter_otlp_endpoint=endpoint, otel_bsp_schedule_delay=10, **more)


@asynccontextmanager
async def otlp() -> AsyncIterator[tuple[str, OtelTapHttpProtobufReceiver]]:
    """A real receiver: its base URL and itself."""
    port = free_port()
    async with OtelTapHttpProtobufReceiver(OtelTapHttpProtobufReceiverSettings(http_port=port)) as receiver:
        yield f"http://127.0.0.1:{port}", receiver


@asynccontextmanager
async def delivering(endpoint: str, **more: Any) -> AsyncIterator[Telemetry]:
    """Telemetry in use within the block, which sends to ``endpoint``."""
    telemetry = Telemetry(settings(endpoint, **more))
    try:
        with telemetry.in_use():
            yield telemetry
    finally:
        await telemetry.aclose()


def arriving(receiver: OtelTapHttpProtobufReceiver, span: Span) -> "asyncio.Future[Any]":
    """The span as it was received. Ask before it ends: the receiver keeps nothing for late comers."""
    span_id = span.span_id
    return asyncio.ensure_future(receiver.await_trace(lambda got: got.span_id == span_id, WAIT_SECONDS))


async def gauge(receiver: OtelTapHttpProtobufReceiver, name: str, value: float) -> dict[str, Any]:
    """Wait until the gauge is delivered with this value; its attributes."""

    def has_it(got: Any) -> bool:
        return got.name == name and any(_number(point) == value for point in got.gauge.data_points)

    got = await receiver.await_metric(has_it, WAIT_SECONDS)
    return attributes(got.gauge.data_points[0])


def _number(point: Any) -> float:
    return float(getattr(point, point.WhichOneof("value")))


@contextmanager
def dead() -> Iterator[str]:
    """Nobody listens: bound, so that no other test gets the port, and never listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextmanager
def hung() -> Iterator[str]:
    """Connections are taken by the kernel, and nobody ever answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


@asynccontextmanager
async def refusing(status: bytes = b"400 Bad Request") -> AsyncIterator[str]:
    """Answers every batch with ``status``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the exporter has gone
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def attributes(of: Any) -> dict[str, Any]:
    """Attributes of a received span or data point, as plain values."""
    return {pair.key: _value(pair.value) for pair in of.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)
