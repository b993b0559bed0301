"""Reads a certificate's or a key's file, whatever lies there: it neither waits nor fills the memory.

Only the kind and the size are looked at here; what a file holds is left to ``cert_files``. A file system that does not
answer at all (a dead mount) cannot be escaped from by a read: keep the files on a local one.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 1 << 20  # the CAs of a whole system are a fifth of it


def read_file(path: Path) -> bytes:
    """All of it. Raises OSError: also of what is no plain file (a FIFO never ends), and of more than a mebibyte."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, "larger than a mebibyte", str(path))
    return content
