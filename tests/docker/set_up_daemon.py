"""A real dockerd that reads /etc/docker as a machine's own does: a folder of its own is mounted there for it alone."""

import contextlib
import ctypes
import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docker import certs
from docker.settings import DockerSettings
from tests.docker.daemon import PORT, PrivateDaemon, ask, sweep

_LIBC = ctypes.CDLL(None, use_errno=True)
_NETWORK = 0x40000000  # CLONE_NEWNET


class SetUpDaemon(PrivateDaemon):
    """``etc`` becomes its /etc/docker: fill it before ``start``. Nothing is said on the command line but places.

    Its mounts are not those of a ``restart``: use no container of before then.

    ``local``: it listens on the loopback of its namespace, so it is seen ``within`` that alone.
    """

    def __init__(self, nth: int, *, local: bool = False) -> None:
        super().__init__(nth)
        self.root = self.folder / "root"
        self.etc = self.root / "etc/docker"
        self._local = local

    @property
    def settings(self) -> DockerSettings:
        return DockerSettings(
            docker_host=f"tcp://{'127.0.0.1' if self._local else self.address}:{PORT}",
            docker_cert_path=str(self.folder / "certs"),
            publish_address="127.0.0.1" if self._local else self.address,
            allow_public_publish=True,
        )

    def prepare(self) -> None:
        """Make what it needs: its namespace, and certificates in ``folder``."""
        sweep()
        certs.generate(self.folder / "certs", hosts=[self.address, "127.0.0.1"], days=2)
        self._make_namespace()

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        """One request, past the client that is under test."""
        return ask(self.settings, method, path)

    def launch(self, seconds: float = 30.0) -> None:
        """Start it on what is there; returns when it answers."""
        self._launch(seconds)

    def _launch(self, seconds: float) -> None:
        with within(self.namespace) if self._local else contextlib.nullcontext():
            super()._launch(seconds)

    def _command(self) -> list[str]:
        etc, folder = self.etc, self.folder
        places = f"--data-root={folder}/data --exec-root={folder}/exec --pidfile={folder}/pid"
        mounted = f"mount --bind {etc} /etc/docker && exec dockerd {places}"
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounted]


@contextmanager
def within(namespace: str) -> Iterator[None]:
    """The calling thread is in a network namespace meanwhile: what it opens there stays there."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    inside = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(inside)
        yield
    finally:
        _enter(before)
        os.close(before)
        os.close(inside)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _NETWORK):  # os.setns comes with Python 3.12
        raise OSError(ctypes.get_errno(), "setns")


def got(host: str, port: int, path: str) -> int:
    """The status of one GET."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def certificates_of(folder: Path) -> dict[str, bytes]:
    """What a daemon needs of a folder of certificates."""
    return {name: (folder / name).read_bytes() for name in ("ca.pem", "server-cert.pem", "server-key.pem")}
