"""One process a file: a lock that the kernel drops when its holder dies, and that says who the holder is."""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from events.disk import taking
from events.embedded_place import read, try_lock
from events.errors import JournalLocked

_TRIES: Final = 5  # a lock file that its holder deletes in between


class FileLock:
    """The lock beside a file, as ``NAME.lock``. Two in one process shut each other out too."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    @classmethod
    def take(cls, guarded: Path) -> "FileLock":
        """Raises JournalLocked, naming process and host, while another holds it; JournalFull, OSError."""
        path = guarded.with_name(guarded.name + ".lock")
        for _ in range(_TRIES):
            with taking(path):
                handle = try_lock(path, fcntl.LOCK_EX)
            if handle is not None:
                _sign(handle)
                return cls(path, handle)
        raise JournalLocked(f"{guarded} is in use by {read(path) or 'another process'}")

    def release(self, *, remove: bool = False) -> None:
        """Let others in, whatever it raises; ``remove`` the file when what it guarded is gone. Only once."""
        try:
            if remove:
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._handle)


def _sign(handle: int) -> None:
    """A courtesy to who waits: a full disk, which has no room for it, is locked all the same."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
