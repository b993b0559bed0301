"""Marks: whose each folder of HOST_DIR_ROOT is, beside the folders, where no agent reaches.

The event log knows it too, but a log can be lost, restored from an old backup, or be another one over the same root. So
a folder with something in it is given to nobody but whom its mark names. The text of a mark is the caller's; here it is
written once and compared. Blocking, as ``host_dirs``, whose handles of the root it is given.

An operator adopts a folder with an empty mark: whoever is the next to be given it has it from then on.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from docker.errors import HostDirRefused

MARK: Final = ".owner-"  # no name of a session's folder begins with a dot
_LONGEST: Final = 1024
_ADOPT: Final = "an operator adopts it with an empty mark (guide for operators, Folders of the host as workspaces)."
_UNMARKED: Final = f"The folder is not empty, and nothing says whose it is: take another name, or {_ADOPT}"
_ANOTHERS: Final = f"The folder is somebody else's, or of another event log: take another name, or {_ADOPT}"


def file_of(name: str) -> str:
    """Within the root: what an operator gets from ``printf %s NAME | sha256sum``."""
    return f"{MARK}{hashlib.sha256(name.encode()).hexdigest()}"


def compare(parent: int, name: str, whose: str) -> None:
    """Raises HostDirRefused when ``claim`` would. What is not there, or is empty, is anybody's until it has a mark."""
    found = _read(parent, file_of(name))
    if found is None and not _is_free(parent, name):
        raise HostDirRefused(_UNMARKED)
    if found and found != whose:
        raise HostDirRefused(_ANOTHERS)


def claim(parent: int, name: str, whose: str) -> None:
    """The folder is theirs from here on. Raises HostDirRefused when it is another's, or may be."""
    with _locked(parent):
        compare(parent, name, whose)
        if _read(parent, file_of(name)) != whose:
            _write(parent, file_of(name), whose)


@contextlib.contextmanager
def _locked(parent: int) -> Iterator[None]:
    """Among all gateways of the machine: what is compared is what is written over."""
    handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(parent: int, file: str) -> str | None:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            raise HostDirRefused(_ANOTHERS)
        return os.read(handle, _LONGEST).decode("ascii", "replace")
    finally:
        os.close(handle)


def _write(parent: int, file: str, whose: str) -> None:
    """Whole or not at all: an empty mark would be anybody's."""
    part = f"{file}.part"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    with os.fdopen(handle, "w") as written:
        written.write(whose)
        written.flush()
        os.fsync(written.fileno())
    os.rename(part, file, src_dir_fd=parent, dst_dir_fd=parent)


def _is_free(parent: int, name: str) -> bool:
    """One that we may not list counts as full."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    try:
        with os.scandir(handle) as entries:
            return next(entries, None) is None
    finally:
        os.close(handle)
