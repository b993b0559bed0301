"""Debian's PgBouncer in transaction mode before a Postgres of the tests: three server connections a role."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.debian_postgres import PASSWORD, START_SECONDS, Server, free_port, own_directory, put, unprivileged, without

USERS: Final = ("postgres", "session_gateway")
SERVER_CONNECTIONS: Final = 3
_CONFIGURATION: Final = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {connections}
"""


@contextmanager
def running(server: Server) -> Iterator[str]:
    """``host:port`` of a pooler before ``server``; USERS have PASSWORD there."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") or without("pgbouncer")
    with own_directory() as root:
        port = free_port()
        secret = PASSWORD.replace('"', '""')
        users = put(root / "users.txt", "".join(f'"{user}" "{secret}"\n' for user in USERS))
        configuration = _CONFIGURATION.format(
            host=server.root, port=server.port, listen=port, users=users, connections=SERVER_CONNECTIONS
        )
        put(root / "pgbouncer.ini", configuration)
        with (root / "pooler.log").open("wb") as log:
            process = subprocess.Popen(
                [program, root / "pgbouncer.ini"], cwd=root, stdout=log, stderr=log, **unprivileged()
            )
        try:
            _wait_until_it_listens(process, port, root)
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(START_SECONDS)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, root: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"PgBouncer did not start: {(root / 'pooler.log').read_text(errors='replace')[-800:]}")
