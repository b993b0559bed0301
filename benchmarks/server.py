"""One Postgres for a benchmark, the embedded one, and a log in a database of its own for each side."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import psutil

from events import embedded, schema
from events.embedded import EmbeddedPostgres
from events.postgres import PostgresEventStore
from events.settings import DatabaseSettings

USER: Final = "session_gateway"
FEW: Final = DatabaseSettings(db_min_connections=1, db_max_connections=4)


class Base(msgspec.Struct, frozen=True):
    """A database: as the role that made it, and as the gateway."""

    admin_dsn: str
    dsn: str


@asynccontextmanager
async def server() -> AsyncIterator[EmbeddedPostgres]:
    """A server that is gone afterwards, with its data. fsync and synchronous_commit are on, as the product has them."""
    with tempfile.TemporaryDirectory(prefix="session-gateway-bench-") as name:
        data_dir = Path(name) / "pg"
        try:
            async with await embedded.start(data_dir) as running:
                yield running
        finally:
            await embedded.remove(data_dir)


async def database(running: EmbeddedPostgres, name: str, *, partition_size: int | None = None) -> Base:
    """A database with an empty log in it."""
    await schema.provision(running.admin_dsn, USER, name)
    admin = urlunsplit(urlsplit(running.admin_dsn)._replace(path=f"/{name}"))
    await schema.apply(admin, USER, partition_size=partition_size)
    return Base(admin, running.dsn_for(USER, name))


async def postmaster(base: Base) -> int:
    """The server's process id."""
    async with connection(base.admin_dsn) as one:
        return psutil.Process(await one.fetchval("select pg_backend_pid()")).ppid()


async def drop(running: EmbeddedPostgres, base: Base) -> None:
    """Delete a database of ``database``."""
    async with connection(running.admin_dsn) as admin:
        await admin.execute(f'drop database "{urlsplit(base.dsn).path.lstrip("/")}" with (force)')


async def store(base: Base) -> PostgresEventStore:
    return await PostgresEventStore.connect(base.dsn, FEW)


@asynccontextmanager
async def connection(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A plain connection; no call on it is bounded."""
    opened = await asyncpg.connect(dsn, timeout=5)
    try:
        yield opened
    finally:
        opened.terminate()
