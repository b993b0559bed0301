"""Storage: opens the log with what belongs to it, on the Postgres that is given, on the embedded one, or in a file.

Used by the server, which brings the schema up to its release, and by the commands that work without it (``replay``,
``keys``, ``erase``), which leave it as it is.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from events import embedded, embedded_place, jsonfile, keyring_file, schema
from events.dialling import Pool
from events.errors import StoreUnavailable
from events.fallback import FallbackEventStore
from events.jsonfile import JsonFileEventStore
from events.keyring import Keyring
from events.keyring_file import FileKeyring
from events.keyring_postgres import PostgresKeyring
from events.lease import Leases, MemoryLeases, PostgresLeases
from events.postgres import PostgresEventStore
from events.schema import Applied
from events.settings import DatabaseSettings
from events.store import EventStore
from gateway.access.tokens import Secret, load_secret
from gateway.settings import Settings

SECRETS: Final = "secrets"
LOG: Final = "log"  # USE_DATABASE_STORAGE=false
SPOOL: Final = "spool"  # of facts, while Postgres is away
REWRITABLE: Final = "The log is a file: whoever may write GATEWAY_DATA_DIR could rewrite it. Postgres can prevent that."
POLLING_ALONE: Final = (
    "A pooler stands before Postgres, so nobody is woken when the log grows: it is polled. "
    "DB_DIRECT_URL (past the pooler) mends that."
)
IN_CLEAR: Final = (
    "DATABASE TRAFFIC IS NOT ENCRYPTED on its way to {hosts}: it can be read and changed, and whoever stands there can "
    "ask for the password. Give sslmode=verify-full (DB_SSLMODE) and sslrootcert (DB_SSLROOTCERT)."
)
Report = Callable[[str], None]
"""Tells the person who started the gateway what takes long."""


async def _nothing() -> int:
    return 0


def new_instance() -> str:
    """A name for this process, for as long as it runs."""
    return f"gw-{secrets.token_hex(4)}"


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """An open log. ``size``: the bytes that it takes where it is kept. Raises EventError."""

    store: EventStore
    keyring: Keyring
    leases: Leases
    label: str  # "embedded", "database" or "json"
    schema: Applied
    notes: tuple[str, ...] = ()  # lines for the person who started the gateway
    size: Callable[[], Awaitable[int]] = _nothing
    pool: "Pool | None" = None  # of the database that holds the tables, when there is one
    instance: str = msgspec.field(default_factory=new_instance)  # who writes, and whose spool it is


def token_secret(settings: Settings) -> Secret:
    """What session tokens and container credentials derive from."""
    return load_secret(settings.sessions.session_token_secret, settings.data_dir / SECRETS / "session-token")


def sealing_secret(settings: Settings) -> Secret:
    """What the keys of personal fields are wrapped under."""
    return load_secret(settings.sessions.sealing_secret, settings.data_dir / SECRETS / "sealing")


@contextlib.asynccontextmanager
async def open_storage(
    settings: Settings, report: Report | None = None, *, migrate: bool = True
) -> AsyncIterator[Storage]:
    """The log, its schema brought up to this release, or with ``migrate`` false as it is.

    Raises EventError: away, missing, another secret; SchemaPending for a schema that would have to be brought up first.
    """
    async with AsyncExitStack() as stack:
        if not settings.database.use_database_storage:
            yield await _json_file(stack, settings)
            return
        if settings.database.given:
            dsn, admin, label = settings.database.dsn(), settings.database.admin_dsn(), "database"
        else:
            dsn, admin = await _start_embedded(stack, settings.data_dir, settings.database, report, make=migrate)
            label = "embedded"
        bring = schema.apply if migrate else schema.require
        applied = await bring(admin, settings.database.app_user)
        store = await PostgresEventStore.connect(dsn, settings.database)
        stack.push_async_callback(store.close)
        instance = new_instance()
        spooling = await _with_spool(stack, store, instance, settings)
        sealing = sealing_secret(settings).value
        keyring = PostgresKeyring(store.pool, sealing, away=lambda: not spooling.status.available)
        await keyring.prove()
        yield Storage(
            store=spooling,
            instance=instance,
            keyring=keyring,
            leases=PostgresLeases(store.pool),
            label=label,
            schema=applied,
            notes=_notes(store),
            size=store.size,
            pool=store.pool,
        )


def _notes(store: PostgresEventStore) -> tuple[str, ...]:
    notes = () if store.listens else (POLLING_ALONE,)
    hosts = ", ".join(map(str, store.in_clear))
    return (IN_CLEAR.format(hosts=hosts), *notes) if hosts else notes


async def _with_spool(
    stack: AsyncExitStack, store: EventStore, instance: str, settings: Settings
) -> FallbackEventStore:
    """The log as this process uses it; takes over what dead processes spooled here."""
    spooling = await FallbackEventStore.open(
        store, settings.data_dir / SPOOL, name=instance, max_bytes=settings.spool.spool_max_bytes
    )
    stack.push_async_callback(spooling.close)
    return spooling


async def _json_file(stack: AsyncExitStack, settings: Settings) -> Storage:
    """The log in a file, of this process until it ends."""
    file = _log_file(settings)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = await JsonFileEventStore.open(file)
    stack.push_async_callback(store.close)
    return Storage(
        store=store,
        keyring=await FileKeyring.open(file.with_name(keyring_file.FILE), sealing_secret(settings).value),
        leases=MemoryLeases(store),
        label="json",
        schema=Applied((), True),
        notes=(REWRITABLE,),
        size=store.size,
    )


def _log_file(settings: Settings) -> Path:
    return settings.data_dir / LOG / jsonfile.FILE


def is_made(settings: Settings) -> bool:
    """Whether there is a log to open. A database that is given is asked when it is opened."""
    if not settings.database.use_database_storage:
        return _log_file(settings).exists()
    return settings.database.given or embedded_place.find(settings.data_dir.resolve()) is not None


async def _start_embedded(
    stack: AsyncExitStack, data_dir: Path, wanted: DatabaseSettings, report: Report | None, *, make: bool
) -> tuple[str, str]:
    """The gateway's and the migrating DSN of the embedded server; it ends with its last user.

    ``make``: user and database too, when they are not there.
    """
    try:
        server = await embedded.start(data_dir, report=report)
    except embedded.EmbeddedPostgresFailed as error:
        raise StoreUnavailable(str(error)) from error
    await stack.enter_async_context(server)
    if make:
        await schema.provision(server.admin_dsn, wanted.db_user, wanted.db_name)
    admin = urlunsplit(urlsplit(server.admin_dsn)._replace(path=f"/{wanted.db_name}"))
    return server.dsn_for(wanted.db_user, wanted.db_name), admin
