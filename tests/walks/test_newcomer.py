"""What a newcomer does: a fresh copy, ``make run``, the curl as it is printed, Ctrl-C, again, ``make clean``."""

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from docker.local_places import reachable
from tests.walks import process
from tests.walks.process import ROOT, GatewayProcess

PATH_LENGTH: Final = 150
SECOND_START: Final = 3.0  # seconds, from exec to the first line
TRIES: Final = 3  # a shared machine may stand still for a second; the promise is about the gateway
INSTALL_SECONDS: Final = 400.0
# What pip needs to find its index; nothing else of the caller's environment is handed on.
_INDEX: Final = ("PIP_", "SSL_CERT_", "REQUESTS_CA_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


class Clone(msgspec.Struct, frozen=True, kw_only=True):
    """A fresh copy of the tracked files, and who uses it."""

    root: Path
    environment: dict[str, str]
    user: int | None = None

    @property
    def data_dir(self) -> Path:
        return self.root / "var"

    @contextlib.asynccontextmanager
    async def running(self, seconds: float = 60.0) -> AsyncIterator[GatewayProcess]:
        """``make run`` until it serves."""
        command = ("make", "run")
        gateway = await process.launch(command, self.environment, data_dir=self.data_dir, cwd=self.root, user=self.user)
        try:
            await gateway.listening(seconds)
            yield gateway
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(gateway.pid, signal.SIGKILL)
            await gateway.close()

    async def run(self, *command: str) -> process.Ended:
        return await process.run(self.environment, command=command, cwd=self.root, user=self.user)

    def files(self) -> set[str]:
        """All but the environment, which may have been lent."""
        paths = {path.relative_to(self.root) for path in self.root.rglob("*")}
        return {str(path) for path in paths if path.parts[0] != ".venv"}


@pytest.mark.postgres
async def test_a_start_from_a_long_path_that_others_cannot_enter(tmp_path: Path) -> None:
    """As root in root's own directory neither Postgres nor the agents, who are not root, can walk in."""
    clone = _clone(_long(_closed(tmp_path)))
    _lend_environment(clone.root)
    await _walk(clone)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(600)
async def test_a_plain_user_installs_starts_and_cleans() -> None:
    """All of it, from nothing, by somebody who is not root, in a directory whose name a shell would split."""
    with _home_of_a_plain_user() as (home, user):
        root = _long(home / "ada's copies")
        clone = msgspec.structs.replace(_clone(root), user=user)
        index = {name: value for name, value in os.environ.items() if name.startswith(_INDEX)}
        clone.environment.update(index, HOME=str(home), PYTHON=_python_for_everybody())
        for path in (home, *home.rglob("*")):
            os.chown(path, user if user is not None else -1, -1)
        await _walk(clone, INSTALL_SECONDS)


async def _walk(clone: Clone, first_seconds: float = 60.0) -> None:
    before = clone.files()
    async with clone.running(first_seconds) as gateway:
        await _check_lines(clone, gateway)
        opened = await _as_printed(clone, gateway)
        assert opened["status"] == "running"
        await _interrupt(clone, gateway)
    assert min([seconds async for seconds in _second_starts(clone)]) < SECOND_START
    outside = [place for place in (process.local_base(clone.data_dir), process.cluster(clone.data_dir)) if place]
    cleaned = await clone.run("make", "clean")
    assert cleaned.code == 0, cleaned
    assert clone.files() == before
    assert _existing([str(clone.root / ".venv"), *outside]) == []
    assert process.using(clone.root) == []


async def _check_lines(clone: Clone, gateway: GatewayProcess) -> None:
    await process.reached(lambda: len(gateway.told) >= 5)
    address, runtime, key, curl, stop = gateway.told[:5]
    assert address.startswith("Session gateway ") and gateway.url.startswith("http://127.0.0.1:")
    assert runtime == "Sessions run as local processes, image echo."
    assert key == "The operator's key lies in var/operator.key"
    assert curl.startswith("Open a session:  curl ")
    assert stop == "Stop with Ctrl-C."
    assert (clone.data_dir / "operator.key").stat().st_mode & 0o777 == 0o600
    assert [line for line in gateway.told if "NO ISOLATION" in line]


async def _as_printed(clone: Clone, gateway: GatewayProcess) -> Any:
    """Run the printed command by a shell, exactly as it is."""
    command = gateway.told[3].partition(":")[2].strip()
    ran = await clone.run("sh", "-c", command)
    assert ran.code == 0, ran
    return json.loads(ran.out)


async def _interrupt(clone: Clone, gateway: GatewayProcess) -> None:
    """Ctrl-C in a terminal reaches make and the gateway alike; it is over when nothing of either runs."""
    os.killpg(gateway.pid, signal.SIGINT)
    await gateway.end()
    await process.reached(lambda: process.using(clone.root) == [])
    assert [line for line in gateway.other if "Traceback" in line] == []


async def _second_starts(clone: Clone) -> AsyncIterator[float]:
    """Seconds of each try; over with the first that keeps the promise."""
    for _ in range(TRIES):
        began = time.monotonic()
        async with clone.running() as gateway:
            seconds = time.monotonic() - began
            await _interrupt(clone, gateway)
        yield seconds
        if seconds < SECOND_START:
            return


def _clone(root: Path) -> Clone:
    """The files of HEAD in a new directory."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, timeout=60)
    if archive.returncode:
        pytest.skip(f"NOT TESTED: the tracked files are not known: {archive.stderr.decode().strip()}")
    root.mkdir(parents=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(root, filter="data")
    environment = {"HOME": str(root.parent), "GATEWAY_BIND": "127.0.0.1:0", "SESSION_IMAGE": "echo"}
    return Clone(root=root, environment=environment)


def _lend_environment(root: Path) -> None:
    """A ``.venv`` that finds our own packages, with the stamp of its lock: the point here is not the install."""
    packages = root / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (root / ".venv" / "bin").mkdir()
    (root / ".venv" / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    home = Path(os.path.realpath(sys.executable)).parent
    (root / ".venv" / "pyvenv.cfg").write_text(f"home = {home}\nexecutable = {os.path.realpath(sys.executable)}\n")
    digest = hashlib.sha256((root / "requirements.lock").read_bytes()).hexdigest()
    (root / ".venv" / "installed.json").write_text(json.dumps({"requirements.lock": digest}))


def _closed(directory: Path) -> Path:
    directory.chmod(0o700)
    return directory


def _existing(places: list[str]) -> list[str]:
    return [place for place in places if os.path.lexists(place)]


def _long(parent: Path) -> Path:
    """A path of PATH_LENGTH characters below ``parent``."""
    folder = parent / "repository"
    return folder / ("x" * max(1, PATH_LENGTH - len(str(folder)) - 1))


@contextlib.contextmanager
def _home_of_a_plain_user() -> Iterator[tuple[Path, int | None]]:
    """A directory that the user can reach, and whom to become: nobody in particular when we are root."""
    home = Path(tempfile.mkdtemp(prefix="session-gateway-newcomer-"))
    try:
        yield home, pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    finally:
        shutil.rmtree(home)


def _python_for_everybody() -> str:
    """A Python that another user may run."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        probe = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))"
        if reachable(Path(candidate)) and subprocess.run([candidate, "-c", probe], capture_output=True).returncode == 0:
            return candidate
    pytest.skip("NOT TESTED: no Python 3.11 with venv that another user may run")
