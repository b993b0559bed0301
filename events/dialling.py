"""Dials Postgres: every connection to the log is made here, to one host or to several, and through a pooler too.

Hosts are tried one by one, each with a short time-out, the last good one first: asyncpg's own dialling of several hosts
hangs on a first one that takes the connection and says nothing (40 s, as long as it was frozen). A server that takes no
writes (a standby, one just demoted) is passed over.

A pooler in transaction mode, such as PgBouncer, hands each transaction another server connection. It shows by the
process id: the one it gives at the start is not the one that answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from events.database_tls import client_context, refusal
from events.database_url import BadDatabaseUrl, DatabaseUrl, Host
from events.errors import OtherLog, StoreUnavailable
from events.settings import DatabaseSettings

DIAL_SECONDS: Final = 2.0
STATEMENT_CACHE: Final = 100
# PgBouncer before 1.21 loses prepared statements: 180 of 320 calls failed.
POOLED_STATEMENT_CACHE: Final = 0
# asyncpg reads these from a URL alone; the least TLS is ours to set, not the environment's.
_AT_LEAST: Final = {"ssl_min_protocol_version": "TLSv1.2"}
# What says that a connection, and with it the server behind it, is gone, silent or demoted.
LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class ReadOnly(Exception):
    """The server answers and takes no writes."""


class Dialler:
    """Connects to one database. Shared by all who use it, so that each learns which host is good.

    ``statement_cache`` is the number of prepared statements kept by a connection; None: as many as is safe.
    ``examine`` is asked of each new connection and raises OtherLog for a host to pass over.
    """

    def __init__(self, url: DatabaseUrl, *, statement_cache: int | None = None) -> None:
        self.url = url
        self._hosts = list(url.hosts)
        self.examine: Callable[[Connection], Awaitable[None]] | None = None
        self._statement_cache = statement_cache
        self._pooled = False
        self._in_clear: set[Host] = set()

    @property
    def in_clear(self) -> list[Host]:
        """The hosts beyond this machine to which the newest connection is not encrypted."""
        return [host for host in self.url.hosts if host in self._in_clear]

    @property
    def pooled(self) -> bool:
        """Whether a pooler was met on the way: LISTEN and whatever else lives in a session does not work."""
        return self._pooled

    async def dial(self, application: str, *, command_timeout: float | None = None) -> Connection:
        """A connection to the first host that answers and takes writes. Raises StoreUnavailable with each one's reason.

        Lasts at most DIAL_SECONDS a host.
        """
        reasons = []
        for host in list(self._hosts):
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    connection = await self._try(host, application, command_timeout)
            except (OSError, ValueError, ReadOnly, OtherLog, BadDatabaseUrl, asyncpg.PostgresError, *LOST) as error:
                reasons.append(f"{host}: {self._reason(error)}")
                continue
            self._prefer(host)
            self._look_at(host, connection)
            return connection
        raise StoreUnavailable(f"Postgres cannot be reached ({'; '.join(reasons)})")

    async def _try(self, host: Host, application: str, command_timeout: float | None) -> Connection:
        cache, met = self._cache_size(), self._pooled
        connection: Connection = await asyncpg.connect(
            **self._tls(host),
            host=host.name,
            port=host.port,
            user=self.url.user,
            password=self.url.password,
            database=self.url.name,
            target_session_attrs=SessionAttribute.any,
            command_timeout=command_timeout,
            statement_cache_size=cache,
            server_settings={"application_name": application},
        )
        try:
            if self.url.writable and await _holds(connection, "current_setting('transaction_read_only')::bool"):
                raise ReadOnly("it takes no writes: a standby, or default_transaction_read_only is on")
            if not met and await _holds(connection, f"pg_backend_pid() <> {connection.get_server_pid()}"):
                self._pooled = True
            if self.examine is not None and cache == self._cache_size():
                await self.examine(connection)
        except BaseException:
            connection.terminate()
            raise
        if cache == self._cache_size():
            return connection
        connection.terminate()  # asyncpg sets the size once
        return await self._try(host, application, command_timeout)

    def _cache_size(self) -> int:
        if self._statement_cache is not None:
            return self._statement_cache
        return POOLED_STATEMENT_CACHE if self._pooled else STATEMENT_CACHE

    def _tls(self, host: Host) -> dict[str, Any]:
        """asyncpg's arguments; files are read each time, so that a renewed certificate needs no new start."""
        tls = self.url.tls
        if host.is_socket or tls.mode == "disable":
            return {"ssl": False}
        if tls.mode == "prefer":
            own = {"sslcert": tls.certificate, "sslkey": tls.key} if tls.certificate else {}
            return {"ssl": "prefer", "dsn": f"postgresql://?{urlencode({**_AT_LEAST, **own})}"}
        return {"ssl": client_context(tls)}

    def _prefer(self, host: Host) -> None:
        if self._hosts[0] != host:
            self._hosts.remove(host)
            self._hosts.insert(0, host)

    def _look_at(self, host: Host, connection: Connection) -> None:
        # pg_stat_ssl would tell of a pooler's own connection.
        encrypted = connection._protocol.is_ssl  # type: ignore[attr-defined]  # asyncpg shows it nowhere else
        if host.is_here or encrypted:
            self._in_clear.discard(host)
        else:
            self._in_clear.add(host)

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {DIAL_SECONDS:g} s"
        # A server judges our certificate after the handshake: its alert is the cause of a connection that was lost.
        for cause in (error, error.__cause__):
            if cause is not None and (told := refusal(cause, self.url.tls)) is not None:
                return told
        if isinstance(error, asyncpg.InvalidPasswordError):
            return f"the server refuses the password of {self.url.user}"
        if isinstance(error, asyncpg.ConnectionDoesNotExistError | ConnectionResetError):
            # The alert of a server that refuses our certificate is lost when it closes before it has read all.
            shown = ", and does it trust sslcert" if self.url.tls.certificate else ""
            return f"it closed the connection: is it a Postgres{shown}?"
        if isinstance(error, asyncpg.PostgresError):
            return f"the server refuses us: {error.args[0] if error.args else type(error).__name__}"
        return str(error) or type(error).__name__


async def open_pool(dialler: Dialler, settings: DatabaseSettings, *, command_timeout: float) -> Pool:
    """Reading connections, each dialled by ``dialler``. Raises StoreUnavailable."""

    async def connect(*_: object, **__: object) -> Connection:
        return await dialler.dial("session-gateway", command_timeout=command_timeout)

    return await asyncpg.create_pool(
        connect=connect,
        min_size=min(settings.db_min_connections, settings.db_max_connections),
        max_size=settings.db_max_connections,
        max_queries=settings.db_max_queries,
        max_inactive_connection_lifetime=settings.db_max_inactive_lifetime,
    )


async def _holds(connection: Connection, condition: str) -> bool:
    """Ask by the simple protocol, whose answer here is a count: a pooler cannot lose what was never prepared."""
    return await connection.execute(f"select 1 where {condition}") == "SELECT 1"
