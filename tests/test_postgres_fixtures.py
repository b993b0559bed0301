"""The tests' own Postgres: a database for each test, a server for each session, nothing left of either."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from events.embedded import EmbeddedPostgres
from tests.postgres_fixtures import fresh_database

pytestmark = pytest.mark.postgres

REPOSITORY: Final = Path(__file__).parents[1]

SESSION: Final = """\
import os, signal
from pathlib import Path
from tests.postgres_fixtures import database, postgres_server

async def test_session(database, postgres_server):
    data = Path(postgres_server._place.data)
    Path(os.environ["TOLD"]).write_text((data / "postmaster.pid").read_text().split()[0])
    if "KILLED" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_databases_are_empty_apart_and_gone_afterwards(postgres_server: EmbeddedPostgres) -> None:
    """Tests may run beside each other on one server; what one forgets to close does not keep its database."""
    async with fresh_database(postgres_server) as one, fresh_database(postgres_server) as other:
        left_open = await asyncpg.connect(one, timeout=5)
        await left_open.execute("create table t (n int)")
        connection = await asyncpg.connect(other, timeout=5)
        assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
        await connection.close()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(one, timeout=5)
    left_open.terminate()


async def test_the_fixture_gives_one_to_a_test(database: str, postgres_server: EmbeddedPostgres) -> None:
    """The DSN differs from the admin's in its database alone."""
    assert urlsplit(database)._replace(path="") == urlsplit(postgres_server.admin_dsn)._replace(path="")
    connection = await asyncpg.connect(database, timeout=5)
    assert f"/{await connection.fetchval('select current_database()')}" == urlsplit(database).path
    await connection.close()


async def test_a_session_leaves_nothing_and_clears_up_after_a_killed_one(tmp_path: Path) -> None:
    """A killed session cannot stop its server; the next one does, and sessions that run now keep theirs."""
    (tmp_path / "test_session.py").write_text(SESSION)
    killed, left = await asyncio.to_thread(session, tmp_path, KILLED="yes")
    assert killed == -signal.SIGKILL
    assert alive(left)
    passed, own = await asyncio.to_thread(session, tmp_path)
    assert passed == 0
    assert not alive(left)
    assert not alive(own)


def session(directory: Path, **environment: str) -> tuple[int, int]:
    """The exit status of a test session of its own, and the pid of its Postgres."""
    told = directory / "pid"
    options = ["-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-c", str(REPOSITORY / "pyproject.toml"), "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(directory), str(directory / "test_session.py")],
        cwd=REPOSITORY,
        env={**os.environ, "PYTEST_DEBUG_TEMPROOT": str(directory), "TOLD": str(told), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.exists(), done.stdout + done.stderr
    return done.returncode, int(told.read_text())


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
