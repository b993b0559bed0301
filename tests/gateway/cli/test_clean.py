"""``clean``: removes what a gateway made, and nothing that is in use, another's, or needed by a log elsewhere."""

import asyncio
import os
from pathlib import Path

import pytest

from events import embedded
from events.embedded import EmbeddedPostgres
from events.file_lock import FileLock
from gateway.cli.exits import Exit
from tests.docker.local_factory import local_service
from tests.gateway.cli.conftest import run


def make(data_dir: Path, *names: str) -> None:
    for name in names:
        (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (data_dir / name).write_text("x")


def is_there(path: Path) -> bool:
    return path.exists()


@pytest.mark.postgres
@pytest.mark.timeout(120)
async def test_an_embedded_log_goes_with_its_secrets_and_not_while_it_is_used(tmp_path: Path) -> None:
    async def start() -> EmbeddedPostgres:
        return await embedded.start(tmp_path)

    make(tmp_path, "secrets/sealing", "operator.key", "cache/opencode/opencode", "local/logs/c1", "spool/gw-1")
    make(tmp_path, "log-mark.json")
    async with await start():
        refused = await asyncio.to_thread(run, "clean", "--yes")
        assert (refused.code, refused.out) == (Exit.NEGATIVE, "")
        assert len(refused.err.splitlines()) == 1
    assert is_there(tmp_path / "secrets/sealing")
    foretold = (await asyncio.to_thread(run, "clean", "--dry-run", "--json")).document
    assert len(foretold["removed"]) == 7
    done = (await asyncio.to_thread(run, "clean", "--yes", "--json")).document
    assert (done["removed"], done["left"]) == (foretold["removed"], [])
    assert not is_there(tmp_path)


def test_without_an_embedded_log_the_secrets_stay(tmp_path: Path) -> None:
    """A database elsewhere could never be read again without them, and what is spooled is in no log yet."""
    make(tmp_path, "secrets/sealing", "operator.key", "notes.txt", "cache/x", "spool/gw-1")
    make(tmp_path, "log-mark.json")  # a database elsewhere may lose what was seen
    ran = run("clean", "--yes")
    assert ran.code == Exit.OK
    left = ["log-mark.json", "notes.txt", "operator.key", "secrets", "spool"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert "Left in" in ran.out


def test_a_log_in_a_file_goes_with_its_secrets_and_not_while_it_is_used(tmp_path: Path) -> None:
    make(tmp_path, "secrets/sealing", "operator.key", "log/events.jsonl", "log/subject-keys.json")
    lock = FileLock.take(tmp_path / "log/events.jsonl")
    refused = run("clean", "--yes")
    assert (refused.code, refused.out) == (Exit.NEGATIVE, "")
    assert f"in use by process {os.getpid()} on" in refused.err
    lock.release()
    assert run("clean", "--yes", "--json").document["left"] == []
    assert not tmp_path.exists()


async def test_local_sessions_of_a_gateway_that_runs_are_not_touched(tmp_path: Path) -> None:
    async with local_service(tmp_path / "local") as service:
        await service.create_container("c1", "echo")
        ran = await asyncio.to_thread(run, "clean", "--yes")
        assert (ran.code, ran.out) == (Exit.NEGATIVE, "")
        assert "stop it first" in ran.err
        assert await service.get_container_info("c1") is not None


def test_nothing_to_remove_is_no_error(tmp_path: Path) -> None:
    tmp_path.rmdir()
    ran = run("clean", "--yes")
    assert (ran.code, ran.out) == (Exit.OK, f"There is nothing to remove in {tmp_path}.\n")


def test_where_nobody_can_be_asked_nothing_is_removed(tmp_path: Path) -> None:
    make(tmp_path, "cache/x")
    ran = run("clean")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert (tmp_path / "cache/x").exists()
