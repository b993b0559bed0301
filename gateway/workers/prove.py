"""Prove: once a day every table is compared with the log; a table that differs is an alert until it does not.

One gateway at a time does it, by a lease that it keeps while it is at it. What the last comparison of each table came
to and which alerts stand is in the database, whoever made them: every gateway shows the same figures, each alert is
raised and cleared once whatever starts and ends meanwhile, and a command that repairs a table ends it.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from events.catalogue import AlertCleared, AlertRaised
from events.envelope import ANY, ActorKind, Fence, StreamWrite, gateway_stream
from events.errors import StoreUnavailable
from events.ids import uuid7
from events.lease import Leases
from events.store import Fenced
from gateway import context, metrics, telemetry
from gateway.rebuilds import Proofs, rebuilder
from gateway.recorder import Recorder, Who, accepted
from gateway.storage import Storage
from projections.alerts import Alert, Alerts
from projections.drift import words
from projections.errors import ProjectionError, Superseded
from projections.holding import holding
from projections.proof import Proof
from projections.rebuild import Rebuilder
from projections.table import Table
from projections.table_report import Proved, proofs
from projections.tables import TABLES

LEASE: Final = "prove"
SECONDS: Final = 60.0  # between two looks
ALERT: Final = "projection_drift_"
NEVER: Final = -1
AGAIN: Final = timedelta(hours=1)  # until a table is tried again that could not be compared
SKEW: Final = timedelta(minutes=10)  # that the database's clock may be behind: what was proved so long before is proved
log = logging.getLogger("session_gateway.prove")


def due(
    names: Sequence[str], last: Mapping[str, datetime], *, hour: int, now: datetime, since: datetime
) -> tuple[str, ...]:
    """The tables that were not compared since the hour came last. A process that started later waits for the next."""
    if hour == NEVER:
        return ()
    latest = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    if latest > now:
        latest -= timedelta(days=1)
    if since >= latest:
        return ()
    return tuple(name for name in names if name not in last or last[name] < latest - SKEW)


def drifting(names: Sequence[str], proofs: Mapping[str, Proved]) -> frozenset[str]:
    """The tables whose last comparison found a difference."""
    return frozenset(name for name in names if name in proofs and proofs[name].differing)


class Proving:
    """The worker. ``last``: what is known of each table, for the gauges."""

    def __init__(
        self,
        recorder: Recorder,
        leases: Leases,
        prover: Proofs,
        rebuilds: Rebuilder,
        *,
        instance: str,
        tables: Sequence[Table[Any]],
        hour: int,
        alerts: Alerts,
        noted: Callable[[], Awaitable[Mapping[str, Proved]]],
    ) -> None:
        self._recorder, self._leases, self._proofs, self._rebuilds = recorder, leases, prover, rebuilds
        self._instance, self._hour, self._alerts, self._noted = instance, hour, alerts, noted
        self._tables = {table.name: table for table in tables}
        self._began = recorder.now()
        self._refused: dict[str, datetime] = {}  # what could not be compared, and when: not again for an hour
        self.last: Mapping[str, Proved] = {}

    async def run_once(self) -> None:
        """Compare what is due and make the alerts agree, if nobody else is at it. Raises StoreUnavailable."""
        self.last = await self._noted()
        async with holding(self._leases, LEASE, self._instance) as fence:
            if fence is None:
                return
            try:
                await self._work(fence)
            except Superseded:
                log.warning("another gateway has taken the daily proof over", extra={"operation": "verify"})

    async def _work(self, fence: Fence) -> None:
        for table in self._tables.values():
            await self._rebuilds.tell_former(table)
        for name in self._due():
            await self._prove(self._tables[name], fence)
        self.last = await self._noted()
        differ = drifting(list(self._tables), self.last)
        for alert in (await self._alerts.standing()).values():
            if alert.cleared_id is not None:  # its end is half told: a difference since is another alert
                await self._clear(alert, fence)
        standing = await self._alerts.standing()
        for alert in standing.values():
            if not alert.told:
                await self._raise(alert, fence)
        for name in sorted(differ - standing.keys()):
            await self._alerts.open(alert := self._alert(name), fence)
            await self._raise(alert, fence)
        for name in sorted((standing.keys() & self._tables.keys()) - differ):
            await self._clear(standing[name], fence)

    def _due(self) -> tuple[str, ...]:
        now = self._recorder.now()
        last = {name: proof.verified_at for name, proof in self.last.items()}
        found = due(list(self._tables), last, hour=self._hour, now=now, since=self._began)
        return tuple(name for name in found if name not in self._refused or now - self._refused[name] >= AGAIN)

    async def _prove(self, table: Table[Any], fence: Fence) -> None:
        with telemetry.span("projection.verify", attributes={"projection.name": table.name}, root=True):
            try:
                _report(await self._proofs.prover.prove(table, fence=fence))
            except Superseded:
                raise
            except (ProjectionError, StoreUnavailable) as refused:  # the others are due too
                self._refused[table.name] = self._recorder.now()
                log.warning("a table was not compared with the log: %s", refused, extra={"operation": "verify"})

    def _alert(self, name: str) -> Alert:
        proof = self.last[name]
        return Alert(
            name=name,
            alert_id=uuid7(),
            instance=self._instance,
            since=self._recorder.now(),
            detail=f"The table {name} at position {proof.position} is not what the log says: {words(proof)}.",
            cause=self._proofs.last.get(name),
        )

    async def _raise(self, alert: Alert, fence: Fence) -> None:
        payload = AlertRaised(instance=alert.instance, name=ALERT + alert.name, detail=alert.detail)
        await self._tell(payload, alert.alert_id, alert.cause, fence)
        await self._alerts.told(alert, fence)

    async def _clear(self, alert: Alert, fence: Fence) -> None:
        cleared_id = alert.cleared_id or uuid7()
        await self._alerts.end(alert, cleared_id, fence)
        lasted = self._recorder.now() - alert.since
        payload = AlertCleared(
            instance=alert.instance,
            name=ALERT + alert.name,
            since=alert.since,
            lasted_ms=max(0, round(lasted.total_seconds() * 1000)),
        )
        await self._tell(payload, cleared_id, alert.alert_id, fence)
        await self._alerts.forget(alert, fence)
        log.warning("the table %s is what the log says again", alert.name, extra={"operation": "verify"})

    async def _tell(
        self, payload: AlertRaised | AlertCleared, event_id: UUID, causation_id: UUID | None, fence: Fence
    ) -> None:
        """On the stream of the instance that raised the alert, whoever tells it. Not spooled: it is told at the next
        look, by whoever holds the lease then. Raises Superseded."""
        who, stream_id = Who(kind=ActorKind.GATEWAY, id=self._instance), gateway_stream(payload.instance)
        with telemetry.span("gateway.alert", root=True):
            cause = msgspec.structs.replace(context.cause(), causation_id=causation_id)
            event = await self._recorder.event(stream_id, payload, who=who, cause=cause, event_id=event_id)
            outcome = await self._recorder.store.append(StreamWrite(stream_id, ANY, (event,)), fence=fence)
            if isinstance(outcome, Fenced):
                raise Superseded(payload.name)
            if (position := accepted(outcome)) is not None:
                telemetry.event_positions(position)


def proving(recorder: Recorder, storage: Storage, hour: int) -> Proving | None:
    """The worker of one process, with its gauges; None where the log has no tables. ``hour``: of the day, in UTC."""
    if (pool := storage.pool) is None:
        return None
    instance = storage.instance
    who = Who(kind=ActorKind.GATEWAY, id=instance)
    made = Proving(
        recorder,
        storage.leases,
        Proofs(recorder, pool, who=who),
        rebuilder(recorder, pool, storage.leases, who=who, holder=instance),
        instance=instance,
        tables=TABLES,
        hour=hour,
        alerts=Alerts(pool),
        noted=lambda: proofs(pool),
    )
    names = tuple(table.name for table in TABLES)
    metrics.watch_proofs(telemetry.meter(), instance, lambda: made.last, tables=names, since=recorder.now())
    return made


def _report(proof: Proof) -> None:
    if not proof.differing:
        log.info("the table %s is what the log says: %d rows", proof.name, proof.rows, extra={"operation": "verify"})
        return
    log.error(
        "the table %s is not what the log says: %s; it has %d, the log makes %d: %s",
        proof.name,
        words(proof),
        proof.rows,
        proof.made,
        ", ".join(f"{each.key} ({each.kind})" for each in proof.drift[:20]),
        extra={"operation": "verify", "position": proof.position},
    )
