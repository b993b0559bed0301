"""One embedded Postgres for a test session, and an empty database for each test that asks for one.

Roles belong to the whole server: tests that create some in it name them after their database, or drop them.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from events import embedded
from events.embedded import EmbeddedPostgres


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server of this test session alone, so that sessions can run beside each other.

    What a killed session left is removed by the next one: nobody uses it any more, so ``remove`` may.
    """
    for former in tmp_path_factory.getbasetemp().parent.glob("pytest-*/postgres-server*"):
        try:
            await embedded.remove(former)
        except embedded.EmbeddedPostgresFailed:
            pass  # in use by a session that runs now
    data_dir = tmp_path_factory.mktemp("postgres-server")
    try:
        async with await embedded.start(data_dir) as server:
            yield server
    finally:
        await embedded.remove(data_dir)


@pytest_asyncio.fixture
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The admin DSN of an empty database that lives as long as the test."""
    async with fresh_database(postgres_server) as dsn:
        yield dsn


@asynccontextmanager
async def fresh_database(server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The admin DSN of a new, empty database; dropped afterwards with all connections that are left on it."""
    name = f"test_{secrets.token_hex(6)}"
    await _run(server.admin_dsn, f"create database {name}")
    try:
        yield urlunsplit(urlsplit(server.admin_dsn)._replace(path=f"/{name}"))
    finally:
        await _run(server.admin_dsn, f"drop database {name} with (force)")


async def _run(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        await connection.execute(statement, timeout=30)
    finally:
        await connection.close()
