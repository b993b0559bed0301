"""Logs for tests: the schema in an own database, stores, keyrings and leases on it, one set for every backend.

The shared log is not empty: tests that use it write to streams of their own and count from the head they found.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from events import jsonfile, schema
from events.embedded import EmbeddedPostgres
from events.fallback import FallbackEventStore
from events.ids import short
from events.jsonfile import JsonFileEventStore
from events.lease import PostgresLeases
from events.memory import MemoryEventStore
from events.postgres import PostgresEventStore
from events.settings import DatabaseSettings
from events.store import EventStore
from tests.postgres_fixtures import fresh_database

APP_USER: Final = "session_gateway"
# Few connections: a test opens several stores, and all tests share one server.
SMALL: Final = DatabaseSettings(db_min_connections=1, db_max_connections=4)
_POSTGRES: Final = pytest.param("postgres", marks=pytest.mark.postgres)
PAIR: Final = ["memory", _POSTGRES]
_FALLBACK: Final = pytest.param("fallback", marks=pytest.mark.postgres)
_POOLER: Final = pytest.param("pooler", marks=[pytest.mark.postgres, pytest.mark.slow])
# Every EventStore; the contract suite runs over each.
BACKENDS: Final = ["memory", "jsonfile", _POSTGRES, _FALLBACK, _POOLER]


class LogDatabase(msgspec.Struct, frozen=True):
    """A database that holds a log: as whoever migrates it, and as the gateway."""

    admin_dsn: str
    app_dsn: str


def as_user(dsn: str, user: str) -> str:
    """The same database as another role."""
    return urlunsplit(urlsplit(dsn)._replace(netloc=f"{user}@"))


async def ensure_role(admin_dsn: str, role: str, options: str = "login") -> None:
    """Make a role of the test server; roles stay, as the server goes with the test session."""
    async with connection(admin_dsn) as admin:
        if not await admin.fetchval("select true from pg_roles where rolname = $1", role):
            await admin.execute(f"create role {role} {options}")


@asynccontextmanager
async def connection(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection, ended at once afterwards whatever state it is in."""
    opened = await asyncpg.connect(dsn, timeout=5, command_timeout=30)
    try:
        yield opened
    finally:
        opened.terminate()


@asynccontextmanager
async def log_database(server: EmbeddedPostgres, *, partition_size: int | None = None) -> AsyncIterator[LogDatabase]:
    """An empty log in a database of its own."""
    async with fresh_database(server) as admin_dsn:
        await ensure_role(admin_dsn, APP_USER)
        await schema.apply(admin_dsn, APP_USER, partition_size=partition_size)
        yield LogDatabase(admin_dsn, as_user(admin_dsn, APP_USER))


@asynccontextmanager
async def open_store(dsn: str) -> AsyncIterator[PostgresEventStore]:
    """A store on a log that stands, closed afterwards."""
    store = await PostgresEventStore.connect(dsn, SMALL)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_fallback(dsn: str, spools: Path) -> AsyncIterator[FallbackEventStore]:
    """The same store with a spool of its own in a directory."""
    inner = await PostgresEventStore.connect(dsn, SMALL)
    store = await FallbackEventStore.open(inner, spools, name=f"gw-{short()}", max_bytes=2**20)
    try:
        yield store
    finally:
        await store.close()


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 20.0) -> None:
    """Wait for a condition, asked again and again; TimeoutError after ``seconds``."""
    async with asyncio.timeout(seconds):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_log(postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    """One log for all tests that do not need an empty one: a database takes a third of a second."""
    async with log_database(postgres_server) as database:
        yield database


@pytest_asyncio.fixture
async def empty_log(postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    """A log with nothing in it, of this test alone."""
    async with log_database(postgres_server) as database:
        yield database


@pytest_asyncio.fixture
async def pg_store(shared_log: LogDatabase) -> AsyncIterator[PostgresEventStore]:
    """A Postgres store on the shared log."""
    async with open_store(shared_log.app_dsn) as store:
        yield store


@pytest_asyncio.fixture
async def pg_leases(pg_store: PostgresEventStore) -> PostgresLeases:
    """Leases beside ``pg_store``."""
    return PostgresLeases(pg_store.pool)


class Backend(msgspec.Struct, frozen=True):
    """A log of one kind. ``opened``: a store on it, closed afterwards."""

    name: str
    opened: Callable[[], AbstractAsyncContextManager[EventStore]]
    several: bool  # processes may share it: more than one store can be open


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """A log of each kind; the Postgres one is shared and not empty."""
    return _backend(request, "shared_log")


@pytest.fixture(params=BACKENDS)
def empty_backend(request: pytest.FixtureRequest) -> Backend:
    """A log of each kind with nothing in it."""
    return _backend(request, "empty_log")


def _backend(request: pytest.FixtureRequest, database: str) -> Backend:
    name: str = request.param
    match name:
        case "memory":
            return Backend(name, lambda: _closing(_memory()), several=False)
        case "jsonfile":
            file = request.getfixturevalue("tmp_path") / jsonfile.FILE
            return Backend(name, lambda: _closing(JsonFileEventStore.open(file)), several=False)
        case "postgres":
            log: LogDatabase = request.getfixturevalue(database)
            return Backend(name, lambda: open_store(log.app_dsn), several=True)
        case "pooler":
            pooled: LogDatabase = request.getfixturevalue(f"pooled_{database}")
            return Backend(name, lambda: open_store(pooled.app_dsn), several=True)
        case "fallback":
            below: LogDatabase = request.getfixturevalue(database)
            spools = request.getfixturevalue("tmp_path") / "spool"
            return Backend(name, lambda: open_fallback(below.app_dsn, spools), several=True)
    raise AssertionError(name)


async def _memory() -> EventStore:
    return MemoryEventStore()


@asynccontextmanager
async def _closing(opening: Awaitable[EventStore]) -> AsyncIterator[EventStore]:
    store = await opening
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=PAIR)
def log_of_backend(request: pytest.FixtureRequest) -> LogDatabase | None:
    """The shared log, or None for the log in memory."""
    return None if request.param == "memory" else request.getfixturevalue("shared_log")


@pytest.fixture(params=PAIR)
def empty_log_of_backend(request: pytest.FixtureRequest) -> LogDatabase | None:
    """An empty log, or None for the log in memory."""
    return None if request.param == "memory" else request.getfixturevalue("empty_log")


@pytest_asyncio.fixture
async def event_store(backend: Backend) -> AsyncIterator[EventStore]:
    """A store of each kind; the Postgres one is on the shared log."""
    async with backend.opened() as store:
        yield store


@pytest_asyncio.fixture
async def empty_event_store(empty_backend: Backend) -> AsyncIterator[EventStore]:
    """A store of each kind with nothing in it."""
    async with empty_backend.opened() as store:
        yield store
