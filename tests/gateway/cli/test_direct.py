"""The way to the log itself: what is wrong is said in sentences, and no log is made by reading one."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from events.catalogue import ApiKeyRevoked
from events.envelope import KEYS
from events.errors import StoreUnavailable
from events.postgres import PostgresEventStore
from gateway.cli.direct import CLI, open_log
from gateway.cli.exits import Exit, Failure
from gateway.storage import open_storage
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
