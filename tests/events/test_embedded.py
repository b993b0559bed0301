"""The embedded Postgres: who gets which server, what survives which kill, and what is refused.

Rules that hold for everybody run twice when the suite runs as root: as root and as a plain user.
"""

import asyncio
import hashlib
import os
import pwd
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
import pytest_asyncio

from events import embedded_place
from events.embedded import EmbeddedPostgresFailed
from tests.events.embedded_users import (
    ROOT,
    Gateway,
    User,
    alive,
    background,
    binaries_for,
    cluster,
    entries,
    gateway,
    once,
    owner_and_mode,
    plain_user,
    postmaster,
    running,
    server_owner,
    socket_dir,
    until,
    value,
)

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module", params=["root", "plain"] if ROOT else ["plain"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    home = Path(tempfile.mkdtemp(prefix="gw-"))
    try:
        if ROOT and request.param == "plain":
            os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
            yield plain_user(home)
        else:
            yield User(os.geteuid(), sys.executable, home)
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def initialised(user: User) -> Iterator[Path]:
    """A stopped cluster at a path of more than 150 characters, below a directory that only its user enters."""
    data_dir = user.home / ("long-" * 30) / "a b'c\"d$e" / "var"
    once(user, ("start", str(data_dir)), ("stop",))
    yield data_dir
    once(user, ("remove", str(data_dir)))
    assert entries(data_dir) == []


@pytest.fixture
def data_dir(user: User, initialised: Path) -> Iterator[Path]:
    """``initialised``, whose server may run during the test and must not run after it."""
    yield initialised
    assert not running(initialised)


@pytest_asyncio.fixture
async def one(user: User) -> AsyncIterator[Gateway]:
    async with await gateway(user) as process:
        yield process


@pytest_asyncio.fixture
async def two(user: User) -> AsyncIterator[Gateway]:
    async with await gateway(user) as process:
        yield process


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that the owner of any server can enter."""
    with tempfile.TemporaryDirectory(prefix="gw-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def replaced(path: Path, text: str) -> Iterator[None]:
    former = path.read_text()
    path.write_text(text)
    yield
    path.write_text(former)


async def test_a_start_finds_what_the_first_start_made(data_dir: Path, one: Gateway, two: Gateway) -> None:
    """The whole path of a run: started, attached to, stopped with its last user, from a path of over 150 characters."""
    assert len(str(data_dir)) > 150
    begun = time.monotonic()
    first = await one.ask("start", str(data_dir))
    warm = time.monotonic() - begun
    begun = time.monotonic()
    second = await two.ask("start", str(data_dir))
    attach = time.monotonic() - begun
    assert (first["how"], second["how"]) == ("started", "attached")
    assert first["admin_dsn"] == second["admin_dsn"]
    assert first["version"] == second["version"] == await value(first["admin_dsn"], "show server_version")
    assert warm < 2.0, "0.07 s when nothing else runs"
    assert attach < 1.0, "0.007 s when nothing else runs"

    await one.ask("stop")
    assert await value(second["admin_dsn"], "select 1") == "1", "the second user has it still"
    await two.ask("stop")
    assert not running(data_dir), "nobody uses it"


async def test_the_cluster_is_made_for_a_log(data_dir: Path, one: Gateway) -> None:
    """Durable, checksummed, bytewise text, UTC, a recovery of seconds, and no way in but the socket."""
    dsn = (await one.ask("start", str(data_dir)))["admin_dsn"]
    expected = {
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "fsync": "on",
        "synchronous_commit": "on",
        "max_wal_size": "256MB",
        "shared_buffers": "128MB",
        "max_connections": "100",
        "TimeZone": "UTC",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
    }
    names = ", ".join(f"'{name.lower()}'" for name in expected)
    rows = await one.ask(
        "sql", dsn, f"select name, current_setting(name) from pg_settings where lower(name) in ({names})"
    )
    assert dict(rows) == expected
    locale = "select datcollate || ' ' || datctype from pg_database where datname = 'template1'"
    assert await one.ask("sql", dsn, locale) == [["C C"]]
    await one.ask("stop")


async def test_any_role_enters_through_a_directory_that_only_the_owner_enters(
    user: User, data_dir: Path, one: Gateway
) -> None:
    """The roles of migrations and gateway are no users of the machine; the directory is what keeps others out."""
    started = await one.ask("start", str(data_dir))
    for statement in ("create role gateway login", "create database gateway owner gateway"):
        await one.ask("sql", started["admin_dsn"], statement)
    assert await one.ask("sql", started["role_dsn"], "select current_user, current_database()") == [["gateway"] * 2]
    for statement in ("drop database gateway with (force)", "drop role gateway"):
        await one.ask("sql", started["admin_dsn"], statement)
    [[directory]] = await one.ask("sql", started["admin_dsn"], "show unix_socket_directories")
    assert owner_and_mode(directory.strip('"')) == (user.server_uid, 0o700)
    await one.ask("stop")


async def test_the_server_sees_nothing_of_the_environment(data_dir: Path, one: Gateway) -> None:
    """It holds the gateway's secrets; and PGPORT or TZ of the caller would move the server."""
    await one.ask("start", str(data_dir))
    names = set(psutil.Process(postmaster(data_dir)).environ())
    assert names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
    await one.ask("stop")


async def test_two_first_starts_get_one_server(user: User, one: Gateway, two: Gateway) -> None:
    """Two workers on a fresh machine: one makes the cluster, the other attaches to it. Killed, they leave a server,
    which `make clean` stops before it deletes all of it; a second `make clean` is no error."""
    data_dir = user.home / "race"
    one.tell("start", str(data_dir))
    two.tell("start", str(data_dir))
    answers = [await one.answer(), await two.answer()]
    assert sorted(answer["how"] for answer in answers) == ["attached", "initialised"]
    assert len({answer["admin_dsn"] for answer in answers}) == 1
    assert str(cluster(data_dir)) in answers[0]["admin_dsn"], "a path this short has its socket in the cluster"
    with pytest.raises(EmbeddedPostgresFailed, match="in use"):
        await two.ask("remove", str(data_dir))
    await asyncio.gather(one.kill(), two.kill())
    root, pid = cluster(data_dir), postmaster(data_dir)
    once(user, ("remove", str(data_dir)), ("remove", str(data_dir)))
    assert (entries(data_dir), root.exists(), alive(pid)) == ([], False, False)


async def test_a_killed_gateway_leaves_a_server_that_the_next_attaches_to(
    data_dir: Path, one: Gateway, two: Gateway
) -> None:
    """A use ends with its process, however that ended: the next user is the last one again."""
    first = await one.ask("start", str(data_dir))
    await one.kill()
    assert await value(first["admin_dsn"], "select 1") == "1"
    assert (await two.ask("start", str(data_dir)))["how"] == "attached"
    await two.ask("stop")
    assert not running(data_dir)


async def test_a_killed_server_recovers_with_all_that_was_committed(data_dir: Path, one: Gateway, two: Gateway) -> None:
    """Its zombie may answer to its pid for long; only a connection tells. Who used it before uses the new one."""
    dsn = (await one.ask("start", str(data_dir)))["admin_dsn"]
    await one.ask("sql", dsn, "create table kept as select generate_series(1, 1000) as n")
    os.kill(postmaster(data_dir), signal.SIGKILL)
    assert (await two.ask("start", str(data_dir)))["how"] == "started"
    assert await one.ask("sql", dsn, "select count(*) from kept") == [["1000"]]
    await two.ask("sql", dsn, "drop table kept")
    await two.ask("stop")
    assert await one.ask("sql", dsn, "select 1") == [["1"]]
    await one.ask("stop")


async def test_files_of_another_boot_do_not_count(user: User, data_dir: Path, one: Gateway, public: Path) -> None:
    """After a power cut their pid may be anyone's, even that of another Postgres of this user: Postgres would refuse
    to start."""
    program = public / "postgres"
    shutil.copy("/bin/sleep", program)
    with background([program, "1000"], server_owner(user)) as other:
        sockets = socket_dir(await one.ask("start", str(data_dir)))
        rest = (cluster(data_dir) / "data" / "postmaster.pid").read_text().split("\n", 1)[1]
        await one.ask("stop")
        for file in (cluster(data_dir) / "data" / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
            file.write_text(f"{other.pid}\n{rest}")
            os.chown(file, user.server_uid, -1)
            file.chmod(0o600)
        assert (await one.ask("start", str(data_dir)))["how"] == "started"
        await one.ask("stop")
        assert other.poll() is None, "nobody else's process was signalled"


async def test_a_server_started_by_hand_is_refused(user: User, data_dir: Path, one: Gateway, public: Path) -> None:
    """It holds no lock of ours; to delete its pid file and start a second one would destroy the data."""
    data = cluster(data_dir) / "data"
    os.chown(public, user.server_uid, -1)
    settings = ["-c", "logging_collector=off", "-c", "listen_addresses=", "-k", str(public)]
    command = [str(binaries_for(user) / "postgres"), "-D", str(data), *settings]
    with background(command, server_owner(user)) as by_hand:
        await until(lambda: "ready" in embedded_place.read(data / "postmaster.pid"), "it runs")
        with pytest.raises(EmbeddedPostgresFailed, match=f"Process {by_hand.pid} runs Postgres .* by hand"):
            await one.ask("start", str(data_dir))
    assert (await one.ask("start", str(data_dir)))["how"] == "started"
    await one.ask("stop")


async def test_another_major_version_is_refused(data_dir: Path, one: Gateway) -> None:
    """Data of one major version is unreadable to the next; the sentence says what to install."""
    with (
        replaced(cluster(data_dir) / "data" / "PG_VERSION", "17\n"),
        pytest.raises(EmbeddedPostgresFailed, match=r"is of Postgres 17 and these binaries are 18: install .* 17"),
    ):
        await one.ask("start", str(data_dir))
    assert not running(data_dir)


async def test_old_and_outsized_log_files_go_and_statements_never_come(
    user: User, data_dir: Path, one: Gateway
) -> None:
    """Postgres bounds a weekday's file only while it runs over midnight; and a statement may carry a password."""
    dsn = (await one.ask("start", str(data_dir)))["admin_dsn"]
    connection = await asyncpg.connect(dsn, timeout=5)
    with pytest.raises(asyncpg.PostgresError):
        await connection.execute("create role gateway password 'planted-secret' nonsense")
    await connection.close()
    logs = cluster(data_dir) / "data" / "log"
    await until(
        lambda: any("unrecognized role option" in log.read_text() for log in logs.iterdir()), "the error is logged"
    )
    assert not any("planted-secret" in log.read_text() for log in logs.iterdir())
    await one.ask("stop")

    old, outsized = logs / "postgres-old.log", logs / "postgres-outsized.log"
    old.touch()
    os.utime(old, (0, 0))
    with outsized.open("wb") as file:
        file.truncate(17 * 2**20)
    await one.ask("start", str(data_dir))
    await one.ask("stop")
    assert not old.exists()
    assert not outsized.exists()


async def test_a_foreign_socket_directory_is_refused(user: User, data_dir: Path, one: Gateway) -> None:
    """Its name in /tmp can be foreseen: who makes it first could read all that passes, or lead us elsewhere."""
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    sockets = Path("/tmp", f"session-gateway-{user.uid}-{digest}") if user.uid else cluster(data_dir) / "socket"
    os.rmdir(sockets)
    os.symlink(user.home, sockets)
    with pytest.raises(EmbeddedPostgresFailed, match=f"{sockets} is not a directory of ours"):
        await one.ask("start", str(data_dir))
    os.unlink(sockets)
    os.mkdir(sockets)
    if ROOT:
        os.chown(sockets, 1234, -1)
        with pytest.raises(EmbeddedPostgresFailed, match=f"{sockets} belongs to user 1234, not to {user.server_uid}"):
            await one.ask("start", str(data_dir))
    os.chown(sockets, user.server_uid, -1)
    os.chmod(sockets, 0o777)
    assert socket_dir(await one.ask("start", str(data_dir))) == sockets
    assert owner_and_mode(sockets) == (user.server_uid, 0o700)
    await one.ask("stop")


async def test_a_directory_that_cannot_be_made_is_said(user: User, one: Gateway) -> None:
    """One sentence with the path and the system's reason, no traceback."""
    (user.home / "file").touch()
    with pytest.raises(EmbeddedPostgresFailed, match=r"cannot be started: Not a directory \(.*/file/var\)\.$"):
        await one.ask("start", str(user.home / "file" / "var"))
    if ROOT and user.uid:
        (user.home / "locked").mkdir(mode=0o700)
        with pytest.raises(EmbeddedPostgresFailed, match=r"cannot be started: Permission denied \(.*/locked/var\)\.$"):
            await one.ask("start", str(user.home / "locked" / "var"))
