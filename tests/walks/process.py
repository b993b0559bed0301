"""The gateway as its operator has it: a process of its own, started on settings, ended by signals."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import psutil

from docker import local_places
from docker.local_places import SEARCH_PATH
from events import embedded, embedded_place
from events.codec import decode
from events.envelope import RecordedEvent
from gateway.lifespan import OPERATOR_KEY_FILE
from gateway.settings import load
from gateway.storage import open_storage
from tests.event_fixtures import LogDatabase, until
from tests.gateway_fixtures import WAIT, Session

ROOT: Final = Path(__file__).resolve().parents[2]
SERVE: Final = (sys.executable, "-m", "gateway", "serve")
LOCAL: Final = {"SESSION_RUNTIME": "local", "SESSION_IMAGE": "echo", "ALLOW_UNISOLATED": "true"}
START_SECONDS: Final = 60.0  # a shared machine, and a Postgres to be made
END_SECONDS: Final = 30.0


class Ended(msgspec.Struct, frozen=True):
    """What a process that ended left: its exit code and all that it wrote."""

    code: int
    out: str
    err: str


class GatewayProcess:
    """A gateway that serves. ``lines`` are its log lines so far; ``told``: what it said to whoever started it."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path, environment: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.environment = dict(environment)
        self.told: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.other: list[str] = []  # what is on the standard error output and no log line
        self.url = ""
        self._process = process
        self._readers = [
            asyncio.create_task(_follow(process.stdout, self.told.append), name="stdout"),
            asyncio.create_task(_follow(process.stderr, self._take), name="stderr"),
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.returncode

    @property
    def key(self) -> dict[str, str]:
        """Headers of the operator."""
        return {"authorization": f"Bearer {(self.data_dir / OPERATOR_KEY_FILE).read_text().strip()}"}

    async def listening(self, seconds: float = START_SECONDS) -> None:
        """Wait for the line with the address and read it. What ``make`` says before is forgotten."""
        await reached(lambda: bool(self._first()) or self.code is not None, seconds)
        first = self._first()
        assert first, f"the gateway ended with {self.code}: {self.told} {self.other}"
        del self.told[: self.told.index(first)]
        self.url = first.rpartition(" ")[2]

    def _first(self) -> str:
        return next((line for line in self.told if " listens on " in line), "")

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client with the operator's key."""
        async with httpx.AsyncClient(base_url=self.url, headers=self.key, timeout=60, trust_env=False) as client:
            yield client

    async def open(self, client: httpx.AsyncClient) -> Session:
        """A session that is ready."""
        answer = await client.post("/sessions", headers=WAIT)
        assert answer.status_code == 201, answer.text
        return Session(answer.json()["session_id"], answer.json()["token"])

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self, seconds: float = END_SECONDS) -> int:
        """Wait until it has ended and all it wrote was read; the exit code. TimeoutError after ``seconds``."""
        async with asyncio.timeout(seconds):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return code

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = END_SECONDS) -> int:
        """Signal it and wait; the exit code."""
        self.tell(number)
        return await self.end(seconds)

    async def kill(self) -> None:
        """End it as a crash does: by SIGKILL, with no word to anybody."""
        assert await self.stop(signal.SIGKILL) == -signal.SIGKILL

    async def close(self) -> None:
        """After a test, however it went: nothing of it may stay."""
        if self.code is None:
            self.tell(signal.SIGKILL)
        await self.end()

    def _take(self, line: str) -> None:
        if line.startswith("{"):
            self.lines.append(msgspec.json.decode(line))
        else:
            self.other.append(line)


@contextlib.asynccontextmanager
async def serving(
    data_dir: Path, environment: Mapping[str, str] | None = None, *, command: Sequence[str] = SERVE
) -> AsyncIterator[GatewayProcess]:
    """A gateway of its own on a free port; killed at the end unless it has ended. What it ran on stays."""
    gateway = await begin(data_dir, environment, command=command)
    try:
        await gateway.listening()
        yield gateway
    finally:
        await gateway.close()


async def begin(
    data_dir: Path, environment: Mapping[str, str] | None = None, *, command: Sequence[str] = SERVE
) -> GatewayProcess:
    """Start one and do not wait; the caller closes it."""
    return await launch(command, {**LOCAL, **settings(data_dir), **(environment or {})}, data_dir=data_dir)


async def launch(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    data_dir: Path,
    cwd: Path = ROOT,
    user: int | None = None,
) -> GatewayProcess:
    """Start one by any command, on these settings alone; the caller closes it. ``data_dir`` is where it will be."""
    process = await _start(command, environment, cwd=cwd, user=user)
    return GatewayProcess(process, data_dir, environment)


async def run(
    environment: Mapping[str, str],
    *,
    command: Sequence[str] = SERVE,
    seconds: float = 60.0,
    cwd: Path = ROOT,
    user: int | None = None,
) -> Ended:
    """Run a command that ends by itself. TimeoutError, and it is killed, when it does not within ``seconds``."""
    process = await _start(command, environment, cwd=cwd, user=user)
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def settings(data_dir: Path) -> dict[str, str]:
    """A gateway's own place and port."""
    return {"GATEWAY_DATA_DIR": str(data_dir), "GATEWAY_BIND": "127.0.0.1:0"}


def on_database(log: LogDatabase) -> dict[str, str]:
    """The settings that put a gateway's log into ``log``."""
    dsn = urlsplit(log.admin_dsn)
    where = parse_qs(dsn.query)
    return {
        "DB_HOST": where["host"][0],
        "DB_PORT": where["port"][0],
        "DB_NAME": dsn.path.lstrip("/"),
        "DB_ADMIN_URL": log.admin_dsn,
    }


async def read_log(gateway: GatewayProcess) -> list[RecordedEvent]:
    """All of its log, read past it, with or without the process."""
    read = load({**gateway.environment, "GATEWAY_DATA_DIR": str(gateway.data_dir)})
    async with open_storage(read) as storage:
        return await storage.store.read_log(limit=10_000)


def payloads(log: Sequence[RecordedEvent], *types: str) -> list[Any]:
    """The payloads of the events of these types, in their order."""
    return [decode(event) for event in log if event.type in types]


async def forget(data_dir: Path) -> None:
    """Remove what a gateway on ``data_dir`` keeps outside of it; refuses while one runs there."""
    await embedded.remove(data_dir)  # nothing to remove is no error
    if (data_dir / "local").is_dir():
        local_places.forget(data_dir / "local")


async def reached(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it holds; TimeoutError after ``seconds``."""

    async def ask() -> bool:
        return holds()

    await until(ask, seconds)


def using(data_dir: Path) -> list[psutil.Process]:
    """The processes whose command line or environment names ``data_dir``, or what lies outside for it."""
    places = [str(data_dir), *filter(None, (local_base(data_dir), cluster(data_dir)))]
    return [found for found in psutil.process_iter() if _names(found, places)]


def local_base(data_dir: Path) -> str:
    """Where the directories of local sessions lie when not in ``data_dir`` itself; empty when they do."""
    pointer = data_dir / "local" / "local.json"
    return msgspec.json.decode(pointer.read_bytes(), type=local_places.Pointer).base if pointer.exists() else ""


def cluster(data_dir: Path) -> str:
    """Where the embedded Postgres of ``data_dir`` lies outside of it; empty when it does not, as a plain user's."""
    if not data_dir.is_dir() or (data_dir / "postgres").is_dir():
        return ""
    place = embedded_place.find(data_dir.resolve())
    return str(place.root) if place is not None else ""


def _names(process: psutil.Process, places: Sequence[str]) -> bool:
    try:
        words = (*process.cmdline(), *process.environ().values())
        alive = process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
        return alive and any(place in word for place in places for word in words)
    except psutil.Error:
        return False  # ended meanwhile, or another user's


async def _start(
    command: Sequence[str], environment: Mapping[str, str], *, cwd: Path = ROOT, user: int | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        # None of the caller's settings, and a stop of the tests' terminal is not the gateway's.
        env={"PATH": os.environ.get("PATH", SEARCH_PATH), "LANG": "C.UTF-8", **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**20,
        start_new_session=True,
    )


async def _follow(stream: asyncio.StreamReader | None, take: Callable[[str], object]) -> None:
    assert stream is not None
    async for line in stream:
        take(line.decode().rstrip("\n"))
