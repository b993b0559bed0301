"""A real dockerd as systemd starts it after the set-up: its socket is given to it, and TLS is beside."""

import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from docker import daemon_setup
from tests.docker.daemon import missing
from tests.docker.set_up_daemon import SetUpDaemon
from tests.docker_fixtures import without_docker

ACTIVATE = "systemd-socket-activate"


class ActivatedDaemon(SetUpDaemon):
    """Started by the first connection to ``local``."""

    @property
    def local(self) -> Path:
        return self.folder / "local"

    def _command(self) -> list[str]:
        *before, script = super()._command()
        return [*before, script.replace("exec dockerd", f"exec {ACTIVATE} -l {self.local} dockerd")]

    def connect(self) -> socket.socket:
        """The first connection; waits for the socket to be there."""
        for _ in range(200):
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.local))
            except OSError:
                connection.close()
                time.sleep(0.05)
            else:
                connection.settimeout(20)
                return connection
        raise TimeoutError(self.local)


@pytest.mark.docker
def test_the_units_own_socket_stays_and_tls_comes_beside_it() -> None:
    """``-H fd://`` leaves the command line and stands in daemon.json: in both places dockerd would not start."""
    if reason := missing() or ("" if shutil.which(ACTIVATE) else f"{ACTIVATE} is not installed (systemd)"):
        without_docker(reason)
    daemon = ActivatedDaemon(5)
    unit = daemon.root / "lib/systemd/system/docker.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/usr/sbin/dockerd -H fd://\n")
    answers = list[bytes]()

    def knock() -> None:
        with daemon.connect() as connection:
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answers.append(connection.recv(15))

    first = threading.Thread(target=knock)
    try:
        daemon.prepare()
        options = ("--certs", str(daemon.folder / "certs"), "--listen", daemon.address, "--root", str(daemon.root))
        assert daemon_setup.main(options) == daemon_setup.DONE
        assert b"ExecStart=/usr/sbin/dockerd\n" in (daemon.root / daemon_setup.DROP_IN).read_bytes()
        first.start()
        daemon.launch()
        assert daemon.ask("GET", "/_ping") == (200, "OK")
        first.join()
        assert answers == [b"HTTP/1.0 200 OK"]
    finally:
        daemon.stop()
