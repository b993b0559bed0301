"""The log of a gateway: embedded or given, with rights apart, and a sentence without a secret when it is away."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import pytest_asyncio

from events import embedded
from events.envelope import Fence
from events.errors import EventError, JournalLocked, StoreUnavailable
from events.store import Appended
from gateway.settings import BadSettings, Settings, load
from gateway.storage import Storage, open_storage, sealing_secret, token_secret
from tests.event_fixtures import APP_USER, LogDatabase, as_user, connection, ensure_role
from tests.factories import event, new_stream, write

SECRET = "sekret-word"


def settings(data_dir: Path, **environment: str) -> Settings:
    return load(
        {"GATEWAY_DATA_DIR": str(data_dir), "DB_MIN_CONNECTIONS": "1", "DB_MAX_CONNECTIONS": "2", **environment}
    )


def given(data_dir: Path, dsn: str, *, user: str, **environment: str) -> Settings:
    """Settings that name the database of ``dsn``, as its operator would give them."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query)["host"][0]
    return settings(data_dir, DB_HOST=host, DB_NAME=parts.path[1:], DB_USER=user, **environment)


async def writes_and_reads(storage: Storage) -> bool:
    stream_id = new_stream()
    await storage.store.append(write(stream_id, event()))
    return len(await storage.store.read_stream(stream_id)) == 1


async def may(dsn: str, statement: str) -> bool:
    async with connection(dsn) as asked:
        try:
            await asked.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            return False
    return True


@pytest_asyncio.fixture
async def embedded_dir(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory whose server is removed afterwards."""
    yield tmp_path
    await embedded.remove(tmp_path)


@pytest.mark.postgres
async def test_without_a_database_the_embedded_one_is_made(embedded_dir: Path) -> None:
    """And found again with what was written; the gateway works on it without the rights of its owner."""
    told: list[str] = []
    async with open_storage(settings(embedded_dir), told.append) as storage:
        assert (storage.label, storage.schema.rights_separated) == ("embedded", True)
        assert storage.schema.files and told
        assert await writes_and_reads(storage)
        key = await storage.keyring.key_for("ada")
        log_id, head = storage.store.log_id, await storage.store.head()
    async with open_storage(settings(embedded_dir)) as storage:
        assert (storage.store.log_id, await storage.store.head()) == (log_id, head)
        assert storage.schema.files == ()
        assert (await storage.keyring.key_for("ada")) == key


async def test_a_log_in_a_file_is_made_and_found_again(tmp_path: Path) -> None:
    """And nothing of it can be read by another user of the machine."""
    wanted = settings(tmp_path / "var", USE_DATABASE_STORAGE="false", DB_HOST="nowhere.invalid")
    async with open_storage(wanted) as storage:
        assert (storage.label, len(storage.notes)) == ("json", 1)
        assert await writes_and_reads(storage)
        assert await storage.size() > 0
        key = await storage.keyring.key_for("ada")
        log_id, head = storage.store.log_id, await storage.store.head()
        epoch = await storage.leases.claim("job", "a")
        assert epoch is not None
        assert isinstance(await storage.store.append(write("keys"), fence=Fence("job", epoch)), Appended)
        with pytest.raises(JournalLocked, match="in use by process"):
            async with open_storage(wanted):
                pass
    async with open_storage(wanted) as storage:
        assert (storage.store.log_id, (await storage.store.head()).position) == (log_id, head.position + 1)
        assert (await storage.keyring.key_for("ada")) == key
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "var" / "log").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "var" / "log").stat().st_mode) == 0o700


async def test_keys_in_a_file_need_the_secret_they_were_wrapped_under(tmp_path: Path) -> None:
    async with open_storage(settings(tmp_path, USE_DATABASE_STORAGE="false", SEALING_SECRET="one" * 20)) as storage:
        await storage.keyring.key_for("ada")
    with pytest.raises(EventError, match="sealing secret"):
        async with open_storage(settings(tmp_path, USE_DATABASE_STORAGE="false", SEALING_SECRET="two" * 20)):
            pass


@pytest.mark.postgres
async def test_a_given_database_is_migrated_by_its_admin(database: str, tmp_path: Path) -> None:
    """DB_ADMIN_URL owns the log; DB_USER writes through functions alone (row C2)."""
    await ensure_role(database, APP_USER)
    wanted = given(tmp_path, database, user=APP_USER, DB_ADMIN_URL=database)
    async with open_storage(wanted) as storage:
        assert (storage.label, storage.schema.rights_separated) == ("database", True)
        assert await writes_and_reads(storage)
    app = as_user(database, APP_USER)
    assert not await may(app, "delete from log.events")
    assert not await may(app, "insert into log.events select * from log.events")
    assert await may(app, "select count(*) from log.events")
    assert not (tmp_path / "postgres.json").exists()


@pytest.mark.postgres
async def test_a_migrated_log_needs_no_admin(empty_log: LogDatabase, tmp_path: Path) -> None:
    """A gateway of the same release starts without the owner's URL."""
    async with open_storage(given(tmp_path, empty_log.app_dsn, user=APP_USER)) as storage:
        assert storage.schema.files == () and storage.schema.rights_separated
        assert await writes_and_reads(storage)


@pytest.mark.postgres
async def test_an_owner_who_is_the_gateway_is_told_as_such(database: str, tmp_path: Path) -> None:
    """One role for all works; that the rights are not separated is said at the start."""
    owner = urlsplit(database).username or ""
    async with open_storage(given(tmp_path, database, user=owner)) as storage:
        assert not storage.schema.rights_separated
        assert await writes_and_reads(storage)


@pytest.mark.postgres
async def test_keys_of_another_sealing_secret_refuse_the_start(empty_log: LogDatabase, tmp_path: Path) -> None:
    """Else personal fields would be sealed with keys that no other gateway can unwrap."""
    async with open_storage(given(tmp_path, empty_log.app_dsn, user=APP_USER, SEALING_SECRET="one" * 20)) as storage:
        await storage.keyring.key_for("ada")
    with pytest.raises(EventError, match="another sealing secret"):
        async with open_storage(given(tmp_path, empty_log.app_dsn, user=APP_USER, SEALING_SECRET="two" * 20)):
            pass


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"DB_HOST": "/nowhere"},
        {"DB_HOST": "no such host"},
        {"DB_ADMIN_URL": f"postgresql://admin:{SECRET}@127.0.0.1:1/log"},
    ],
    ids=lambda environment: environment.get("DB_ADMIN_URL", environment.get("DB_HOST", "refused")).replace(SECRET, "x"),
)
async def test_a_database_that_cannot_be_reached_is_told_without_its_password(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """One sentence, nothing of the password in it or in what it was raised from."""
    wanted = {"DB_HOST": "127.0.0.1", "DB_PORT": "1", "DB_PASSWORD": SECRET, **environment}
    with pytest.raises(StoreUnavailable) as caught:
        async with open_storage(settings(tmp_path, **wanted)):
            pass
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["DATABASE_URL", "DB_ADMIN_URL", "DB_DIRECT_URL"])
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://admin:{SECRET}@127.0.0.1:port/log",
        f"postgresql://admin:{SECRET}@127.0.0.1:99999/log",
        f"postgresql://admin:{SECRET}/more@127.0.0.1:1/log",
        f"postgresql://admin:1/{SECRET}@127.0.0.1:1/log",
        f"postgresql://admin:1?{SECRET}@127.0.0.1:1/log",
        f"postgresql://admin:{SECRET}@[::1/log",
        SECRET,
    ],
    ids=lambda url: url.replace(SECRET, "x"),
)
def test_a_malformed_url_refuses_the_start_without_its_password(tmp_path: Path, setting: str, url: str) -> None:
    """Where a URL is cut wrongly any part of it may be the password's."""
    database = {} if setting == "DATABASE_URL" else {"DB_HOST": "127.0.0.1"}
    with pytest.raises(BadSettings) as caught:
        settings(tmp_path, **database, **{setting: url})
    [problem] = caught.value.problems
    assert problem.startswith(f"{setting} ")
    assert SECRET not in problem and "\n" not in problem


async def test_a_port_that_nobody_serves_postgres_on_is_given_up(tmp_path: Path) -> None:
    """Somebody takes the connection and leaves."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(StoreUnavailable):
            async with open_storage(settings(tmp_path, DB_HOST="127.0.0.1", DB_PORT=str(port))):
                pass
    finally:
        server.close()
        await server.wait_closed()


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    """In files 0600 within a directory 0700: whoever reads them can make every token, and unseal every field."""
    wanted = settings(tmp_path)
    token, sealing = token_secret(wanted), sealing_secret(wanted)
    assert token.value != sealing.value and min(len(token.value), len(sealing.value)) >= 32
    assert (token_secret(wanted), sealing_secret(wanted)) == (token, sealing)
    directory = tmp_path / "secrets"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"session-token": 0o600, "sealing": 0o600}


def test_secrets_that_are_given_are_kept_nowhere(tmp_path: Path) -> None:
    wanted = settings(tmp_path, SESSION_TOKEN_SECRET="t" * 40, SEALING_SECRET="s" * 40)
    assert token_secret(wanted).value == b"t" * 40
    assert sealing_secret(wanted).value == b"s" * 40
    assert list(tmp_path.iterdir()) == []
