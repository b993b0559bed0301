"""Applies ``sql/``, by any number of processes at once, and says what it would apply.

What is to be run is decided without I/O: by ``schema_plan`` (files and releases), ``schema_roles`` (whose the log is)
and ``schema_steps`` (the SQL). This module reads the database, runs the steps in one transaction under a lock, and
turns what goes wrong into one sentence.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from events import schema_plan, schema_roles, schema_steps
from events.database_url import BadDatabaseUrl, parse
from events.dialling import LOST, Connection, Dialler
from events.errors import EventError, SchemaMissing, SchemaPending, StoreUnavailable
from events.schema_plan import SQL_DIR, Kept
from events.schema_roles import Found
from events.schema_steps import Status, Step

LOCK_SECONDS: Final = 30.0  # another process that applies; the whole of a first start takes 0.3 s
# A change of a table waits for whoever reads it, and every append waits behind that: appends give up after 5 s.
TABLE_SECONDS: Final = 3.0
_STEP_SECONDS: Final = 600.0
_LOCK: Final = 72010003  # session-independent: a transaction lock around the whole run
_NO_LOG: Final = "this database holds no log: a start of the gateway (serve) makes it, or schema apply"
_PENDING: Final = (
    "the database is not of this release yet: schema status tells what is pending, and schema apply, or the next start "
    "of a gateway, runs it"
)
_AWAY: Final = (
    *LOST,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
)


class SchemaRefused(EventError):
    """Postgres refuses a statement of the schema; nothing of it was applied."""


class Applied(msgspec.Struct, frozen=True):
    """What ``apply`` did."""

    files: tuple[str, ...]  # run now
    rights_separated: bool  # the log is owned by a role that the gateway is not
    newer: str | None = None  # the later release that the database is of; then nothing was run


async def apply(
    admin_dsn: str,
    app_user: str,
    *,
    directory: Path = SQL_DIR,
    partition_size: int | None = None,
    lock_seconds: float = LOCK_SECONDS,
) -> Applied:
    """Bring the database up to this release; whole or not at all. ``app_user`` is whom the gateway connects as.

    A database of a later release is left as it is. Raises StoreUnavailable when the database cannot be reached or
    another process holds what is needed, SchemaTooNew, SchemaEdited when a released file was changed, SchemaMissing
    when a role is missing or may not do what is to be done, SchemaRefused when Postgres refuses the SQL.
    """
    async with _connection(admin_dsn) as connection, connection.transaction():
        await _lock(connection, lock_seconds)
        found = await _read(connection, directory, app_user, partition_size)
        found.check()
        if found.verdict == "newer":
            return Applied((), found.rights_separated, found.database)
        if found.may_change:
            for step in found.steps:
                await _run(connection, step, found)
        await connection.execute("select log.ensure_partitions()")
        return Applied(tuple(step.what for step in found.steps if step.file), found.rights_separated)


async def require(admin_dsn: str, app_user: str, *, directory: Path = SQL_DIR) -> Applied:
    """What ``apply`` would find, and nothing applied: for those who only use the log.

    Raises as ``status`` and ``apply`` do, and SchemaPending when a file of this release is still to be run.
    """
    found = await status(admin_dsn, app_user, directory=directory)
    newer = found.database if found.verdict == "newer" else None
    if newer is None and (found.database is None or any(step.file for step in found.steps)):
        raise SchemaPending(_PENDING if found.database else _NO_LOG)
    found.check()
    return Applied((), found.rights_separated, newer)


async def status(admin_dsn: str, app_user: str, *, directory: Path = SQL_DIR) -> Status:
    """How the database stands to this release and what ``apply`` would run. Changes and locks nothing.

    Raises StoreUnavailable, SchemaRefused, and SchemaMissing when ``app_user`` does not exist.
    """
    async with _connection(admin_dsn) as connection, connection.transaction(readonly=True):
        return await _read(connection, directory, app_user, None)


async def _read(connection: Connection, directory: Path, app_user: str, partition_size: int | None) -> Status:
    row = await connection.fetchrow(schema_roles.QUERY, app_user)
    assert row is not None
    roles = schema_roles.roles(msgspec.convert(dict(row), Found), app_user)
    ours = schema_plan.read(directory)
    known, complete = await _history(connection)
    return schema_steps.status(
        schema_plan.plan(ours, known), ours, roles, has_history=complete, partition_size=partition_size
    )


async def _history(connection: Connection) -> tuple[dict[str, Kept], bool]:
    """The files that this database was made with, and whether their table is as this release makes it."""
    if await connection.fetchval("select to_regclass('public.session_gateway_schema') is null"):
        return {}, False
    # As JSON: whatever columns there are. 0.1.0 made the table without release, a later one may have added some.
    rows = await connection.fetch("select file, to_jsonb(h)::text as kept from public.session_gateway_schema h")
    kept = {row["file"]: msgspec.json.decode(row["kept"], type=Kept) for row in rows}
    return kept, schema_plan.MANIFEST in kept


async def _lock(connection: Connection, seconds: float) -> None:
    await connection.execute(f"set local lock_timeout = '{seconds * 1000:.0f}ms'")
    try:
        await connection.execute(f"select pg_advisory_xact_lock({_LOCK})", timeout=seconds + 5)
    except asyncpg.LockNotAvailableError as error:
        raise StoreUnavailable(
            f"another process has been applying the schema for {seconds:g} s: start again when it is done"
        ) from error
    await connection.execute(f"set local lock_timeout = '{TABLE_SECONDS * 1000:.0f}ms'")


async def _run(connection: Connection, step: Step, found: Status) -> None:
    try:
        await connection.execute(step.sql, timeout=_STEP_SECONDS)
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaMissing(
            f"{found.role} may not apply the schema ({step.what}: {_reason(error)}): "
            "set DB_ADMIN_URL to a role that may create roles and schemas in this database"
        ) from error
    except asyncpg.LockNotAvailableError as error:
        raise StoreUnavailable(
            f"{step.what} could not be applied within {TABLE_SECONDS:g} s, since a transaction holds a table of the "
            "log (a backup, a long query): nothing was changed, start again when it has ended"
        ) from error
    except _AWAY:
        raise
    except asyncpg.PostgresError as error:
        raise SchemaRefused(
            f"Postgres refuses {step.what} ({type(error).__name__}: {_reason(error)}): nothing was changed"
        ) from error


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[Connection]:
    """A connection to migrate with; what takes it away is one sentence. Raises StoreUnavailable, SchemaMissing."""
    connection = await _connect(dsn)
    try:
        yield connection
        await connection.close(timeout=2)
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaMissing(
            f"the connecting role lacks a right in this database ({_reason(error)}): "
            "run the gateway once with DB_ADMIN_URL"
        ) from error
    except _AWAY as error:
        raise StoreUnavailable(
            "Postgres went away while the schema was read or applied "
            f"({type(error).__name__}: {_reason(error)}): start again"
        ) from error
    except asyncpg.PostgresError as error:
        raise SchemaRefused(
            f"Postgres holds no history that can be read ({type(error).__name__}: {_reason(error)}): "
            "look at public.session_gateway_schema"
        ) from error
    finally:
        connection.terminate()


async def _connect(dsn: str) -> Connection:
    """Raises StoreUnavailable."""
    try:
        url = parse(dsn)
    except BadDatabaseUrl as error:
        raise StoreUnavailable(f"the URL to migrate with (DB_ADMIN_URL, else the gateway's own) {error}") from error
    # No statement is kept by name: behind a pooler the next one may meet another server.
    return await Dialler(url, statement_cache=0).dial("session-gateway schema", command_timeout=60)


def _reason(error: BaseException) -> str:
    """The error on one line, without the details of Postgres, which quote what is stored."""
    said = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else error
    return " ".join(str(said).split()) or type(error).__name__


async def provision(admin_dsn: str, user: str, database: str) -> None:
    """Make the working user and the database on a server that is ours (the embedded one). Any number at once.

    Raises StoreUnavailable.
    """
    async with _connection(admin_dsn) as connection:
        await connection.execute(f"set lock_timeout = '{LOCK_SECONDS * 1000:.0f}ms'")
        await connection.execute(f"select pg_advisory_lock({_LOCK})")
        role, base = schema_roles.quoted(user), schema_roles.quoted(database)
        if not await connection.fetchval("select true from pg_roles where rolname = $1", user):
            await connection.execute(f"create role {role} login")
        if not await connection.fetchval("select true from pg_database where datname = $1", database):
            await connection.execute(f"create database {base}")
