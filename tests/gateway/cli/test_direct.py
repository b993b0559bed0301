"""The way to the log itself: what is wrong is said in sentences, and no log is made by reading one."""

import asyncio
import os
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from events.catalogue import ApiKeyRevoked
from events.envelope import KEYS
from events.errors import StoreUnavailable
from events.postgres import PostgresEventStore
from gateway.cli.direct import CLI, open_log
from gateway.cli.exits import Exit, Failure
from gateway.storage import open_storage
from tests.event_fixtures import APP_USER, connection, ensure_role
from tests.factories import payload
from tests.gateway.cli.conftest import run
from tests.gateway_fixtures import start_gateway

COMMANDS = [("replay",), ("projections", "status"), ("keys", "list"), ("erase", "Ada", "--yes")]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_log_that_is_not_there_is_not_made(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """A misspelt directory would show an empty log, and leave a database behind."""
    ran = run(*arguments)
    assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
    assert ran.err == f"There is no log in {tmp_path}: a gateway makes it when it first starts.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def file_variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A log in a file of the data directory, set for the test."""
    monkeypatch.setenv("USE_DATABASE_STORAGE", "false")
    return {"USE_DATABASE_STORAGE": "false"}


async def test_a_log_in_a_file_is_read_when_no_gateway_has_it(tmp_path: Path, file_variables: dict[str, str]) -> None:
    """While one has it, each command says so in a sentence: another could not know what that one is writing."""
    async with start_gateway(tmp_path, file_variables, log_of=open_storage) as gateway:
        session = await gateway.open({"owner": "Ada"})
        assert (await gateway.client.get("/health")).json()["storage_backend"] == "json"
        for arguments in COMMANDS:
            ran = await asyncio.to_thread(run, *arguments)
            assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
            assert ran.err.endswith(f"events.jsonl is in use by process {os.getpid()} on {socket.gethostname()}.\n")
            assert len(ran.err.splitlines()) == 1
    assert await asyncio.to_thread(_owner_of, session.session_id) == "Ada"
    for arguments in COMMANDS:
        assert (await asyncio.to_thread(run, *arguments)).code == Exit.OK
    assert await asyncio.to_thread(_owner_of, session.session_id) == "[erased]"


def _owner_of(session_id: str) -> str:
    owner: str
    (owner,) = {one["owner"] for one in run("replay", "--json").document["sessions"] if one["session_id"] == session_id}
    return owner


async def _schemas(dsn: str) -> list[tuple[str, ...]]:
    """Everything that a migration would leave behind: schemas, and the files that were run."""
    async with connection(dsn) as admin:
        found = [tuple(row) for row in await admin.fetch("select nspname from pg_namespace where nspname !~ '^pg_'")]
        if await admin.fetchval("select to_regclass('public.session_gateway_schema') is not null"):
            history = await admin.fetch("select file, sha256, applied_at::text from public.session_gateway_schema")
            found += [tuple(row) for row in history]
        return sorted(found)


@pytest.mark.postgres
@pytest.mark.parametrize("arguments", COMMANDS)
async def test_a_former_schema_is_left_as_it_is(arguments: tuple[str, ...], database_variables: dict[str, str]) -> None:
    """A command of the new release, tried beside gateways of the former one, changes nothing below them."""
    dsn = database_variables["DB_ADMIN_URL"]
    async with connection(dsn) as admin:
        await admin.execute(
            "update public.session_gateway_schema set sha256 = 'of 0.1.0' where file = '212_read_log.sql'"
        )
    before = await _schemas(dsn)
    ran = await asyncio.to_thread(run, *arguments)
    assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
    assert len(ran.err.splitlines()) == 1 and "schema apply" in ran.err
    assert await _schemas(dsn) == before
    assert (await asyncio.to_thread(run, "schema", "apply")).code == Exit.OK
    assert (await asyncio.to_thread(run, *arguments)).code in (Exit.OK, Exit.NEGATIVE)


@pytest.mark.postgres
@pytest.mark.parametrize("arguments", COMMANDS)
async def test_no_log_is_made_in_an_empty_database(
    arguments: tuple[str, ...], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_role(database, APP_USER)
    parts = urlsplit(database)
    for name, value in {
        "DB_HOST": parse_qs(parts.query)["host"][0],
        "DB_USER": APP_USER,
        "DB_NAME": parts.path[1:],
        "DB_ADMIN_URL": database,
    }.items():
        monkeypatch.setenv(name, value)
    before = await _schemas(database)
    ran = await asyncio.to_thread(run, *arguments)
    assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
    assert ran.err.startswith("This database holds no log: ") and len(ran.err.splitlines()) == 1
    assert await _schemas(database) == before


@pytest.mark.parametrize("arguments", [*COMMANDS, ("clean", "--yes"), ("config",)])
def test_every_problem_of_the_settings_is_told(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_BINDD", "127.0.0.1:1")
    monkeypatch.setenv("DB_PORT", "many")
    ran = run(*arguments)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert len(ran.err.splitlines()) == 2
    assert "GATEWAY_BIND?" in ran.err
    assert "DB_PORT" in ran.err


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_database_that_does_not_answer(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HOST", "127.0.0.1")
    monkeypatch.setenv("DB_PORT", "1")
    ran = run(*arguments)
    assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
    (sentence,) = ran.err.splitlines()
    assert sentence.endswith(".")


async def test_a_command_is_done_or_refused_and_never_waits_in_a_spool(
    database_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation that lies on the operator's disk revokes nothing."""

    async def away(*writes: object, **fence: object) -> None:
        raise StoreUnavailable("the log is away")

    with monkeypatch.context() as patch, pytest.raises(Failure) as raised:
        async with open_log() as log:
            patch.setattr(PostgresEventStore, "append", away)
            await log.recorder.fact(KEYS, payload(ApiKeyRevoked), who=CLI)
    assert raised.value.code == Exit.LOG_UNAVAILABLE
    async with open_log() as log:
        assert log.storage.store.status.spooled_units == 0
        assert await log.storage.store.read_log(types=("api_key.*",)) == []


def test_a_damaged_pointer_to_the_log(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("not a directory")
    (tmp_path / "postgres.json").write_text("{")
    ran = run("replay")
    assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
    assert len(ran.err.splitlines()) == 1
