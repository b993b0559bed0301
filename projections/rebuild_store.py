"""RebuildStore: one table in the making in Postgres: ``view.NAME_next``, how far it is, and the exchange at the end.

Each page is one transaction with its progress. The exchange is one too: the projector stands still, the last events are
folded in, what they touched is compared, and names are changed.
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from events.dialling import Connection, Pool
from events.envelope import Fence
from events.errors import StoreUnavailable
from events.mark import Mark
from events.postgres import UNSURE
from projections.beside import Beside
from projections.checkpoint import Checkpoint
from projections.comparison import LONG_SECONDS, SUFFIX, Compared, Comparison
from projections.errors import Superseded, UnderWay, WouldLose
from projections.table import SCHEMA, Table

LOCK_MS: Final = 200  # that a lock on the tables is waited for: everybody else queues behind it
_OUTRUN: Final = "40001"  # serialization_failure
_LOCKED_OUT: Final = "55P03"  # lock_not_available
_DEPENDED_ON: Final = "2BP01"  # dependent_objects_still_exist
_WOULD_LOSE: Final = "GW021"  # swap_rebuild: something was made on the table while the new one was built
_MOVE: Final = """
update view.projection_rebuild r
   set position = $3, event_id = $4, recorded_at = $5, updated_at = clock_timestamp()
 where r.name = $1
   and r.updated_at = $2
   and r.told_id is null
   and exists (select from view.lease l where l.name = $6 and l.epoch = $7)
returning r.name, r.updated_at
"""
# Before the exchange, which may have no page left to write: what is there is what this process built, and nobody else
# begins anew before the transaction ends.
_STAND: Final = """
select r.name
  from view.projection_rebuild r
 where r.name = $1
   and r.updated_at = $2
   and r.told_id is null
   and exists (select from view.lease l where l.name = $3 and l.epoch = $4)
   for update of r
"""
# What is done and not told is never overwritten: it is told first.
_BEGIN: Final = """
insert into view.projection_rebuild as r (name, version, log_id, reason)
select $1, $2, $3, $4 from view.lease l where l.name = $5 and l.epoch = $6
on conflict on constraint projection_rebuild_pk do update
   set version = excluded.version, log_id = excluded.log_id, position = 0, event_id = null, recorded_at = null,
       reason = excluded.reason, started_at = excluded.started_at, updated_at = excluded.updated_at
 where r.told_id is null
returning *
"""
_SETTLE: Final = """
insert into view.projection_checkpoint as c (name, version, log_id, position, event_id, recorded_at, epoch)
select r.name, r.version, r.log_id, r.position, r.event_id, r.recorded_at,
       coalesce((select l.epoch from view.lease l where l.name = 'projector'), 0)
  from view.projection_rebuild r where r.name = $1
on conflict on constraint projection_checkpoint_pk do update
   set version = excluded.version, log_id = excluded.log_id, position = excluded.position,
       event_id = excluded.event_id, recorded_at = excluded.recorded_at, updated_at = clock_timestamp()
"""
# The new table is a fold of the log.
_PROVED: Final = """
insert into view.projection_proof (name, version, position, rows, differing) values ($1, $2, $3, $4, 0)
on conflict on constraint projection_proof_pk do update
   set version = excluded.version, position = excluded.position, rows = excluded.rows,
       differing = 0, missing = 0, extra = 0, changed = 0, verified_at = clock_timestamp()
"""
_AT_IT: Final = """
select holder, expires_at, ceil(extract(epoch from expires_at - clock_timestamp()))::int as seconds
  from view.lease where name = $1 and expires_at > clock_timestamp()
"""
_HOLDERS: Final = """
select string_agg(distinct format('process %s of the database%s', a.pid, ' (' || nullif(a.application_name, '') || ')'),
                  ', ')
  from pg_locks l join pg_stat_activity a using (pid)
 where l.relation = to_regclass($1) and l.granted and a.pid <> pg_backend_pid()
"""
# A comparison may take minutes; a process that freezes inside must not keep readers and the projector waiting for ever.
_PATIENT: Final = """
select set_config('statement_timeout', '0', true), set_config('lock_timeout', '2s', true),
       set_config('idle_in_transaction_session_timeout', '10s', true)
"""


class Rebuilding(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``view.projection_rebuild``."""

    name: str
    version: int
    log_id: UUID
    position: int
    event_id: UUID | None
    recorded_at: datetime | None
    reason: str
    started_at: datetime
    updated_at: datetime
    told_id: UUID | None = None
    told: bytes | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The place from which a Follower goes on."""
        place = {name: getattr(self, name) for name in ("name", "version", "log_id", "position", "event_id")}
        return Checkpoint(**place, recorded_at=self.recorded_at, epoch=0, updated_at=self.updated_at)


class Held(Exception):
    """The exchange could not be made now: somebody has one of the rows or tables that it needs."""


class RebuildStore(Beside):
    """Of one table. What the pool raises becomes StoreUnavailable."""

    def __init__(self, pool: Pool, table: Table[Any]) -> None:
        super().__init__(pool, SCHEMA, table.name + SUFFIX)
        self._table = table
        self.comparison = Comparison(table)
        self._moved: datetime | None = None  # when the place was last moved, as this process knows

    async def found(self) -> Rebuilding | None:
        """A rebuild of this table that was begun, or is done and not told."""
        async with self._connection() as connection:
            row = await connection.fetchrow("select * from view.projection_rebuild where name = $1", self._table.name)
        return None if row is None else self._rebuilding(row)

    async def fits(self) -> bool:
        """Whether the table in the making is there, and made as the one in use is."""
        async with self._connection() as connection:
            return bool(await connection.fetchval("select view.rebuild_fits($1)", self._table.name))

    async def check(self) -> None:
        """Raises WouldLose when something stands on the table in use that the new one would not have."""
        async with self._connection() as connection:
            losing = await connection.fetchval("select view.rebuild_would_lose($1)", self._table.name)
        if losing:
            raise WouldLose(self._table.name, "; ".join(losing))

    async def start(self, log_id: UUID, reason: str, fence: Fence) -> Rebuilding:
        """An empty table at the beginning of the log, whatever was there. Raises Superseded."""
        name, version = self._table.name, self._table.projection.version
        async with self._transaction() as connection:
            await connection.execute("select view.begin_rebuild($1)", name)
            row = await connection.fetchrow(_BEGIN, name, version, log_id, reason, fence.lease, fence.epoch)
            if row is None:
                raise Superseded(name + SUFFIX)
            return self._rebuilding(row)

    async def drop(self) -> bool:
        """Give the rebuild up; whether there was one."""
        async with self._transaction() as connection:
            await connection.execute("select view.drop_rebuild($1)", self._table.name)
            query = "delete from view.projection_rebuild where name = $1 and told_id is null"
            return await connection.execute(query, self._table.name) != "DELETE 0"

    async def move(
        self, connection: Connection, seen: Mapping[str, datetime], to: Mark, fence: Fence
    ) -> dict[str, datetime]:
        name, place = self._table.name, (to.position, to.event_id, to.recorded_at)
        moved = await connection.fetchrow(_MOVE, name, seen[name], *place, fence.lease, fence.epoch)
        if moved is None:
            raise Superseded(name + SUFFIX)
        self._moved = moved["updated_at"]
        return {moved["name"]: moved["updated_at"]}

    async def load(self, table: Table[Any], keys: Collection[str]) -> dict[str, Any]:
        found = await super().load(table, keys)
        self.comparison.touch(keys, found)
        return found

    async def stand(self, connection: Connection, fence: Fence) -> None:
        """Keep what was built as it is until the transaction ends. Raises Superseded when another has touched it since
        this process did, or has the lease."""
        if not await connection.fetchval(_STAND, self._table.name, self._moved, fence.lease, fence.epoch):
            raise Superseded(self._table.name + SUFFIX)

    async def analyze(self) -> None:
        """Tell the planner what the new table holds."""
        async with self._connection() as connection:
            await connection.execute("select view.analyze_rebuild($1)", self._table.name, timeout=LONG_SECONDS)

    @contextlib.asynccontextmanager
    async def exchanging(
        self, isolation: Literal["read_committed", "repeatable_read"] = "read_committed"
    ) -> AsyncIterator[Connection]:
        """One transaction for the end; ``within`` it everything of this store is done. Raises Held, WouldLose.

        ``repeatable_read``: for the comparison before, of both tables as one snapshot has them.
        """
        try:
            async with self._acquired() as connection, connection.transaction(isolation=isolation):
                await connection.execute(_PATIENT)
                yield connection
        except UNSURE as error:
            state = getattr(error, "sqlstate", None)
            if state == _LOCKED_OUT:
                raise Held from error
            if state == _OUTRUN:
                raise Superseded(self._table.name + SUFFIX) from error
            if state == _WOULD_LOSE:
                raise WouldLose(self._table.name, str(error)) from error
            if state == _DEPENDED_ON:
                raise WouldLose(self._table.name, str(getattr(error, "detail", None) or error)) from error
            raise StoreUnavailable(f"the rebuild cannot go on: {str(error) or type(error).__name__}") from error

    async def place(self, connection: Connection) -> Checkpoint | None:
        """The checkpoint of the table in use, as the transaction sees it."""
        return await self._place(connection, "")

    async def stop_projector(self, connection: Connection) -> Checkpoint | None:
        """The same, and nobody moves it before the transaction ends."""
        return await self._place(connection, " for update")

    async def _place(self, connection: Connection, locking: str) -> Checkpoint | None:
        query = f"select * from view.projection_checkpoint where name = $1{locking}"
        row = await connection.fetchrow(query, self._table.name)
        if row is None:
            return None
        return Checkpoint(**{name: row[name] for name in Checkpoint.__struct_fields__})

    async def ask_for_lock(self, connection: Connection) -> None:
        """Raises Held while somebody has one of the tables open, before the projector is stopped for nothing.

        The lock is not kept: readers go on until the exchange itself. Who comes meanwhile waits 0.2 s at most.
        """
        asking = connection.transaction()
        await asking.start()
        try:
            await connection.execute(f"set local lock_timeout = {LOCK_MS}")
            names = f"{SCHEMA}.{self._table.name}, {SCHEMA}.{self._table.name}{SUFFIX}"
            await connection.execute(f"lock table {names} in access exclusive mode")
        finally:
            await asking.rollback()

    async def exchange(self, connection: Connection, done: Compared, told_id: UUID, told: bytes) -> None:
        """The new table takes the place of the former one, its checkpoint too. Raises Held."""
        name, version = self._table.name, self._table.projection.version
        if not await connection.fetchval("select view.swap_rebuild($1)", name):
            raise Held
        await connection.execute(_SETTLE, name)
        position = await connection.fetchval("select position from view.projection_rebuild where name = $1", name)
        await connection.execute(_PROVED, name, version, position, done.rows)
        query = "update view.projection_rebuild set told_id = $2, told = $3 where name = $1"
        await connection.execute(query, name, told_id, told)

    async def forget(self, told_id: UUID) -> None:
        """What came of the rebuild stands in the log."""
        async with self._transaction() as connection:
            query = "delete from view.projection_rebuild where name = $1 and told_id = $2"
            await connection.execute(query, self._table.name, told_id)

    async def under_way(self, lease: str) -> UnderWay:
        """Who is at it now, for whoever was not given the lease."""
        async with self._connection() as connection:
            found = await connection.fetchrow(_AT_IT, lease)
        if found is None:  # it has just ended
            return UnderWay(self._table.name, "another process")
        return UnderWay(self._table.name, found["holder"], found["expires_at"], found["seconds"])

    async def holders(self) -> str:
        """Who has the table in use now, for a person."""
        async with self._connection() as connection:
            found = await connection.fetchval(_HOLDERS, f"{SCHEMA}.{self._table.name}")
        return found or "another process of the database"

    def _rebuilding(self, row: Any) -> Rebuilding:
        self._moved = row["updated_at"]
        return Rebuilding(**{name: row[name] for name in Rebuilding.__struct_fields__})
