"""Metrics: figures of the log, read when they are delivered. The SDK that delivers them is behind ``telemetry``.

A thread of the SDK reads them; no request waits for that. Names and units as OpenTelemetry writes them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from events.store import EventStore
from projections.table_report import Proved


def watch_log(
    meter: Meter, store: EventStore, instance: str, unseen: Callable[[], float], unreadable: Callable[[], int] = int
) -> None:
    """Gauges of one process's log. ``unseen``: for how many seconds the process has not known all of it;
    ``unreadable``: how many of its events nobody can read."""

    def gauge(name: str, unit: str, description: str, read: Callable[[], float]) -> None:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            yield Observation(read(), {"gateway.instance": instance})

        meter.create_observable_gauge(f"session_gateway.log.{name}", [observe], unit, description)

    gauge("available", "1", "1 while the event log answers, 0 while it is away", lambda: int(store.status.available))
    gauge("spooled_units", "{unit}", "units that wait in the spool", lambda: store.status.spooled_units)
    gauge("spooled_bytes", "By", "bytes of the spool", lambda: store.status.spooled_bytes)
    gauge("unreadable_events", "{event}", "events that cannot be read and are passed over", unreadable)
    gauge("view_lag", "s", "how long ago the process last knew all of the log", unseen)


def watch_tables(
    meter: Meter, instance: str, positions: Callable[[], Mapping[str, int]], head: Callable[[], int]
) -> None:
    """How far each table lies behind the log. Told by the process that carries them on, and by no other."""

    def observe(options: CallbackOptions) -> Iterable[Observation]:
        end = head()
        for table, position in positions().items():
            yield Observation(max(0, end - position), {"gateway.instance": instance, "projection": table})

    meter.create_observable_gauge(
        "session_gateway.projection.lag", [observe], "{event}", "events of the log that the table does not hold yet"
    )


def watch_proofs(
    meter: Meter,
    instance: str,
    proofs: Callable[[], Mapping[str, Proved]],
    *,
    tables: Collection[str],
    since: datetime,
) -> None:
    """What the last comparison of each of ``tables`` with the log came to. Told by every process that has a database.

    The age of one that is not known to have been compared is that of the process, which began ``since``: an alarm
    must hear of it too.
    """

    def differing(options: CallbackOptions) -> Iterable[Observation]:
        for table, proof in proofs().items():
            yield Observation(proof.differing, {"gateway.instance": instance, "projection": table})

    def age(options: CallbackOptions) -> Iterable[Observation]:
        now = datetime.now(UTC)
        known = proofs()
        for table in sorted({*tables, *known}):
            seconds = (now - (known[table].verified_at if table in known else since)).total_seconds()
            yield Observation(max(0.0, seconds), {"gateway.instance": instance, "projection": table})

    name = "session_gateway.projection"
    meter.create_observable_gauge(f"{name}.differing", [differing], "{row}", "rows that are not what the log says")
    meter.create_observable_gauge(f"{name}.proof_age", [age], "s", "how long ago the table was compared with the log")


def watch_certificates(
    meter: Meter, instance: str, seconds_left: Callable[[], Iterable[tuple[str, str, float]]]
) -> None:
    """Until each certificate between us and the daemon ends: role, SHA-256, seconds; below 0 when it has ended."""

    def observe(options: CallbackOptions) -> Iterable[Observation]:
        for role, sha256, left in seconds_left():
            which = {"certificate.role": role, "certificate.sha256": sha256}
            yield Observation(left, {"gateway.instance": instance, **which})

    name, words = "session_gateway.certificate.time_left", "how long a certificate still holds"
    meter.create_observable_gauge(name, [observe], "s", words)
