"""Proof: compares the table of a projection with a fold of the log up to exactly the table's place, row by row.

One snapshot of the database holds checkpoint and rows, so the projector goes on meanwhile. The fold goes into a
temporary table of the same transaction, a page at a time, and Postgres compares: memory does not grow with the table.
Nothing is locked while the log is read. What was found is told by whoever may append.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from events.catalogue import ProjectionVerified
from events.dialling import Connection, Pool
from events.envelope import Fence
from events.errors import StoreUnavailable
from events.postgres import UNSURE
from events.store import EventStore
from projections.beside import Beside
from projections.checkpoint import Checkpoint
from projections.comparison import LONG_SECONDS
from projections.drift import Drift, Kind, drift
from projections.errors import ProjectionBehind, RebuildRefused, Superseded
from projections.follower import Follower
from projections.rebuild import Progress, Watch, holds
from projections.table import SCHEMA, Table

FOLDED: Final = "projection_proof_fold"
NAMED: Final = 1000  # rows that are told in full; the others are counted
EXAMPLES: Final = 20  # keys in the event
KEY_LENGTH: Final = 100  # characters of a key in the event: whoever altered a table may have written anything
TRIES: Final = 5  # a rebuild may put another table in the place of the one that is looked at
_NO_FENCE: Final = Fence("", 0)  # nothing outlives the transaction
_NO_RIGHT: Final = "42501"
_NOTED: Final = ("name", "version", "position", "rows", "differing", "missing", "extra", "changed", "verified_at")
# One that took longer does not write over a newer one, unless that is of a clock that was put back since. The answer is
# whether the lease is held.
_PROVED: Final = """
with held as (
  select where $10::text is null or exists (select from view.lease l where l.name = $10 and l.epoch = $11)
), noted as (
  insert into view.projection_proof as p
         (name, version, position, rows, differing, missing, extra, changed, verified_at)
  select $1, $2, $3, $4, $5, $6, $7, $8, $9 from held
  on conflict on constraint projection_proof_pk do update
     set version = excluded.version, position = excluded.position, rows = excluded.rows,
         differing = excluded.differing, missing = excluded.missing, extra = excluded.extra,
         changed = excluded.changed, verified_at = excluded.verified_at
   where p.verified_at <= excluded.verified_at
      or p.verified_at > clock_timestamp()
)
select exists (select from held)
"""
# A frozen process must not keep its snapshot, behind which no table can be vacuumed. Rows that a policy hides would be
# missing: with row_security off Postgres refuses to read such a table.
_PATIENT: Final = """
select statement_timestamp(), set_config('statement_timeout', '0', true),
       set_config('idle_in_transaction_session_timeout', '60s', true), set_config('row_security', 'off', true)
"""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one comparison. ``rows``: of the table. ``drift``: the first rows that differ, in order of key.
    ``verified_at``: the moment, by the database's clock, as of which they were compared."""

    name: str
    version: int
    position: int
    rows: int
    differing: int
    missing: int
    extra: int
    changed: int
    drift: tuple[Drift, ...]
    duration_us: int
    verified_at: datetime

    @property
    def made(self) -> int:
        """The rows that the log makes."""
        return self.rows - self.extra + self.missing

    @property
    def event(self) -> ProjectionVerified:
        return ProjectionVerified(
            projection=self.name,
            version=self.version,
            position=self.position,
            rows=self.rows,
            differing=self.differing,
            examples=tuple(each.key[:KEY_LENGTH] for each in self.drift[:EXAMPLES]),
            duration_us=self.duration_us,
        )


Tell = Callable[[ProjectionVerified], Awaitable[None]]
"""Appends what came of a comparison."""


class _Exchanged(Exception):
    """A rebuild has put another table in the place since the snapshot was taken, which does not see its rows."""


class Prover:
    """Proves tables. Any number may, at once and beside rebuilds."""

    def __init__(self, store: EventStore, pool: Pool, *, tell: Tell) -> None:
        self._store, self._pool, self._tell = store, pool, tell

    async def prove(
        self, table: Table[Any], watch: Watch = lambda progress: None, *, fence: Fence | None = None
    ) -> Proof:
        """Compare, note it and tell it; what is noted is the newest, whichever ends last.

        Raises RebuildRefused when there is nothing that could be compared, StoreUnavailable, LogForked when the log
        forks meanwhile; Superseded when the ``fence``'s lease, if one is given, was lost: then nothing was noted.
        """
        for _ in range(TRIES):
            try:
                proof = await _Comparison(self._store, self._pool, table, watch).run()
            except _Exchanged:
                continue
            await self._note(proof, fence)
            await self._tell(proof.event)
            return proof
        raise RebuildRefused(f"The table of {table.name} is rebuilt again and again: prove it when that has ended.")

    async def _note(self, proof: Proof, fence: Fence | None) -> None:
        lease = (None, None) if fence is None else (fence.lease, fence.epoch)
        try:
            held = await self._pool.fetchval(_PROVED, *(getattr(proof, name) for name in _NOTED), *lease)
        except UNSURE as error:
            raise StoreUnavailable(f"the proof cannot be noted: {type(error).__name__}") from error
        if not held:
            raise Superseded(proof.name)


class _Comparison(Beside):
    """One transaction."""

    def __init__(self, store: EventStore, pool: Pool, table: Table[Any], watch: Watch) -> None:
        super().__init__(pool, "pg_temp", FOLDED)
        self._store, self._table, self._watch = store, table, watch

    async def run(self) -> Proof:
        began = time.monotonic()
        try:
            async with self._acquired() as connection, connection.transaction(isolation="repeatable_read"):
                moment = await connection.fetchval(_PATIENT)  # the snapshot is taken here
                place = await self._place(connection)
                await self._make(connection)
                with self.within(connection):
                    await self._fold(connection, place)
                return await self._compare(connection, place, began=began, moment=moment)
        except UNSURE as error:
            if getattr(error, "sqlstate", None) == _NO_RIGHT:
                raise RebuildRefused(
                    f"The gateway's role may not read every row of view.{self._table.name}, since row-level security or"
                    f" the lack of a right is in its way: {error}. The gateway needs all of it, and the proof too."
                ) from error
            raise StoreUnavailable(f"the proof cannot go on: {str(error) or type(error).__name__}") from error

    async def _place(self, connection: Connection) -> Checkpoint:
        """Where the table is, in the transaction's snapshot."""
        query = "select * from view.projection_checkpoint where name = $1"
        row = await connection.fetchrow(query, self._table.name)
        if row is None:
            raise RebuildRefused(f"The table of {self._table.name} was never made: there is nothing to prove yet.")
        found = Checkpoint(**{name: row[name] for name in Checkpoint.__struct_fields__})
        version = self._table.projection.version
        if found.version != version:
            raise RebuildRefused(
                f"The table of {found.name} is of version {found.version} and this release folds version {version}:"
                " it is proved by a release of its own version, or after a rebuild."
            )
        if not await holds(self._store, found):
            raise RebuildRefused(
                f"The table of {found.name} holds position {found.position} of a log that is not this one: rebuild it."
            )
        return found

    async def _make(self, connection: Connection) -> None:
        columns = ", ".join(f"{column.name} {column.kind}" for column in self._table.columns)
        statement = f"create temporary table {FOLDED} ({columns}, state bytea, primary key ({self._table.key.name}))"
        try:
            await connection.execute(f"{statement} on commit drop")
        except UNSURE as error:
            if getattr(error, "sqlstate", None) != _NO_RIGHT:
                raise
            raise RebuildRefused(
                "The gateway's role may not make temporary tables in this database, which a proof needs: grant"
                " temporary on it (grant temporary on database ... to DB_USER)."
            ) from error

    async def _fold(self, connection: Connection, place: Checkpoint) -> None:
        start = msgspec.structs.replace(place, position=0, event_id=None, recorded_at=None)
        follower = Follower(self._store, self, [self._table], [start])
        while follower.position < place.position:
            before = follower.position
            await follower.step(_NO_FENCE, until=place.position)
            if follower.position == before:
                raise ProjectionBehind(place.position, before)
            await connection.execute("select 1")  # a page without an event for this table leaves the transaction idle
            self._watch(Progress(name=self._table.name, step="folded", position=follower.position, goal=place.position))

    async def _compare(self, connection: Connection, place: Checkpoint, *, began: float, moment: datetime) -> Proof:
        name = self._table.name
        await connection.execute(f"analyze pg_temp.{FOLDED}", timeout=LONG_SECONDS)
        await connection.execute(f"lock table {SCHEMA}.{name} in access share mode", timeout=LONG_SECONDS)
        if not await connection.fetchval(_SAME, name):
            raise _Exchanged
        rows = await connection.fetchval(f"select count(*) from {SCHEMA}.{name}", timeout=LONG_SECONDS)
        found, kinds, other = list[Drift](), Counter[Kind](), len(self._table.columns) + 1
        async for row in connection.cursor(differing(self._table), prefetch=NAMED, timeout=LONG_SECONDS):
            kinds["missing" if row[0] is None else "extra" if row[other] is None else "changed"] += 1
            if len(found) < NAMED:
                found.append(_drift(self._table, tuple(row)))
        return Proof(
            name=name,
            version=place.version,
            position=place.position,
            rows=rows,
            differing=kinds.total(),
            missing=kinds["missing"],
            extra=kinds["extra"],
            changed=kinds["changed"],
            drift=tuple(found),
            duration_us=round((time.monotonic() - began) * 1_000_000),
            verified_at=moment,
        )


# The name leads to the newest table, the catalogue as this transaction sees it to the one that it sees the rows of.
_SAME: Final = """
select c.oid = to_regclass('view.' || quote_ident($1))
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'view' and c.relname = $1
"""


def differing(table: Table[Any]) -> str:
    """Both sides of every row that is not the same on both."""
    names = [column.name for column in table.columns] + ["state"]
    sides = [", ".join(f"{side}.{name}" for name in names) for side in ("o", "n")]
    key = table.key.name
    return (
        f"select {sides[0]}, {sides[1]} from {SCHEMA}.{table.name} o full join pg_temp.{FOLDED} n on n.{key} = o.{key}"
        f" where row({sides[0]}) is distinct from row({sides[1]}) order by coalesce(o.{key}, n.{key})"
    )


def _drift(table: Table[Any], row: Sequence[Any]) -> Drift:
    names = [column.name for column in table.columns] + ["state"]
    sides = row[: len(names)], row[len(names) :]
    told = [dict(zip(names, side, strict=True)) if side[0] is not None else None for side in sides]
    shape = table.state.__struct_config__
    fields = table.state.__struct_fields__ if shape.array_like else ()
    return drift(str(row[0] if row[0] is not None else row[len(names)]), told[0], told[1], fields)
