"""One child process of the local runtime: its port, its start, its output, its end. Linux 5.3 and newer.

The end is seen through a pidfd on the event loop, so neither threads nor a signal handler are needed and any loop will
do. There is no parent-death signal: it follows the thread that started the child, not the process, and needs code
between fork and exec. What a killed gateway leaves behind is ended by the next start (``docker/local.py``).
"""

import asyncio
import os
import random
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from docker.errors import DaemonFailed

LOG_LIMIT = 1024 * 1024  # bytes kept of one container's output, in two files
PIECE = 64 * 1024  # bytes: what a Linux pipe holds
HOST = "127.0.0.1"


def free_port() -> int:
    """A port that is free now, below the range that the kernel hands out: only a deliberate bind can still take it."""
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(range_file.read_text().split()[0]) if range_file.exists() else 32_768
    for _ in range(100):
        port = random.randrange(20_000, max(lowest, 20_100))
        if is_free(port):
            return port
    raise DaemonFailed("A hundred ports were tried and all are taken.")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class BoundedLog:
    """Output on disk: the newest bytes, at most LOG_LIMIT of them and at least half of that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, output: bytes) -> None:
        self._file.write(output[-LOG_LIMIT // 2 :])
        if self._file.tell() >= LOG_LIMIT // 2:
            self._file.close()
            self._path.replace(older(self._path))
            self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()


def older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a bounded log, oldest first."""
    written = b"".join(one.read_bytes() for one in (older(path), path) if one.exists())
    return written.decode(errors="replace").splitlines()[-count:] if count > 0 else []


class Child:
    """A started process and what it says."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: int, log: BoundedLog) -> None:
        self.pid = process.pid
        self._process, self._output, self._log = process, output, log

    @classmethod
    def start(cls, command: Sequence[str], environment: Mapping[str, str], *, user: int | None, log: Path) -> "Child":
        """Start it in ``PWD`` as leader of its own process group. Raises DaemonFailed when the system refuses."""
        kept = BoundedLog(log)
        output, inlet = os.pipe()
        os.set_blocking(output, False)
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=environment["PWD"],
                stdin=subprocess.DEVNULL,
                stdout=inlet,
                stderr=inlet,
                process_group=0,
                umask=0o077,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            os.close(output)
            kept.close()
            raise DaemonFailed(f"{command[0]} cannot be started: {error}.") from error
        finally:
            os.close(inlet)
        return cls(process, output, kept)

    async def end(self) -> int:
        """Wait for its end, keeping its output. Returns the exit code, 128 + n for signal n as Docker does."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        pidfd = os.pidfd_open(self.pid)
        loop.add_reader(pidfd, lambda: None if ended.done() else ended.set_result(None))
        loop.add_reader(self._output, self._take, loop)
        try:
            await ended
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self._take(loop)  # what it wrote last, all that a pipe holds
            loop.remove_reader(self._output)
            os.close(self._output)
            self._log.close()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        """Move what is in the pipe now to the log."""
        try:
            piece = os.read(self._output, PIECE)
        except BlockingIOError:
            return
        if piece:
            self._log.write(piece)
        else:
            loop.remove_reader(self._output)
