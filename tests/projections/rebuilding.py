"""A log in Postgres with whole lives in it, its tables at the head, and rebuilds that can be killed at a step."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest_asyncio

from events.catalogue import ApiKeyCreated, HealthChanged, HealthSummarized, ProjectionRebuilt, SubjectErased
from events.embedded import EmbeddedPostgres
from events.envelope import KEYS, SYSTEM, StreamWrite, container_stream
from events.ids import short
from events.lease import PostgresLeases
from events.postgres import PostgresEventStore
from projections.projector import Projector
from projections.rebuild import Progress, Rebuilder
from projections.table import Table
from projections.table_store import TableStore
from projections.tables import TABLES
from tests.event_fixtures import LogDatabase, connection, log_database, open_store
from tests.factories import event, write
from tests.projections.lives import lives

_OF_TABLES = ("projection_checkpoint", "projection_rebuild", "projection_proof", "projection_alert", "lease")


class Killed(BaseException):
    """No handler of the product catches it: the work ends where it is."""


class Ground:
    """What a test of rebuilds stands on."""

    def __init__(self, database: LogDatabase, store: PostgresEventStore) -> None:
        self.database, self.store = database, store
        self.leases = PostgresLeases(store.pool)
        self.told: list[tuple[UUID, ProjectionRebuilt]] = []
        self.steps: list[Progress] = []
        self.projector = Projector(store, TableStore(store.pool), self.leases, f"p-{short()}")

    async def live(self, name: str, sessions: int = 12, exchanges: int = 5) -> None:
        """Append whole lives."""
        for unit in lives(name, sessions, exchanges):
            await self.store.append(*unit)

    async def clear(self) -> None:
        """Forget all that is derived from the log."""
        async with connection(self.database.admin_dsn) as admin:
            for name in await self.left():
                await admin.execute(f"drop table view.{name}")
            for name in (*(table.name for table in TABLES), *_OF_TABLES):
                await admin.execute(f"delete from view.{name}")

    async def carry(self) -> None:
        """Bring every table to the head, as the projector of a gateway does."""
        await self.projector.run_once()

    def rebuilder(self, holder: str = "r1", tell: Any = None, **named: Any) -> Rebuilder:
        named = {"near": 20} | named  # pages, and not all of it in the last transaction
        return Rebuilder(self.store, self.store.pool, self.leases, holder=holder, tell=tell or self._tell, **named)

    async def _tell(self, told_id: UUID, done: ProjectionRebuilt) -> None:
        self.told.append((told_id, done))

    async def rebuild(self, table: Table[Any], **named: Any) -> ProjectionRebuilt:
        return await self.rebuilder().rebuild(table, watch=self.steps.append, **named)

    async def killed_at(self, table: Table[Any], step: str, times: int = 1) -> None:
        """A rebuild that ends when it is at ``step`` for the nth time."""
        try:
            await self.rebuilder().rebuild(table, watch=killing(step, times))
        except Killed:
            return
        raise AssertionError(f"it never came to {step}")

    async def sql(self, query: str, *arguments: Any) -> Any:
        """One value, asked or changed as whoever owns the database."""
        async with connection(self.database.admin_dsn) as admin:
            return await admin.fetchval(query, *arguments)

    async def rows(self, table: Table[Any]) -> dict[str, Any]:
        """Every row of the table in use, by key."""
        async with connection(self.database.app_dsn) as app:
            return {row[0]: tuple(row) for row in await app.fetch(f"select * from view.{table.name}")}

    async def shape(self, table: Table[Any]) -> dict[str, Any]:
        """Indexes, constraints, rights and options, as the schema's files made them."""
        async with connection(self.database.admin_dsn) as admin:
            name = f"view.{table.name}"
            return {
                "indexes": await admin.fetchval(
                    "select array_agg(indexdef order by indexdef) from pg_indexes"
                    " where schemaname = 'view' and tablename = $1",
                    table.name,
                ),
                "constraints": await admin.fetchval(
                    "select array_agg(conname || pg_get_constraintdef(oid) order by conname) from pg_constraint"
                    " where conrelid = $1::text::regclass and contype <> 'n'",
                    name,
                ),
                "rights": await admin.fetchval(
                    "select array_agg(a::text order by a::text) from pg_class c, unnest(c.relacl) a"
                    " where c.oid = $1::text::regclass",
                    name,
                ),
                "owner": await admin.fetchval(
                    "select relowner::regrole::text from pg_class where oid = $1::text::regclass", name
                ),
                "options": await admin.fetchval("select reloptions from pg_class where oid = $1::text::regclass", name),
            }

    async def left(self) -> list[str]:
        """Tables of rebuilds that are still there."""
        async with connection(self.database.admin_dsn) as admin:
            rows = await admin.fetch(r"select relname::text from pg_class where relname like '%\_next' order by 1")
        return [row[0] for row in rows]


def killing(step: str, times: int = 1) -> Callable[[Progress], None]:
    """A watch that kills the rebuild there."""
    left = times

    def watch(progress: Progress) -> None:
        nonlocal left
        if progress.step == step:
            left -= 1
            if left == 0:
                raise Killed

    return watch


@asynccontextmanager
async def ground(database: LogDatabase) -> AsyncIterator[Ground]:
    """A log of some lives whose tables are at the head. The database may have served another test."""
    async with open_store(database.app_dsn) as store:
        made = Ground(database, store)
        await made.clear()
        if (await store.head()).position == 0:
            await made.live("a")
            for unit in _others():
                await store.append(unit)
        await made.carry()
        yield made
        await made.projector.close()


def _others() -> list[StreamWrite]:
    """What the lives leave out, so that every table has a row."""
    of: dict[str, Any] = {"session_id": "a-0", "container": "c-a-0"}
    return [
        write(KEYS, ApiKeyCreated),
        write(SYSTEM, SubjectErased),
        write(container_stream("c-a-0"), event(HealthChanged, **of), event(HealthSummarized, **of)),
    ]


def table(name: str) -> Table[Any]:
    return next(each for each in TABLES if each.name == name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    """One for all tests of a file: to make one takes longer than most of them."""
    async with log_database(postgres_server) as made:
        yield made


@pytest_asyncio.fixture
async def on(database: LogDatabase) -> AsyncIterator[Ground]:
    """A new beginning on it."""
    async with ground(database) as made:
        yield made
