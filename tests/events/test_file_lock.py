"""One process a file, and a sentence that says which."""

import asyncio
import os
import socket
import sys
from errno import EIO
from pathlib import Path

import pytest

from events.errors import JournalFull, JournalLocked
from events.file_lock import FileLock
from tests.failures import small_disk

HOLDER = """
import pathlib, sys
from events.file_lock import FileLock
lock = FileLock.take(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = FileLock.take(tmp_path / "log")
    with pytest.raises(JournalLocked, match=f"process {os.getpid()} on {socket.gethostname()}"):
        FileLock.take(tmp_path / "log")
    lock.release()
    FileLock.take(tmp_path / "log").release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_has_no_room_for_the_name_and_is_locked_all_the_same() -> None:
    """And free again afterwards: a handle that leaked here shut its own process out until it was restarted."""
    with small_disk.mounted(1) as disk:
        disk.fill()
        for _ in range(2):
            lock = FileLock.take(disk.path / "log")
            with pytest.raises(JournalLocked, match="another process"):
                FileLock.take(disk.path / "log")
            lock.release()
        FileLock.take(disk.path / "log").release(remove=True)


def test_disk_that_takes_no_lock_file_is_told_as_such() -> None:
    with small_disk.mounted(1) as disk:
        disk.write_protect()
        with pytest.raises(JournalFull, match="Read-only"):
            FileLock.take(disk.path / "log")


def test_lock_file_that_cannot_be_removed_lets_others_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FileLock.take(tmp_path / "log")
    with monkeypatch.context() as broken, pytest.raises(OSError, match="unlink"):
        broken.setattr(Path, "unlink", _fail)
        lock.release(remove=True)
    FileLock.take(tmp_path / "log").release()


def _fail(*_: object, **__: object) -> None:
    raise OSError(EIO, "unlink")


async def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """Also though the killed one could not clean up: the kernel drops the lock, the file that is left says nothing."""
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        str(tmp_path / "log"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert await asyncio.wait_for(holder.stdout.readline(), 30) == b"held\n"
        with pytest.raises(JournalLocked, match=f"process {holder.pid} on"):
            FileLock.take(tmp_path / "log")
    finally:
        holder.kill()
        await holder.wait()
    FileLock.take(tmp_path / "log").release()
