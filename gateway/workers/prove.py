"""Prove: once a day every table is compared with the log; a table that differs is an alert until it does not.

One gateway does it, by lease. What the last comparison of each table came to stands in the database, whoever made it,
so every gateway shows the same figures, and a command that repairs a table ends the alert.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from events.catalogue import AlertCleared, AlertRaised
from events.envelope import ActorKind, gateway_stream
from events.errors import StoreUnavailable
from events.ids import uuid7
from events.lease import Leases
from gateway import context, metrics, telemetry
from gateway.rebuilds import Proofs, rebuilder
from gateway.recorder import Recorder, Who
from gateway.storage import Storage
from projections.drift import words
from projections.errors import RebuildRefused
from projections.proof import Proof
from projections.rebuild import Rebuilder
from projections.table import Table
from projections.table_report import Proved, proofs
from projections.tables import TABLES

LEASE: Final = "prove"
SECONDS: Final = 60.0  # between two looks
# Longer than a look, so that the same gateway goes on; a proof that takes longer may be made twice, which does no harm.
TTL_SECONDS: Final = 600.0
ALERT: Final = "projection_drift_"
NEVER: Final = -1
AGAIN: Final = timedelta(hours=1)  # until a table is tried again that could not be compared
log = logging.getLogger("session_gateway.prove")


class Raised(msgspec.Struct, frozen=True):
    """An alert of this process that stands."""

    event_id: UUID
    since: datetime


def due(
    names: Sequence[str], last: Mapping[str, datetime], *, hour: int, now: datetime, since: datetime
) -> tuple[str, ...]:
    """The tables that were not compared since the hour came last. A process that started later waits for the next."""
    if hour == NEVER:
        return ()
    latest = now.replace(hour=hour, minute=0, second=0, microsecond=0)
    if latest > now:
        latest -= timedelta(days=1)
    return tuple(name for name in names if since < latest and last.get(name, since) < latest)


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
        noted: Callable[[], Awaitable[Mapping[str, Proved]]],
    ) -> None:
        self._recorder, self._leases, self._proofs, self._rebuilds = recorder, leases, prover, rebuilds
        self._instance, self._hour, self._noted = instance, hour, noted
        self._tables = {table.name: table for table in tables}
        self._began = recorder.now()
        self._refused: dict[str, datetime] = {}  # what could not be compared, and when: not again for an hour
        self._done: dict[str, datetime] = {}  # what was, by this clock: the database's may be behind it
        self._raised: dict[str, Raised] = {}
        self.last: Mapping[str, Proved] = {}

    async def run_once(self) -> None:
        """Compare what is due, if it is for this process to do; then make the alerts agree. Raises StoreUnavailable."""
        self.last = await self._noted()
        if await self._leases.claim(LEASE, self._instance, TTL_SECONDS) is not None:
            for table in self._tables.values():
                await self._rebuilds.tell_former(table)
            for name in self._due():
                await self._prove(self._tables[name])
            self.last = await self._noted()
            for name in sorted(drifting(list(self._tables), self.last) - self._raised.keys()):
                await self._raise(name)
        for name in sorted(self._raised.keys() - drifting(list(self._tables), self.last)):
            await self._clear(name)

    async def resign(self) -> None:
        """Give the lease back at the end, so that another gateway need not wait for it to run out."""
        try:
            await self._leases.release(LEASE, self._instance)
        except StoreUnavailable as away:
            log.info("the lease of the daily proof runs out by itself: %s", away)

    def _due(self) -> tuple[str, ...]:
        now = self._recorder.now()
        last = {name: proof.verified_at for name, proof in self.last.items()}
        last |= {name: max(at, last.get(name, at)) for name, at in self._done.items()}
        found = due(list(self._tables), last, hour=self._hour, now=now, since=self._began)
        return tuple(name for name in found if name not in self._refused or now - self._refused[name] >= AGAIN)

    async def _prove(self, table: Table[Any]) -> None:
        with telemetry.span("projection.verify", attributes={"projection.name": table.name}, root=True):
            try:
                _report(await self._proofs.prover.prove(table))
                self._done[table.name] = self._recorder.now()
            except RebuildRefused as refused:
                self._refused[table.name] = self._recorder.now()
                log.warning("a table was not compared with the log: %s", refused, extra={"operation": "verify"})

    async def _raise(self, name: str) -> None:
        proof = self.last[name]
        detail = f"The table {name} at position {proof.position} is not what the log says: {words(proof)}."
        payload = AlertRaised(instance=self._instance, name=ALERT + name, detail=detail)
        event_id = await self._tell(payload, self._proofs.last.get(name))
        self._raised[name] = Raised(event_id, self._recorder.now())

    async def _clear(self, name: str) -> None:
        raised = self._raised[name]
        lasted = self._recorder.now() - raised.since
        payload = AlertCleared(
            instance=self._instance,
            name=ALERT + name,
            since=raised.since,
            lasted_ms=max(0, round(lasted.total_seconds() * 1000)),
        )
        log.warning("the table %s is what the log says again", name, extra={"operation": "verify"})
        await self._tell(payload, raised.event_id)
        del self._raised[name]

    async def _tell(self, payload: AlertRaised | AlertCleared, causation_id: UUID | None) -> UUID:
        who, event_id = Who(kind=ActorKind.GATEWAY, id=self._instance), uuid7()
        with telemetry.span("gateway.alert", root=True):
            cause = msgspec.structs.replace(context.cause(), causation_id=causation_id)
            await self._recorder.fact(gateway_stream(self._instance), payload, who=who, cause=cause, event_id=event_id)
        return event_id


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
        noted=lambda: proofs(pool),
    )
    metrics.watch_proofs(telemetry.meter(), instance, lambda: made.last)
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
