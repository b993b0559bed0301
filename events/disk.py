"""Disk: what every file of this room needs of it: names that last, and one word for a disk that takes no more."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, EIO, ENOSPC, EROFS
from pathlib import Path
from typing import Final

from events.errors import JournalFull

_TAKES_NO_MORE: Final = frozenset({ENOSPC, EDQUOT, EFBIG, EIO, EROFS})


@contextmanager
def taking(path: Path) -> Iterator[None]:
    """JournalFull, naming ``path``, for what says that its disk takes no more; any other OSError passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _TAKES_NO_MORE:
            raise
        raise JournalFull(f"{path} cannot grow: {error.strerror}") from error


def make_directory(directory: Path) -> None:
    """Make it (0700), and what is missing above it, each name as durable as the files that will lie in it."""
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_directory(one.parent)
    if not missing and not directory.is_dir():
        raise NotADirectoryError(f"{directory} is no directory")


def sync_directory(directory: Path) -> None:
    """Make a file's name as durable as its bytes."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
