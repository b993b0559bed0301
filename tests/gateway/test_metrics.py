"""Gauges of the log, at a real receiver: what a process says of its log without being asked."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from events.catalogue import AccessDenied
from events.envelope import SYSTEM
from events.keyring import MemoryKeyring
from gateway import telemetry
from gateway.metrics import watch_certificates, watch_log, watch_proofs
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry, TelemetrySettings
from projections.table_report import Proved
from tests.factories import payload
from tests.gateway import receivers
from tests.gateway.faulty import FaultyStore, spooled
from tests.gateway.world import ORIGIN, eventually

PROMPT = 3.0  # seconds for the end of a process whose receiver hangs; the end has 2


async def test_the_gauges_follow_the_log(tmp_path: Path) -> None:
    """Available, then away with one unit and its bytes in the spool, then available with none."""
    inner, unseen = FaultyStore(), 0.25
    async with (
        spooled(inner, tmp_path) as store,
        receivers.otlp() as (endpoint, receiver),
        receivers.delivering(endpoint, otel_metric_export_interval=20),
    ):
        watch_log(telemetry.meter(), store, "g1", lambda: unseen)
        told = await receivers.gauge(receiver, "session_gateway.log.available", 1)
        assert told == {"gateway.instance": "g1"}
        inner.away = True
        await Recorder(store, MemoryKeyring()).fact(SYSTEM, payload(AccessDenied), who=ORIGIN.who)
        waits = {"available": 0, "spooled_units": 1, "spooled_bytes": store.status.spooled_bytes, "view_lag": unseen}
        assert waits["spooled_bytes"] > 0
        for name, wanted in waits.items():
            await receivers.gauge(receiver, f"session_gateway.log.{name}", wanted)
        inner.away = False
        await eventually(lambda: store.status.available)
        for name, wanted in {"available": 1, "spooled_units": 0}.items():
            await receivers.gauge(receiver, f"session_gateway.log.{name}", wanted)


async def test_the_gauges_follow_the_proofs_of_the_tables() -> None:
    """Rows that differ, and how old the knowledge is; of a table that was never compared, how old the process is."""
    at = datetime.now(UTC) - timedelta(days=2)
    since = at - timedelta(days=3)
    known = {"sessions": Proved(version=1, position=9, rows=5, differing=3, verified_at=at)}
    async with (
        receivers.otlp() as (endpoint, receiver),
        receivers.delivering(endpoint, otel_metric_export_interval=20),
    ):
        watch_proofs(telemetry.meter(), "g1", lambda: known, tables=("sessions", "tokens"), since=since)
        told = await receivers.gauge(receiver, "session_gateway.projection.differing", 3)
        assert told == {"gateway.instance": "g1", "projection": "sessions"}

        def is_told_of_both(got: Any) -> bool:
            points = got.gauge.data_points
            name = "session_gateway.projection.proof_age"
            return got.name == name and [round(point.as_double / 86_400) for point in points] == [2, 5]

        await receiver.await_metric(is_told_of_both, PROMPT)


async def test_without_a_receiver_nothing_is_read() -> None:
    made = Telemetry(TelemetrySettings(otel_metric_export_interval=1))
    with made.in_use():
        watch_log(telemetry.meter(), FaultyStore(), "g1", _must_not_be_read)
    assert await made.aclose()


def _must_not_be_read() -> float:
    raise AssertionError("a gauge was read that goes nowhere")


async def test_the_end_brings_the_last_figures(tmp_path: Path) -> None:
    """A process that ends says how its log stood: the interval is not waited for."""
    async with receivers.otlp() as (endpoint, receiver), spooled(FaultyStore(), tmp_path) as store:
        async with receivers.delivering(endpoint, otel_metric_export_interval=3_600_000):
            watch_log(telemetry.meter(), store, "g1", lambda: 7.5)
            last = asyncio.ensure_future(receivers.gauge(receiver, "session_gateway.log.view_lag", 7.5))
        await last


async def test_a_receiver_that_refuses_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with receivers.refusing() as endpoint, receivers.delivering(endpoint, otel_metric_export_interval=5):
        read = [0]
        watch_log(telemetry.meter(), FaultyStore(), "g1", lambda: _count(read))
        await eventually(lambda: read[0] >= 5)
        await eventually(lambda: "gauges cannot be delivered" in caplog.text)
    assert caplog.text.count("gauges cannot be delivered") == 1


def _count(read: list[int]) -> float:
    read[0] += 1
    return 0.0


async def test_the_end_does_not_wait_for_a_receiver_that_hangs() -> None:
    with receivers.hung() as endpoint:
        made = Telemetry(receivers.settings(endpoint, otel_metric_export_interval=10))
        with made.in_use():
            watch_log(telemetry.meter(), FaultyStore(), "g1", lambda: 0.0)
        began = time.monotonic()
        await made.aclose()
        assert time.monotonic() - began < PROMPT


async def test_the_time_that_a_certificate_has_left_is_a_gauge() -> None:
    async with receivers.otlp() as (endpoint, receiver), receivers.delivering(endpoint, otel_metric_export_interval=20):
        watch_certificates(telemetry.meter(), "g1", lambda: [("client", "b" * 64, -3.5)])
        told = await receivers.gauge(receiver, "session_gateway.certificate.time_left", -3.5)
    assert told == {"gateway.instance": "g1", "certificate.role": "client", "certificate.sha256": "b" * 64}
