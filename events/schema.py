"""Applies ``sql/`` in order, by any number of processes at once.

``0xx`` and ``1xx`` and everything from ``1000`` on is applied once and never edited after a release; ``2xx`` to
``9xx`` (functions, triggers, views, rights) is applied again when its text changed. A database that knows files which
this release does not is of a newer one and is left as it is.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

import asyncpg
import msgspec

from events.errors import EventError, StoreUnavailable

SQL_DIR: Final = Path(__file__).resolve().parent.parent / "sql"
OWNER_ROLE: Final = "session_gateway_owner"
APP_ROLE: Final = "session_gateway_app"
_NAME: Final = re.compile(r"(\d{3,4})_[a-z0-9_]+\.sql\Z")
_LOCK: Final = 72010003  # session-independent: a transaction lock around the whole run

# "view" holds it because the gateway reads it; only the migrating role writes it.
_HISTORY: Final = """
create table if not exists public.session_gateway_schema (
  file text primary key, sha256 text not null, applied_at timestamptz not null default clock_timestamp())
"""


class SchemaEdited(EventError):
    """A file that is applied once differs from what this database was made with; released files are never edited."""


class SqlFile(msgspec.Struct, frozen=True):
    """One file of ``sql/``."""

    name: str
    text: str
    sha256: str
    once: bool


class Applied(msgspec.Struct, frozen=True):
    """What ``apply`` did."""

    files: tuple[str, ...]  # applied now
    rights_separated: bool  # the log is owned by a role that the gateway is not
    newer: tuple[str, ...] = ()  # files of a later release that the database has; then nothing was applied


def sql_files(directory: Path = SQL_DIR) -> list[SqlFile]:
    """The files in the order they are applied."""
    found = []
    for path in directory.glob("*.sql"):
        if match := _NAME.match(path.name):
            text = path.read_text(encoding="utf-8")
            number = int(match[1])
            once = number < 200 or number >= 1000
            found.append((number, SqlFile(path.name, text, hashlib.sha256(text.encode()).hexdigest(), once)))
    # Changes (1000+) come before functions, which may use what they add.
    return [file for _, file in sorted(found, key=lambda item: (not item[1].once, item[0]))]


async def apply(
    admin_dsn: str, app_user: str, *, directory: Path = SQL_DIR, partition_size: int | None = None
) -> Applied:
    """Bring the database up to this release; whole or not at all. ``app_user`` is whom the gateway connects as.

    Raises StoreUnavailable when the database cannot be reached, SchemaEdited when a released file was changed.
    """
    try:
        connection = await asyncpg.connect(admin_dsn, timeout=5, command_timeout=60)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise StoreUnavailable(f"Postgres does not take the migrating connection: {error}") from error
    try:
        async with connection.transaction():
            await connection.execute(f"select pg_advisory_xact_lock({_LOCK})")
            return await _apply(connection, sql_files(directory), app_user, partition_size)
    finally:
        await connection.close(timeout=2)


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", files: list[SqlFile], app_user: str, partition_size: int | None
) -> Applied:
    await connection.execute(_HISTORY)
    rows = await connection.fetch("select file, sha256 from public.session_gateway_schema")
    known = {row["file"]: row["sha256"] for row in rows}
    newer = tuple(sorted(set(known) - {file.name for file in files}))
    separated = await _roles(connection, app_user)
    if newer:
        return Applied((), separated, newer)
    pending = [file for file in files if known.get(file.name) != file.sha256]
    if pending:  # a new function needs the rights too, though the rights' own text is the same
        pending = [file for file in files if file in pending or file.name.startswith("9")]
    edited = [file.name for file in pending if file.once and file.name in known]
    if edited:
        raise SchemaEdited(f"{', '.join(edited)} differs from what this database was made with: restore the file")
    await connection.execute("select set_config('gateway.app_role', $1, true)", APP_ROLE if separated else app_user)
    await connection.execute("select set_config('gateway.partition_size', $1, true)", str(partition_size or ""))
    if separated:
        await connection.execute(f"set local role {OWNER_ROLE}")
    for file in pending:
        await connection.execute(file.text)
    await connection.execute("select log.ensure_partitions()")
    await connection.execute("reset role")
    for file in pending:
        await connection.execute(
            "insert into public.session_gateway_schema (file, sha256) values ($1, $2) "
            "on conflict (file) do update set sha256 = excluded.sha256, applied_at = clock_timestamp()",
            file.name,
            file.sha256,
        )
    return Applied(tuple(file.name for file in pending), separated)


async def _roles(connection: "asyncpg.Connection[asyncpg.Record]", app_user: str) -> bool:
    """Make the owning and the working role where we may. False when the gateway's own user must own the log."""
    me = await connection.fetchrow(
        "select current_user as name, rolsuper or rolcreaterole as may from pg_roles where rolname = current_user"
    )
    assert me is not None
    if me["name"] == app_user or not me["may"]:
        return False
    for role in (OWNER_ROLE, APP_ROLE):
        await _create_role(connection, role)
    await connection.execute(f"grant {OWNER_ROLE} to current_user")
    database = await connection.fetchval("select quote_ident(current_database())")
    await connection.execute(f"grant create on database {database} to {OWNER_ROLE}")
    await connection.execute(f"grant {APP_ROLE} to {await connection.fetchval('select quote_ident($1)', app_user)}")
    return True


async def _create_role(connection: "asyncpg.Connection[asyncpg.Record]", role: str) -> None:
    if await connection.fetchval("select true from pg_roles where rolname = $1", role):
        return
    try:
        async with connection.transaction():
            await connection.execute(f"create role {role} nologin")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return  # another database of this cluster made it meanwhile: roles are the cluster's


async def provision(admin_dsn: str, user: str, database: str) -> None:
    """Make the working user and the database on a server that is ours (the embedded one). Any number at once.

    Raises StoreUnavailable.
    """
    try:
        connection = await asyncpg.connect(admin_dsn, timeout=5, command_timeout=60)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise StoreUnavailable(f"Postgres does not take the migrating connection: {error}") from error
    try:
        await connection.execute(f"select pg_advisory_lock({_LOCK})")
        names = await connection.fetchrow("select quote_ident($1) as role, quote_ident($2) as base", user, database)
        assert names is not None
        if not await connection.fetchval("select true from pg_roles where rolname = $1", user):
            await connection.execute(f"create role {names['role']} login")
        if not await connection.fetchval("select true from pg_database where datname = $1", database):
            await connection.execute(f"create database {names['base']}")
    finally:
        await connection.close(timeout=2)
