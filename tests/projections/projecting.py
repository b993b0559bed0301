"""A log with tables, and projectors on it, for the tests of both."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from events.lease import PostgresLeases
from events.postgres import PostgresEventStore
from projections.follower import Follower
from projections.projection import fold
from projections.projector import LEASE, Projector
from projections.table import Table
from projections.table_store import TableStore
from projections.tables import TABLES
from tests.event_fixtures import LogDatabase, open_store
from tests.projections.lives import lives


class Projecting(msgspec.Struct, frozen=True):
    """One process's access to a log and its tables."""

    store: PostgresEventStore
    rows: TableStore

    def projector(self, holder: str, **options: Any) -> Projector:
        return Projector(self.store, options.pop("rows", self.rows), PostgresLeases(self.store.pool), holder, **options)

    async def live(self, name: str, sessions: int = 2, exchanges: int = 3) -> int:
        """Append whole lives of sessions; the head afterwards."""
        for unit in lives(name, sessions, exchanges):
            await self.store.append(*unit)
        return (await self.store.head()).position

    async def held(self, tables: Sequence[Table[Any]] = TABLES) -> dict[str, dict[str, Any]]:
        """What the tables hold."""
        async with self.rows.snapshot() as then:
            return {table.name: {key: state async for key, state in then.states(table)} for table in tables}

    async def folded(self, until: int, tables: Sequence[Table[Any]] = TABLES) -> dict[str, dict[str, Any]]:
        """What the log alone makes of its first ``until`` events."""
        log = await self.store.read_log(limit=until)
        return {table.name: fold(table.projection, {}, log) for table in tables}

    async def positions(self) -> dict[str, int]:
        return {name: checkpoint.position for name, checkpoint in (await self.rows.checkpoints()).items()}

    async def agrees(self, tables: Sequence[Table[Any]] = TABLES) -> int:
        """AssertionError unless every table is the fold of the log up to its checkpoint; the least of these."""
        async with self.rows.snapshot() as then:
            found = await then.checkpoints()
            held = {table.name: {key: state async for key, state in then.states(table)} for table in tables}
        positions = {table.name: found[table.name].position if table.name in found else 0 for table in tables}
        log = await self.store.read_log(limit=max(positions.values()))
        for table in tables:
            assert held[table.name] == fold(table.projection, {}, log[: positions[table.name]]), table.name
        return min(positions.values())

    async def lapse(self) -> None:
        """The lease of the projector runs out, as after five seconds of silence."""
        await self.store.pool.execute(
            "update view.lease set expires_at = clock_timestamp() - interval '1 second' where name = $1", LEASE
        )

    async def follower(self, tables: Sequence[Table[Any]] = TABLES) -> Follower:
        """One that carries on what the tables hold."""
        found = await self.rows.checkpoints()
        return Follower(self.store, self.rows, tables, [found[table.name] for table in tables])


@contextlib.asynccontextmanager
async def projecting(log: LogDatabase) -> AsyncIterator[Projecting]:
    async with open_store(log.app_dsn) as store:
        yield Projecting(store, TableStore(store.pool))
