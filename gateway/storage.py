"""Storage: opens the log with what belongs to it, on the Postgres that is given or on the embedded one.

Used by the server and by the commands that work without it (``replay``, ``keys``, ``erase``).
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from events import embedded, schema
from events.errors import StoreUnavailable
from events.keyring import Keyring
from events.keyring_postgres import PostgresKeyring
from events.lease import Leases, PostgresLeases
from events.postgres import PostgresEventStore
from events.schema import Applied
from events.settings import DatabaseSettings
from events.store import EventStore
from gateway.access.tokens import Secret, load_secret
from gateway.settings import Settings

SECRETS: Final = "secrets"
Report = Callable[[str], None]
"""Tells the person who started the gateway what takes long."""


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """An open log."""

    store: EventStore
    keyring: Keyring
    leases: Leases
    label: str  # "embedded" or "database"
    schema: Applied


def token_secret(settings: Settings) -> Secret:
    """What session tokens and container credentials derive from."""
    return load_secret(settings.sessions.session_token_secret, settings.data_dir / SECRETS / "session-token")


def sealing_secret(settings: Settings) -> Secret:
    """What the keys of personal fields are wrapped under."""
    return load_secret(settings.sessions.sealing_secret, settings.data_dir / SECRETS / "sealing")


@contextlib.asynccontextmanager
async def open_storage(settings: Settings, report: Report | None = None) -> AsyncIterator[Storage]:
    """The log, its schema brought up to this release. Raises EventError: away, missing, another secret."""
    async with AsyncExitStack() as stack:
        if settings.database.db_host:
            dsn, admin, label = settings.database.dsn(), settings.database.db_admin_url, "database"
        else:
            dsn, admin = await _start_embedded(stack, settings.data_dir, settings.database, report)
            label = "embedded"
        if not _is_url(admin or dsn):
            raise StoreUnavailable("DB_ADMIN_URL is no postgresql:// URL: encode %, / and @ in its password")
        applied = await schema.apply(admin or dsn, settings.database.db_user)
        store = await PostgresEventStore.connect(dsn, settings.database)
        stack.push_async_callback(store.close)
        keyring = PostgresKeyring(store.pool, sealing_secret(settings).value)
        await keyring.prove()
        yield Storage(
            store=store,
            keyring=keyring,
            leases=PostgresLeases(store.pool),
            label=label,
            schema=applied,
        )


def _is_url(dsn: str) -> bool:
    """Whether the host ends where it seems to. An error about a URL that is cut in its password would quote that."""
    try:
        parts = urlsplit(dsn)
        for host in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return parts.scheme in ("postgresql", "postgres") and "@" not in parts.path


async def _start_embedded(
    stack: AsyncExitStack, data_dir: Path, wanted: DatabaseSettings, report: Report | None
) -> tuple[str, str]:
    """The gateway's and the migrating DSN of the embedded server; it ends with its last user."""
    try:
        server = await embedded.start(data_dir, report=report)
    except embedded.EmbeddedPostgresFailed as error:
        raise StoreUnavailable(str(error)) from error
    await stack.enter_async_context(server)
    await schema.provision(server.admin_dsn, wanted.db_user, wanted.db_name)
    admin = urlunsplit(urlsplit(server.admin_dsn)._replace(path=f"/{wanted.db_name}"))
    return server.dsn_for(wanted.db_user, wanted.db_name), admin
