"""TableStore: the tables in Postgres as a projector and a starting process use them. Bounded, like every call there.

Rows and checkpoint are written in one transaction, which begins by moving the checkpoint: whoever is not the lease's
holder any more, or has not seen the last write, moves none and writes nothing. Nothing lives in a session, so a pooler
may stand between.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

import asyncpg
import msgspec

from events.dialling import Connection, Pool
from events.envelope import Fence
from events.errors import StoreUnavailable
from events.mark import Mark
from events.postgres import UNSURE
from projections import table_sql
from projections.checkpoint import Checkpoint
from projections.errors import RowRefused, Superseded
from projections.table import SCHEMA, Table, bounded
from projections.tables import TABLES

SECONDS: Final = 30.0  # for a transaction; each statement is bounded by the pool too
COPIED: Final = 50  # new rows from which on they are copied: the writes of 100,000 events took 2.8 s instead of 4.4
FETCH: Final = 2000  # rows a round trip when all of a table is read


# What a row is at fault for, and not the server: it will be refused whenever it is written again.
_REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.UndefinedColumnError,
    asyncpg.DatatypeMismatchError,
)


class Changes(msgspec.Struct, frozen=True):
    """What one page of the log does to one table: the state of each changed key, None for one that is gone."""

    table: Table[Any]
    states: Mapping[str, Any]
    new: Collection[str] = frozenset()  # keys that have no row yet


class TableStore:
    """Made on the pool of a log's store; the schema must stand."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def checkpoints(self) -> dict[str, Checkpoint]:
        """Of every table that was ever made, also by a release that this one does not know. Raises StoreUnavailable."""
        async with self._connection() as connection:
            return await _checkpoints(connection)

    async def reached(self) -> int:
        """The position that every table of this release holds. Raises StoreUnavailable."""
        found = await self.checkpoints()
        return min(found[table.name].position if table.name in found else 0 for table in TABLES)

    async def claim(self, epoch: int) -> None:
        """From here on no former holder writes. Waits for its last transaction. Raises StoreUnavailable."""
        async with self._transaction() as connection:
            await connection.execute(table_sql.CLAIM, epoch)

    async def raise_epoch(self, held: Fence, holder: str) -> int | None:
        """The epoch under which a new holder of the lease writes: above that of every checkpoint.

        They are apart when somebody deleted the lease: its next epoch is 1. None when ``holder`` has it no more.
        """
        async with self._transaction() as connection:
            raised = await connection.fetchval(table_sql.RAISE, held.lease, held.epoch, holder)
        return None if raised is None else int(raised)

    async def condemn(self, name: str, fence: Fence) -> None:
        """Mark a table as one that has to be made anew: no process starts from it. Raises StoreUnavailable."""
        async with self._transaction() as connection:
            await connection.execute(table_sql.CONDEMN, name, fence.lease, fence.epoch)

    async def begin(self, table: Table[Any], log_id: UUID, fence: Fence) -> Checkpoint:
        """Empty a table and put it at the beginning of the log. Raises Superseded, StoreUnavailable."""
        async with self._transaction() as connection:
            row = await connection.fetchrow(
                table_sql.BEGIN, table.name, table.projection.version, log_id, fence.lease, fence.epoch
            )
            if row is None:
                raise Superseded(table.name)
            await connection.execute(table_sql.empty(table))
        return _checkpoint(row)

    async def load(self, table: Table[Any], keys: Collection[str]) -> dict[str, Any]:
        """The states of those keys that have a row. Raises UnreadableState, StoreUnavailable."""
        async with self._connection() as connection:
            return await load(connection, table, keys)

    async def write(
        self, changes: Sequence[Changes], seen: Mapping[str, datetime], to: Mark, fence: Fence
    ) -> dict[str, datetime]:
        """Write rows and move the checkpoints of the tables in ``seen``, which were last moved then; all or nothing.

        The moments of this move, for the next. Raises Superseded when another has moved one of them or holds the
        lease; StoreUnavailable, after which it may or may not have been written.
        """
        async with self._transaction() as connection:
            moved = await connection.fetch(
                table_sql.MOVE,
                *(list(seen), list(seen.values()), to.position, to.event_id, to.recorded_at),
                *(fence.lease, fence.epoch),
            )
            if len(moved) != len(seen):
                raise Superseded(", ".join(sorted(set(seen) - {row["name"] for row in moved})))
            for change in changes:
                await put(connection, change)
        return {row["name"]: row["updated_at"] for row in moved}

    @contextlib.asynccontextmanager
    async def snapshot(self, tables: Sequence[Table[Any]] = ()) -> AsyncIterator["TableSnapshot"]:
        """All tables as of one moment. Raises StoreUnavailable.

        ``tables``: those that are read. They are locked first, which lets all but the end of a rebuild through: the
        table that it puts in the place is filled with rows that an older snapshot does not see.
        """
        with _told():  # each page of rows is bounded by the pool, not their number
            async with (
                self._acquired() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                if tables:
                    names = ", ".join(map(table_sql.relation, tables))
                    await connection.execute(f"lock table {names} in access share mode")
                yield TableSnapshot(connection)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        with _told():
            async with asyncio.timeout(SECONDS), self._acquired() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Connection]:
        """One that was given up is ended: the pool would first wait for a frozen server."""
        async with self._pool.acquire() as connection:
            try:
                yield cast(Connection, connection)
            except (TimeoutError, asyncio.CancelledError):
                connection.terminate()
                raise

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connection() as connection, connection.transaction(isolation="read_committed"):
            await connection.execute(table_sql.BOUNDED)
            yield connection


class TableSnapshot:
    """Reads within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def checkpoints(self) -> dict[str, Checkpoint]:
        return await _checkpoints(self._connection)

    async def states(self, table: Table[Any]) -> AsyncIterator[tuple[str, Any]]:
        """Every key with its state, in pages. Raises UnreadableState."""
        cursor = await self._connection.cursor(table_sql.load_all(table))
        while rows := await cursor.fetch(FETCH):
            for row in rows:
                state = table.state_of(row[1])
                key = table.key_of(row[0], state)
                yield key, table.lean(key, state)


async def _checkpoints(connection: Connection) -> dict[str, Checkpoint]:
    return {row["name"]: _checkpoint(row) for row in await connection.fetch(table_sql.CHECKPOINTS)}


def _checkpoint(row: "asyncpg.Record") -> Checkpoint:
    return Checkpoint(**{name: row[name] for name in Checkpoint.__struct_fields__})


async def load(connection: Connection, table: Table[Any], keys: Collection[str], of: str = "") -> dict[str, Any]:
    """The states of those keys that have a row. ``of``: where they lie. Raises UnreadableState."""
    stored = {bounded(key): key for key in keys}
    rows = await connection.fetch(table_sql.load(table, of), list(stored))
    return {stored[row[0]]: table.state_of(row[1]) for row in rows}


async def put(connection: Connection, change: Changes, *, schema: str = SCHEMA, name: str = "") -> None:
    """The rows of one page, within a transaction; ``name``: where they lie when it is not the projection's table.

    Raises RowRefused, after which the transaction is lost.
    """
    try:
        await _put(connection, change, schema=schema, name=name)
    except _REFUSED as error:
        raise RowRefused(change.table.name, _why(error)) from error


async def _put(connection: Connection, change: Changes, *, schema: str, name: str) -> None:
    into = f"{schema}.{name}" if name else ""
    table, new = change.table, change.new if len(change.new) >= COPIED else ()
    rows = [table.values(key, state) for key, state in change.states.items() if state is not None and key not in new]
    gone = [bounded(key) for key, state in change.states.items() if state is None]
    if new:
        copied = [table.values(key, change.states[key]) for key in new]
        columns = [column.name for column in table.columns] + ["state"]
        await connection.copy_records_to_table(name or table.name, schema_name=schema, columns=columns, records=copied)
    if rows:
        await connection.execute(table_sql.upsert(table, into), *map(list, zip(*rows, strict=True)))
    if gone:
        await connection.execute(table_sql.delete(table, into), gone)


def _why(error: Exception) -> str:
    """The server's sentence, but for errors of values: those quote them."""
    said = "" if isinstance(error, asyncpg.DataError) or not error.args else f": {error.args[0]}"
    return f"{type(error).__name__}{said}"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except UNSURE as error:
        said = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else error
        raise StoreUnavailable(f"the tables cannot be reached: {type(error).__name__}: {said}") from error
