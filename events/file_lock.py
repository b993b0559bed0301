"""One process a file: a lock that the kernel drops when its holder dies, and that says who the holder is."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Final

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
        """Raises JournalLocked, naming process and host, while another holds it."""
        path = guarded.with_name(guarded.name + ".lock")
        for _ in range(_TRIES):
            handle = try_lock(path, fcntl.LOCK_EX)
            if handle is not None:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return cls(path, handle)
        raise JournalLocked(f"{guarded} is in use by {read(path) or 'another process'}")

    def release(self, *, remove: bool = False) -> None:
        """Let others in; ``remove`` the file when what it guarded is gone. Only once."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._handle)
