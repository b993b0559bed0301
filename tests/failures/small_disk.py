"""A disk in memory (tmpfs), which a test can fill to the last byte. Root alone may mount one."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_NAME: Final = "gw-disk-"
_BLOCK: Final = bytes(1 << 20)


class SmallDisk:
    """Mounted at ``path``, which every user may enter."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, but: int = 0) -> None:
        """Leave no byte free, or so many."""
        size = len(_BLOCK)
        with self._ballast.open("ab", buffering=0) as ballast:
            while size:
                try:
                    ballast.write(_BLOCK[:size])
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
        if but:
            os.truncate(self._ballast, self._ballast.stat().st_size - but)

    def free(self) -> None:
        self._ballast.unlink()

    def write_protect(self) -> None:
        """As Linux does with a disk that fails."""
        subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)


@contextmanager
def mounted(megabytes: int) -> Iterator[SmallDisk]:
    """The disk; skips the test where none can be mounted, and fails it under REQUIRE_DOCKER=1."""
    with mounted_if_possible(megabytes) as disk:
        if isinstance(disk, SmallDisk):
            yield disk
        elif os.environ.get("REQUIRE_DOCKER") == "1":
            pytest.fail(f"REQUIRE_DOCKER=1, but {disk}")
        else:
            pytest.skip(f"NOT TESTED: {disk}")


@contextmanager
def mounted_if_possible(megabytes: int) -> Iterator[SmallDisk | str]:
    """The disk, or why there is none."""
    with tempfile.TemporaryDirectory(prefix=_NAME) as directory:
        Path(directory).chmod(0o755)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "gw-disk", directory]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        if said.returncode != 0:
            yield f"no disk in memory can be mounted here: {said.stderr.strip()}"
            return
        try:
            yield SmallDisk(Path(directory))
        finally:
            subprocess.run(["umount", directory], check=True)


def unmount(directory: Path) -> None:
    """Remove the disk of a test session that was killed, if there is one."""
    if directory.name.startswith(_NAME) and directory.is_mount():
        subprocess.run(["umount", directory], check=True)
        directory.rmdir()
