"""Beside: rows of one table that lie elsewhere, where a rebuild gathers them or a proof compares with them.

A Follower fills it as it fills the tables, by the same folds and the same SQL. Whoever uses it says where the rows lie
and, within a transaction of its own, on which connection.
"""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from events.dialling import Connection, Pool
from events.envelope import Fence
from events.mark import Mark
from projections.table import Table
from projections.table_store import Changes, TableStore, load, put


class Beside(TableStore):
    """``schema`` and ``name``: where the rows are."""

    def __init__(self, pool: Pool, schema: str, name: str) -> None:
        super().__init__(pool)
        self._schema, self._name = schema, name
        self._inside: Connection | None = None

    @contextlib.contextmanager
    def within(self, connection: Connection) -> Iterator[None]:
        """What is read and written meanwhile belongs to the transaction that ``connection`` is in."""
        self._inside = connection
        try:
            yield
        finally:
            self._inside = None

    async def load(self, table: Table[Any], keys: Collection[str]) -> dict[str, Any]:
        async with self._connection() as connection:
            return await load(connection, table, keys, f"{self._schema}.{self._name}")

    async def write(
        self, changes: Sequence[Changes], seen: Mapping[str, datetime], to: Mark, fence: Fence
    ) -> dict[str, datetime]:
        async with self._transaction() as connection:
            moved = await self.move(connection, seen, to, fence)
            for change in changes:
                await put(connection, change, schema=self._schema, name=self._name)
        return moved

    async def move(
        self, connection: Connection, seen: Mapping[str, datetime], to: Mark, fence: Fence
    ) -> dict[str, datetime]:
        """Note how far the rows hold the log, before they are written. Nothing to note where they do not last."""
        return dict(seen)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._inside is not None:
            yield self._inside
            return
        async with super()._connection() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        if self._inside is not None:
            yield self._inside
            return
        async with super()._transaction() as connection:
            yield connection
