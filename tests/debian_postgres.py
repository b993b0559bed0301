"""Debian's Postgres for the tests: TCP, TLS, passwords, standbys, PgBouncer. The embedded one is built without TLS.

Postgres refuses to run as root: then a server runs as ``nobody``, in a directory of its own below the system's
temporary one, since pytest's directories are closed to others.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import pytest

PASSWORD: Final = "p@ss:w/rd?#[]% ü'\""
START_SECONDS: Final = 30.0
_NOBODY: Final = 65534
_ACCESS: Final = """\
local     all         all                  trust
local     replication all                  trust
hostssl   all         certified  all       scram-sha-256 clientcert=verify-ca
hostnossl all         tls_only   all       reject
host      all         all        all       scram-sha-256
"""
_SETTINGS: Final = {
    "fsync": "off",
    "listen_addresses": "127.0.0.1,::1",
    "max_wal_senders": "4",
    "wal_level": "replica",
    "logging_collector": "off",
}


def binary(name: str) -> str:
    """Where a program of Debian's newest Postgres is. Skips loudly when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else without("postgresql")


def without(package: str) -> Any:
    """Skip, saying why; fail where everything is required."""
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1, but Debian's package {package} is not installed")
    pytest.skip(f"NOT TESTED: Debian's package {package} is not installed")


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def unprivileged() -> dict[str, Any]:
    """Arguments of ``subprocess`` that run a program as another than root."""
    if os.geteuid() != 0:
        return {}
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}


@contextmanager
def own_directory() -> Iterator[Path]:
    """A short, empty directory of whoever the programs run as; their sockets fit in it."""
    root = Path(tempfile.mkdtemp(prefix="gwpg-"))
    if os.geteuid() == 0:
        os.chown(root, _NOBODY, _NOBODY)
    try:
        yield root
    finally:
        shutil.rmtree(root)


def put(path: Path, content: bytes | str) -> Path:
    """Write a file that the programs accept as their own and secret."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if os.geteuid() == 0:
        os.chown(path, _NOBODY, _NOBODY)
    path.chmod(0o600)
    return path


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running Postgres; role ``postgres`` owns it and needs no password on its socket."""

    root: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def data(self) -> Path:
        return self.root / "data"

    def socket_url(self, name: str = "postgres", user: str = "postgres") -> str:
        """Through the socket, without a password."""
        return f"postgresql://{user}@/{name}?host={self.root}&port={self.port}"

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)


@contextmanager
def running(settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A new cluster that answers, stopped afterwards."""
    with own_directory() as root:
        _run("initdb", "-D", root / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        put(root / "data" / "pg_hba.conf", _ACCESS)
        with _served(root, settings or {}) as server:
            yield server


@contextmanager
def standby_of(primary: Server) -> Iterator[Server]:
    """A streaming copy of ``primary``, read-only until it is promoted."""
    with own_directory() as root:
        source = ("-h", primary.root, "-p", str(primary.port), "-U", "postgres")
        _run("pg_basebackup", "-D", root / "data", *source, "--write-recovery-conf", "-X", "stream", "-c", "fast")
        with _served(root, {}) as server:
            yield server


def promote(standby: Server) -> None:
    _run("pg_ctl", "promote", "-D", standby.data, "-w")


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """All its processes stopped, as by a machine that hangs; they go on afterwards."""
    postmaster = psutil.Process(server.process.pid)
    everyone = [postmaster, *postmaster.children(recursive=True)]
    for process in everyone:
        process.suspend()
    try:
        yield
    finally:
        for process in everyone:
            process.resume()


@contextmanager
def _served(root: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    port = free_port()
    chosen = {**_SETTINGS, **settings, "port": str(port), "unix_socket_directories": str(root)}
    options = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [binary("postgres"), "-D", root / "data", *options], cwd=root, stdout=log, stderr=log, **unprivileged()
        )
    try:
        _wait_until_ready(root, port, process)
        yield Server(root=root, port=port, process=process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.wait(START_SECONDS)


def _wait_until_ready(root: Path, port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    asking = [binary("pg_isready"), "-q", "-h", str(root), "-p", str(port)]
    while process.poll() is None and time.monotonic() < deadline:
        if subprocess.run(asking, check=False).returncode == 0:
            return
        time.sleep(0.02)
    pytest.fail(f"Postgres did not start: {(root / 'server.log').read_text(errors='replace')[-800:]}")


def _run(program: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [binary(program), *map(str, arguments)], cwd="/", capture_output=True, check=False, **unprivileged()
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
