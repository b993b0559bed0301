"""A dockerd that speaks TLS and runs nothing: no bridge, no packet rules, so it needs no network of its own.

For what is settled before any container: which certificates it takes, and what a restart with others changes.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from docker.settings import DockerSettings
from tests.docker.daemon import answers

_NEEDED: Final = ("dockerd", "setpriv")
_SECONDS: Final = 30.0


class BareDaemon:
    """Started with the files of a folder; what is written there later counts from its restart on."""

    def __init__(self, folder: Path, certificates: Path) -> None:
        self._folder, self._certificates = folder, certificates
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> DockerSettings:
        return self.settings_of(self._certificates)

    def settings_of(self, certificates: Path) -> DockerSettings:
        """For a client with the files of that folder."""
        return DockerSettings(docker_host=f"tcp://127.0.0.1:{self._port}", docker_cert_path=str(certificates))

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with its log."""
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _SECONDS
        while not answers(self.settings):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((self._folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.02)

    def restart(self) -> None:
        """With the files as they are now."""
        self.stop()
        self.start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        files = {"ca": "ca.pem", "cert": "server-cert.pem", "key": "server-key.pem"}
        places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
        return [
            "dockerd",
            f"--host=tcp://127.0.0.1:{self._port}",
            "--tlsverify",
            *(f"--tls{option}={self._certificates / name}" for option, name in files.items() if option != "ca"),
            f"--tlscacert={self._certificates / files['ca']}",
            *(f"--{option}={self._folder / name}" for option, name in places.items()),
            "--bridge=none",
            "--iptables=false",
            "--ip-forward=false",
        ]


@contextmanager
def bare_daemon(certificates: Path) -> Iterator[BareDaemon]:
    """One that answers, and is gone at the end. Its folder has a short name: sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="sg-bare-"))
    daemon = BareDaemon(folder, certificates)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)


def missing() -> str:
    """Why none can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "only root can start a dockerd"
    absent = [name for name in _NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
