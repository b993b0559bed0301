"""One Debian Postgres for a test session, with a log in a database of each test's own and roles with passwords."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import msgspec
import pytest
import pytest_asyncio

from events import schema
from tests import debian_postgres, pgbouncer
from tests.debian_postgres import PASSWORD, Server
from tests.event_fixtures import APP_USER, LogDatabase, connection

NAME = "a log/with?odd#name"
ROLES = (APP_USER, "certified", "tls_only", "postgres")


class DebianLog(msgspec.Struct, frozen=True, kw_only=True):
    """An empty log on a Debian server."""

    server: Server
    name: str

    def url(self, *hosts: str, user: str = APP_USER, password: str = PASSWORD, **options: str) -> str:
        """By TCP as the gateway, on this server unless other hosts are given."""
        asked = "&".join(f"{name}={quote(value, safe='/')}" for name, value in options.items())
        place = ",".join(hosts) or f"127.0.0.1:{self.server.port}"
        return f"postgresql://{user}:{quote(password, safe='')}@{place}/{quote(self.name, safe='')}?{asked}"

    @property
    def admin_url(self) -> str:
        """Through the socket, as whoever may do all."""
        return self.server.socket_url(quote(self.name, safe=""))


@pytest.fixture(scope="session")
def debian_server() -> Iterator[Server]:
    """Two seconds to make and start."""
    with debian_postgres.running() as server:
        yield server


@pytest_asyncio.fixture
async def debian_log(debian_server: Server) -> AsyncIterator[DebianLog]:
    """An empty log of this test alone, in a database whose name needs quotes."""
    async with log_on(debian_server) as log:
        yield log


@asynccontextmanager
async def log_on(server: Server, name: str = NAME) -> AsyncIterator[DebianLog]:
    """A database with a log on ``server``, dropped afterwards; the gateway's role has PASSWORD."""
    async with connection(server.socket_url()) as admin:
        for role in ROLES:
            if not await admin.fetchval("select true from pg_roles where rolname = $1", role):
                await admin.execute(f"create role {role} login")
            secret = await admin.fetchval("select quote_literal($1)", PASSWORD)
            await admin.execute(f"alter role {role} password {secret}")
        await admin.execute(f'create database "{name}"')
    log = DebianLog(server=server, name=name)
    try:
        await schema.apply(log.admin_url, APP_USER)
        yield log
    finally:
        async with connection(server.socket_url()) as admin:
            await admin.execute(f'drop database "{name}" with (force)')


@pytest.fixture(scope="session")
def pooler(debian_server: Server) -> Iterator[str]:
    """``host:port`` of a PgBouncer in transaction mode before ``debian_server``."""
    with pgbouncer.running(debian_server) as place:
        yield place


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pooled_shared_log(debian_server: Server, pooler: str) -> AsyncIterator[LogDatabase]:
    """As ``shared_log``, through PgBouncer alone."""
    async with log_on(debian_server, "pooled") as log:
        yield pooled(log, pooler)


@pytest_asyncio.fixture
async def pooled_empty_log(debian_log: DebianLog, pooler: str) -> LogDatabase:
    """As ``empty_log``, through PgBouncer alone."""
    return pooled(debian_log, pooler)


def pooled(log: DebianLog, pooler: str) -> LogDatabase:
    """The same log through the pooler, for both roles."""
    return LogDatabase(log.url(pooler, user="postgres"), log.url(pooler))
