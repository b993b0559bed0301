"""The log on Postgres: one line of SQL a method, calling the functions in ``sql/``.

One connection writes (``writer``), one listens, a pool reads. Every call is bounded; a connection in doubt is ended
with ``terminate()``, since ``close()`` waits for the server that does not answer.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NoReturn
from uuid import UUID

import asyncpg

from events import batch
from events.database_url import Host, parse
from events.dialling import LOST, Connection, Dialler, Pool, open_pool
from events.envelope import Fence, StreamWrite
from events.errors import BadEvent, OtherLog, SchemaMissing, StoreClosed, StoreUnavailable
from events.hints import Hints
from events.notices import Notices
from events.postgres_reading import PostgresReading
from events.settings import DatabaseSettings
from events.store import Appended, Outcome, StoreStatus, check_unit
from events.writer import Unit, Writer

COMMAND_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 10.0  # in all, however many units wait behind a server that does not answer
CHANNEL: Final = "gateway_log"
_NOTIFY = f"select pg_notify('{CHANNEL}', position::text) from log.tip order by position desc limit 1"

# "Unknown outcome, try again with the same ids": PostgresError alone is not enough (evidence: fail-over runs). Nor is a
# list of its classes: full disk, deadlock, read-only standby and missing rights all pass, or need an operator.
UNSURE: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_ARRAYS = (
    f"select {', '.join(f'null::{kind}[]' for kind in ('int', 'smallint', 'bigint', 'uuid', 'bytea', 'timestamptz'))}"
)


class PostgresEventStore(PostgresReading):
    """An EventStore. Made by ``connect``; the schema must stand (``events.schema``)."""

    def __init__(self, dialler: Dialler, pool: Pool, log_id: UUID) -> None:
        super().__init__(log_id, self._fetch)
        self._dialler = dialler
        self._pool = pool
        self._writer = Writer(self._send)
        self._connection: Connection | None = None
        self._hearing: Connection | None = None
        self._hints = Hints()
        self._listener: asyncio.Task[None] | None = None
        self._away_since: datetime | None = None
        self._notices = Notices(self._notify)
        self._closed = False

    @classmethod
    async def connect(cls, dsn: str, settings: DatabaseSettings | None = None) -> "PostgresEventStore":
        """Raises StoreUnavailable when Postgres does not answer, SchemaMissing when it holds no log."""
        wanted = settings or DatabaseSettings()
        dialler = _dialler(dsn, wanted)
        log_id = await _identify(dialler)
        dialler.examine = lambda connection: _examine(connection, log_id)
        pool = await open_pool(dialler, wanted, command_timeout=COMMAND_SECONDS)
        store = cls(dialler, pool, log_id)
        store._writer.start()
        listening = _dialler(direct, wanted) if (direct := wanted.direct_dsn()) else dialler
        if direct or not dialler.pooled:
            store._listener = asyncio.create_task(store._listen(listening), name="log-listener")
        return store

    @property
    def status(self) -> StoreStatus:
        return StoreStatus(available=self._away_since is None, away_since=self._away_since)

    @property
    def listens(self) -> bool:
        """False behind a pooler without a direct URL: who waits for the log to grow learns it by polling alone."""
        return self._listener is not None

    @property
    def in_clear(self) -> list[Host]:
        """Hosts beyond this machine with which this store now speaks without TLS."""
        return self._dialler.in_clear

    @property
    def pool(self) -> Pool:
        """The reading connections; leases and subject keys share them."""
        return self._pool

    @property
    def queued(self) -> int:
        """Units that wait to be written."""
        return self._writer.depth

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        check_unit(writes, fence)
        return await self._writer.append(batch.unit(writes, fence))

    async def size(self) -> int:
        """Bytes of the database on disk; asks each of its files. StoreUnavailable of it says nothing about the log."""
        try:
            rows = await self._read("select pg_database_size(current_database()) as bytes")
        except (StoreUnavailable, *UNSURE) as error:
            raise StoreUnavailable(f"the size of the database cannot be told: {_told(error)}") from error
        return int(rows[0]["bytes"])

    async def wait_beyond(self, position: int, timeout: float) -> None:
        await self._hints.wait_beyond(position, timeout)

    async def maintain(self) -> None:
        """Two partitions ahead of the tip: without one for the next position every append would fail."""
        await self._fetch("select log.ensure_partitions()")

    async def close(self) -> None:
        """Write what waits, for CLOSE_SECONDS at most; whoever waits longer gets StoreUnavailable."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.close()
                await self._notices.close()
                await asyncio.wait_for(self._pool.close(), COMMAND_SECONDS)
        except UNSURE:
            pass  # what waited was answered by the writer; a reading connection is ended below
        finally:  # also when the caller's patience ended before
            self._notices.end()
            self._drop_connection()
            self._pool.terminate()
            if self._listener is not None:
                self._listener.cancel()
        await asyncio.gather(*filter(None, [self._listener]), return_exceptions=True)
        await self._hints.end()

    async def _fetch(self, query: str, *arguments: object) -> "list[asyncpg.Record]":
        if self._closed:
            raise StoreClosed("this log was closed")
        try:
            rows = await self._read(query, *arguments)
            if rows and (found := rows[0].get("log_id", self._log_id)) != self._log_id:
                raise _other(found, self._log_id)
        except asyncpg.DataError as error:
            raise BadEvent(f"Postgres cannot be asked that: {_told(error)}") from error
        except (StoreUnavailable, *UNSURE) as error:
            await self._is_away(error)
            raise StoreUnavailable(f"Postgres did not answer: {_told(error)}") from error
        self._away_since = None
        return rows

    async def _read(self, query: str, *arguments: object) -> "list[asyncpg.Record]":
        """One deadline for the wait for a connection and the answer.

        A connection that was given up is ended: the pool would first wait for a frozen server to cancel its query.
        """
        async with asyncio.timeout(COMMAND_SECONDS), self._pool.acquire() as connection:
            try:
                return await connection.fetch(query, *arguments)
            except (TimeoutError, asyncio.CancelledError):
                connection.terminate()
                raise

    async def _is_away(self, error: Exception) -> None:
        """After a fail-over the other connections still lead to the former server: they are dialled anew too."""
        self._away_since = self._away_since or datetime.now(UTC)
        if isinstance(error, LOST):
            await self._pool.expire_connections()
            if self._hearing is not None:
                self._hearing.terminate()

    async def _send(self, units: Sequence[Unit]) -> list[Outcome]:
        telling = self._notices.tells(more=self._writer.depth > 0)
        columns = batch.columns(units, notify=telling)
        try:
            connection = await self._writing_connection()
            rows = await connection.fetch(batch.APPEND, *columns, self._log_id, timeout=COMMAND_SECONDS)
            if not rows:
                raise _other(await _log_of(connection), self._log_id)
        except asyncpg.UniqueViolationError as error:  # ids and versions are looked up: no event can be at fault
            raise StoreUnavailable(
                f"the log is damaged: its heads or keys differ from its events ({error.constraint_name}); nothing is"
                " written until they are made to agree (docs/operator.md, When the heads differ from the events)"
            ) from error
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            if isinstance(error, asyncpg.CheckViolationError) and not error.constraint_name:
                await self._make_partitions(error)
            raise BadEvent(f"Postgres refuses an event: {_told(error)}") from error
        except (StoreUnavailable, *UNSURE) as error:
            if not telling:
                self._notices.owe()  # it may have been committed: sent again, it is a duplicate and tells nobody
            self._drop_connection()
            await self._is_away(error)
            raise StoreUnavailable(f"Postgres did not take the batch: {_told(error)}") from error
        self._away_since = None
        match batch.notified(rows, telling=telling):
            case True:
                self._notices.told()
            case False:
                self._notices.owe()
        outcomes = batch.outcomes(units, rows)
        await self._hints.told(max((each.position for each in outcomes if isinstance(each, Appended)), default=0))
        return outcomes

    async def _notify(self) -> None:
        try:
            await self._read(_NOTIFY)
        except (StoreUnavailable, *UNSURE) as error:
            raise StoreUnavailable(f"nobody can be told that the log grew: {_told(error)}") from error

    async def _make_partitions(self, error: Exception) -> NoReturn:
        """No partition for the next position: the keeper is late. Nothing was written; the batch is sent again."""
        try:
            await self._read("select log.ensure_partitions()")
        except (StoreUnavailable, *UNSURE) as another:
            raise StoreUnavailable(f"the log needs a partition that cannot be made: {_told(another)}") from error
        raise StoreUnavailable("the log had no partition for the next position") from error

    async def _writing_connection(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._dialler.dial("session-gateway writer", command_timeout=COMMAND_SECONDS)
            if self._dialler.pooled:
                # asyncpg asks for types that it does not know with "jit" off, by a setting of the session, which a
                # pooler gives to another one; with it on that took 2 to 8 s. A transaction keeps both together.
                async with self._connection.transaction():
                    await self._connection.fetch(_ARRAYS)
            await self._read_committed(self._connection)
        return self._connection

    async def _read_committed(self, connection: Connection) -> None:
        """What append_batch needs, whatever the role or the database defaults to."""
        if not self._dialler.pooled:
            await connection.execute("set default_transaction_isolation = 'read committed'")
        elif (default := await connection.fetchval("show default_transaction_isolation")) != "read committed":
            raise StoreUnavailable(
                f"default_transaction_isolation is {default!r}, and behind a pooler it cannot be set for a session:"
                " set it to 'read committed' for the role and the database"
            )

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _listen(self, dialler: Dialler) -> None:
        """A hint that makes the tail quick; without it the tail still polls."""
        while True:
            try:
                connection = await dialler.dial("session-gateway listener")
            except (StoreUnavailable, *UNSURE):
                await asyncio.sleep(1)
                continue
            self._hearing, ended = connection, asyncio.Event()
            connection.add_termination_listener(lambda _, ended=ended: ended.set())
            try:
                await connection.add_listener(CHANNEL, self._notified)
                await ended.wait()
            except UNSURE:
                await asyncio.sleep(1)
            finally:
                connection.terminate()

    async def _notified(self, connection: object, pid: int, channel: str, payload: object) -> None:
        await self._hints.heard(payload)


def _dialler(dsn: str, settings: DatabaseSettings) -> Dialler:
    cache = settings.db_statement_cache
    return Dialler(parse(dsn), statement_cache=None if cache < 0 else cache)


async def _log_of(connection: Connection) -> UUID:
    return UUID(str(await connection.fetchval("select log_id from log.identity", timeout=COMMAND_SECONDS)))


async def _identify(dialler: Dialler) -> UUID:
    """Which log the database holds."""
    connection = await dialler.dial("session-gateway", command_timeout=COMMAND_SECONDS)
    try:
        return await _log_of(connection)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise SchemaMissing("the database holds no log: run the gateway once as its owner (DB_ADMIN_URL)") from error
    except UNSURE as error:
        raise StoreUnavailable(f"the log cannot be read: {_told(error)}") from error
    finally:
        connection.terminate()


async def _examine(connection: Connection, wanted: UUID) -> None:
    """A database made anew under the same name, or another host of the URL, may hold another log."""
    if (found := await _log_of(connection)) != wanted:
        raise _other(found, wanted)


def _other(found: UUID, wanted: UUID) -> OtherLog:
    return OtherLog(
        f"it holds the log {found} now, and this process works on {wanted}: bring that one back, or restart"
    )


def _told(error: BaseException) -> str:
    """The error in a line, without the details of Postgres, which quote what was written."""
    if isinstance(error, StoreUnavailable):
        return str(error)
    said = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else error
    return f"{type(error).__name__}: {said}"
