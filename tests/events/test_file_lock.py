"""One process a file, and a sentence that says which."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from events.errors import JournalLocked
from events.file_lock import FileLock

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
