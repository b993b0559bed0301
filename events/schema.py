"""Applies ``sql/`` in order, by any number of processes at once.

``0xx`` and ``1xx`` and everything from ``1000`` on is applied once and never edited after a release; ``2xx`` to
``9xx`` (functions, triggers, views, rights) is applied again when its text changed. A database that knows files which
this release does not is of a newer one and is left as it is.
"""

import hashlib
import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec

from events.errors import EventError, SchemaMissing, StoreUnavailable

SQL_DIR: Final = Path(__file__).resolve().parent.parent / "sql"
OWNER_ROLE: Final = "session_gateway_owner"
APP_ROLE: Final = "session_gateway_app"
_NAME: Final = re.compile(r"(\d{3,4})_[a-z0-9_]+\.sql\Z")
_CONNECT_SECONDS: Final = 5.0
_LOCK: Final = 72010003  # session-independent: a transaction lock around the whole run

# In "public", since it is there before the schemas are; the gateway reads it, only the migrating role writes it.
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


class _Roles(msgspec.Struct, frozen=True):
    """Whom the log belongs to and who works on it."""

    owner: str
    app: str
    may_change: bool  # we are the owner, or may act as him
    separated: bool  # the gateway may not


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

    Raises StoreUnavailable when the database cannot be reached, SchemaEdited when a released file was changed,
    SchemaMissing when files are to be applied and the connecting role may not act as the log's owner.
    """
    connection = await _connect(admin_dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"select pg_advisory_xact_lock({_LOCK})")
            return await _apply(connection, sql_files(directory), app_user, partition_size)
    finally:
        await connection.close(timeout=2)


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", files: list[SqlFile], app_user: str, partition_size: int | None
) -> Applied:
    roles = await _roles(connection, app_user)
    known = await _history(connection, roles)
    newer = tuple(sorted(set(known) - {file.name for file in files}))
    if newer:
        return Applied((), roles.separated, newer)
    pending = [file for file in files if known.get(file.name) != file.sha256]
    if pending:  # a new function needs the rights too, though the rights' own text is the same
        pending = [file for file in files if file in pending or file.name.startswith("9")]
    edited = [file.name for file in pending if file.once and file.name in known]
    if edited:
        raise SchemaEdited(f"{', '.join(edited)} differs from what this database was made with: restore the file")
    if pending and not roles.may_change:
        raise SchemaMissing(
            f"the log is of a former release and belongs to {roles.owner}: run the gateway once with DB_ADMIN_URL"
        )
    await _run(connection, pending, roles, partition_size)
    return Applied(tuple(file.name for file in pending), roles.separated)


async def _history(connection: "asyncpg.Connection[asyncpg.Record]", roles: _Roles) -> dict[str, str]:
    """The files that this database was made with, and their hashes."""
    if roles.may_change:
        await connection.execute(_HISTORY)
        await connection.execute(f"grant select on public.session_gateway_schema to {_quoted(roles.app)}")
    rows = await connection.fetch("select file, sha256 from public.session_gateway_schema")
    return {row["file"]: row["sha256"] for row in rows}


async def _run(
    connection: "asyncpg.Connection[asyncpg.Record]",
    files: list[SqlFile],
    roles: _Roles,
    partition_size: int | None,
) -> None:
    await connection.execute("select set_config('gateway.app_role', $1, true)", roles.app)
    await connection.execute("select set_config('gateway.partition_size', $1, true)", str(partition_size or ""))
    if roles.may_change:
        await connection.execute(f"set local role {_quoted(roles.owner)}")
    for file in files:
        await connection.execute(file.text)
    await connection.execute("select log.ensure_partitions()")
    await connection.execute("reset role")
    for file in files:
        await connection.execute(
            "insert into public.session_gateway_schema (file, sha256) values ($1, $2) "
            "on conflict (file) do update set sha256 = excluded.sha256, applied_at = clock_timestamp()",
            file.name,
            file.sha256,
        )


async def _roles(connection: "asyncpg.Connection[asyncpg.Record]", app_user: str) -> _Roles:
    """Whose the log is: as it was made, else of a role of its own where we may make one, else ours."""
    me = await connection.fetchrow(
        "select current_user::text as name, rolsuper or rolcreaterole as may,"
        " (select pg_get_userbyid(nspowner)::text from pg_namespace where nspname = 'log') as owner"
        " from pg_roles where rolname = current_user"
    )
    assert me is not None
    own_role = bool(me["may"]) and me["name"] != app_user and me["owner"] in (None, OWNER_ROLE)
    if own_role:
        await _make_roles(connection, app_user)
    owner = me["owner"] or (OWNER_ROLE if own_role else me["name"])
    found = await connection.fetchrow(
        "select pg_has_role(current_user, $1, 'member') as may_change, pg_has_role($2, $1, 'member') as same",
        owner,
        app_user,
    )
    assert found is not None
    app = APP_ROLE if owner == OWNER_ROLE else app_user
    return _Roles(owner, app, may_change=found["may_change"], separated=not found["same"])


async def _make_roles(connection: "asyncpg.Connection[asyncpg.Record]", app_user: str) -> None:
    for role in (OWNER_ROLE, APP_ROLE):
        await _create_role(connection, role)
    await connection.execute(f"grant {OWNER_ROLE} to current_user")
    database = await connection.fetchval("select quote_ident(current_database())")
    await connection.execute(f"grant create on database {database} to {OWNER_ROLE}")
    await connection.execute(f"grant {APP_ROLE} to {_quoted(app_user)}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def _create_role(connection: "asyncpg.Connection[asyncpg.Record]", role: str) -> None:
    if await connection.fetchval("select true from pg_roles where rolname = $1", role):
        return
    try:
        async with connection.transaction():
            await connection.execute(f"create role {role} nologin")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return  # another database of this cluster made it meanwhile: roles are the cluster's


async def _connect(admin_dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Raises StoreUnavailable."""
    try:
        return await asyncpg.connect(admin_dsn, timeout=_CONNECT_SECONDS, command_timeout=60)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        what = f"Postgres ({_place(admin_dsn)}) does not take the migrating connection"
        raise StoreUnavailable(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_SECONDS:g} s"
    return "nothing listens there" if isinstance(error, ConnectionRefusedError) else str(error)


def _place(dsn: str) -> str:
    """Host and port of a DSN; never its password."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "a URL that cannot be read"
    return parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["no host"])[0]


async def provision(admin_dsn: str, user: str, database: str) -> None:
    """Make the working user and the database on a server that is ours (the embedded one). Any number at once.

    Raises StoreUnavailable.
    """
    connection = await _connect(admin_dsn)
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
