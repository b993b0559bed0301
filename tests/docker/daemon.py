"""A dockerd of our own with mutual TLS, in a network namespace of its own.

Two daemons in one namespace flush each other's packet rules, and each leaves bridges and rules behind. In a namespace
of its own a daemon shares nothing with the machine or with another test run, and all of it goes with the namespace.
Containers and daemon are reached over a pair of virtual interfaces; containers reach this machine at ``gateway``.
What a killed run left behind is removed by the next one.
"""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docker import certs
from docker.errors import DockerError
from docker.settings import DockerSettings, daemon_url
from docker.tls import ssl_context

BASE = Path(tempfile.gettempdir()) / "session-gateway-dockerd"
PORT = 2376
NEEDED = ("dockerd", "ip", "nsenter", "setpriv", "iptables")


class PrivateDaemon:
    """One dockerd; ``start`` returns when it answers, ``stop`` leaves nothing of it.

    ``nth``: of this process, each has a place of its own. ``flags`` are given to dockerd beside the others.
    """

    def __init__(self, nth: int = 0, flags: tuple[str, ...] = ()) -> None:
        self.folder = BASE / f"{os.getpid()}-{_started(os.getpid())}-{nth}"
        self.namespace = _namespace(self.folder)
        self._flags = flags
        third, fourth = divmod(os.getpid() % 16384, 64)
        network = f"10.{213 + nth}.{third}"
        self.gateway = f"{network}.{fourth * 4 + 1}"
        self.address = f"{network}.{fourth * 4 + 2}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> DockerSettings:
        """For a client: a published port appears on the daemon's own end of the pair, not on our loopback."""
        return DockerSettings(
            docker_host=f"tcp://{self.address}:{PORT}",
            docker_cert_path=str(self.folder / "certs"),
            publish_address=self.address,
            allow_public_publish=True,
        )

    @property
    def enter(self) -> list[str]:
        """What to put before a command so that it runs in the daemon's namespace."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}"]

    def start(self, seconds: float = 30.0) -> None:
        """Start it and wait until it answers. Raises RuntimeError with the daemon's log when it does not."""
        sweep()
        self.folder.mkdir(parents=True)
        certs.generate(self.folder / "certs", hosts=[self.address, "127.0.0.1"], days=2)
        self._make_namespace()
        self._launch(seconds)

    def restart(self, seconds: float = 30.0) -> None:
        """End it as an operator does, and start it on the same place; returns when it answers.

        With ``--live-restore`` its containers run on meanwhile. The thread that calls this must outlive the daemon.
        """
        self._end()
        self._launch(seconds)

    def _launch(self, seconds: float) -> None:
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                # The daemon ends with the thread that started it, however that ends.
                ["setpriv", "--pdeathsig", "TERM", *self.enter, *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not _eventually(lambda: self._process_ended() or answers(self.settings), seconds) or self._process_ended():
            said = (self.folder / "log").read_text(errors="replace")[-2000:]
            self.stop()
            raise RuntimeError(f"dockerd did not start:\n{said}")

    def stop(self) -> None:
        """End it and its containers, and remove every trace."""
        self._end()
        _end_leftovers(self.folder)  # what ran on
        _remove(self.folder, self.namespace)

    def _end(self) -> None:
        if self._process is not None:
            _end(self._process.pid, self._process_ended, seconds=30)
            self._process.wait()

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _make_namespace(self) -> None:
        outside, inside = f"{self.namespace}o", f"{self.namespace}i"
        _run("ip", "netns", "add", self.namespace)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.namespace)
        _run("ip", "addr", "add", f"{self.gateway}/30", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        for arguments in (
            ("addr", "add", f"{self.address}/30", "dev", inside),
            ("link", "set", inside, "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", self.gateway),
        ):
            _run("ip", "-n", self.namespace, *arguments)

    def _command(self) -> list[str]:
        folder = self.folder
        return [
            "dockerd",
            f"--host=tcp://{self.address}:{PORT}",
            "--tlsverify",
            f"--tlscacert={folder}/certs/ca.pem",
            f"--tlscert={folder}/certs/server-cert.pem",
            f"--tlskey={folder}/certs/server-key.pem",
            f"--data-root={folder}/data",
            f"--exec-root={folder}/exec",
            f"--pidfile={folder}/pid",
            "--bridge=none",  # sessions have a network of their own
            "--userland-proxy=false",
            *self._flags,
        ]


def answers(settings: DockerSettings) -> bool:
    """Whether a daemon answers there over mutual TLS; asked without the client that is under test."""
    try:
        return ask(settings, "GET", "/_ping", seconds=2)[0] == 200
    except (OSError, http.client.HTTPException, DockerError):
        return False


def ask(
    settings: DockerSettings, method: str, path: str, body: object = None, *, seconds: float = 30
) -> tuple[int, Any]:
    """One request to the daemon, with ``body`` as JSON, and its answer's status and JSON (or text)."""
    where = daemon_url(settings).removeprefix("https://")
    connection = http.client.HTTPSConnection(where, context=ssl_context(settings), timeout=seconds)
    with contextlib.closing(connection):
        given = None if body is None else json.dumps(body)
        connection.request(method, path, given, {"Content-Type": "application/json"} if given else {})
        answer = connection.getresponse()
        said = answer.read()
        is_json = "json" in answer.headers.get("Content-Type", "") and said
        return answer.status, json.loads(said) if is_json else said.decode(errors="replace")


def missing() -> str:
    """Why no daemon can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "only root can start a dockerd"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (docker.io, iproute2, iptables, util-linux)" if absent else ""


def sweep() -> None:
    """Remove what runs that are over left behind: processes, mounts, files, namespaces."""
    BASE.mkdir(mode=0o700, exist_ok=True)
    with open(BASE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for folder in BASE.iterdir():
            pid, _, rest = folder.name.partition("-")
            started, _, _ = rest.partition("-")
            if started and _started(int(pid)) != started:
                _end_leftovers(folder)
                _remove(folder, _namespace(folder))


def _end_leftovers(folder: Path) -> None:
    """End the daemon of ``folder``, then whatever still names the folder or runs in one of its containers."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "pid").read_text())
        if str(folder) in _command_line(pid):
            _end(pid, lambda: str(folder) not in _command_line(pid), seconds=20)
    containers = [path.name for path in (folder / "data" / "containers").glob("*")]
    for pid in _pids():
        if str(folder) in _command_line(pid) or any(name in _cgroup(pid) for name in containers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _end(pid: int, ended: Callable[[], bool], *, seconds: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        if not _eventually(ended, seconds):
            os.kill(pid, signal.SIGKILL)


def _remove(folder: Path, namespace: str) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)
    if Path(f"/run/netns/{namespace}").exists():
        _run("ip", "netns", "del", namespace)


def _namespace(folder: Path) -> str:
    """A name of 12 characters: an interface of it with a letter more must stay below 16."""
    return f"gw{hashlib.sha256(folder.name.encode()).hexdigest()[:10]}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _eventually(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _command_line(pid: int) -> str:
    return _read(f"/proc/{pid}/cmdline").replace("\0", " ")


def _cgroup(pid: int) -> str:
    return _read(f"/proc/{pid}/cgroup")


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot, empty when it is gone (proc(5), stat, field 22)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields else ""
