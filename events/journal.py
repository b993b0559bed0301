"""Journal: an append-only file of checked lines, for the log without a database and for the spool.

What ``write`` returned from is on the disk: one write and one fdatasync a batch, in a thread of the journal's own. A
batch that failed leaves the file as it was. A process that died in mid-write leaves a torn end, which the next
``open`` cuts: nobody was told that it was written. Anything else that is unreadable is refused, with its line number.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from errno import EDQUOT, EFBIG, EIO, ENOSPC
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from events.errors import JournalDamaged, JournalFull, StoreClosed
from events.file_lock import FileLock
from events.journal_lines import Line, decode_header, decode_line, encode_header, encode_line, is_torn_header

_FULL: Final = frozenset({ENOSPC, EDQUOT, EFBIG, EIO})
_RESCUE: Final = "restore it from a copy; lines before this one are good"
R = TypeVar("R")


class Opened(msgspec.Struct, frozen=True):
    """A journal and what stood in it."""

    journal: "Journal"
    lines: list[Line]  # numbered from 1, without gaps
    torn_bytes: int  # cut from the end: a write that nobody was told of


class Journal:
    """An open file, of this process alone. Safe for many tasks at once; lines stand in the order of the calls."""

    def __init__(self, path: Path, lock: FileLock, handle: int) -> None:
        self.path = path
        self.header: Mapping[str, str] = {}
        self._lock = lock
        self._handle = handle
        self._size = 0  # the file's good length; what lies beyond is nobody's
        self._last_seq = 0
        self._sound = True  # the file ends at ``_size``
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    @classmethod
    async def open(cls, path: Path, *, header: Mapping[str, str]) -> Opened:
        """Open the file, or make it (0600) with ``header``; one that stands keeps its own: compare ``.header``.

        Raises JournalLocked (says who holds it), JournalDamaged (says which line), JournalFull, OSError.
        """
        return await asyncio.to_thread(_open, cls, path, header)

    @property
    def size(self) -> int:
        """Bytes that are good and durable, the header's included."""
        return self._size

    @property
    def last_seq(self) -> int:
        """The number of the last durable line; 0 when only the header stands."""
        return self._last_seq

    async def write(self, entries: Sequence[object]) -> int:
        """Add a line for each, all or none, durable when this returns; the number of the first.

        An entry is anything that msgspec encodes to a JSON value (``encode_unit``). Raises JournalFull (nothing was
        written), StoreClosed. A caller that is cancelled leaves the batch whole: written, or not at all.
        """
        return await self._in_thread(lambda: self._write(entries))

    async def start_afresh(self, header: Mapping[str, str] | None = None) -> None:
        """Drop every line; numbers begin at 1 again. Without ``header`` the old one stays."""
        await self._in_thread(lambda: self._start_afresh(self.header if header is None else header))

    async def close(self) -> None:
        """After what is under way. Twice is once."""
        await self._end(remove=False)

    async def remove(self) -> None:
        """Delete the file, and close."""
        await self._end(remove=True)

    async def _end(self, *, remove: bool) -> None:
        if self._closed:
            return
        ending = self._in_thread(lambda: self._close(remove=remove))
        self._closed = True
        try:
            await asyncio.shield(ending)
        finally:
            self._thread.shutdown(wait=False)

    def _in_thread(self, work: Callable[[], R]) -> "asyncio.Future[R]":
        if self._closed:
            raise StoreClosed(f"{self.path} was closed")
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self, header: Mapping[str, str]) -> tuple[list[Line], int]:
        """Every line beyond the header, and how many torn bytes were cut."""
        content = self.path.read_bytes()
        good, newline, torn = content.rpartition(b"\n")
        if not newline:  # new, or its maker died before the header was whole
            if not is_torn_header(content):
                raise JournalDamaged(f"{self.path} is no journal")
            self._start_afresh(header)
            sync_directory(self.path.parent)
            return [], 0
        lines = [self._line(number, line) for number, line in enumerate(good.split(b"\n"), start=1)]
        self.header = decode_header(lines[0])
        self._size, self._last_seq = len(good) + 1, len(lines) - 1
        if torn:
            self._cut()
        return lines[1:], len(torn)

    def _line(self, number: int, raw: bytes) -> Line:
        line = decode_line(raw)
        if line is None or line.seq != number - 1:
            raise JournalDamaged(f"{self.path} is damaged at line {number}: {_RESCUE}")
        return line

    def _close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        os.close(self._handle)
        self._lock.release(remove=remove)

    def _write(self, entries: Sequence[object]) -> int:
        first = self._last_seq + 1
        lines = b"".join(encode_line(seq, entry) for seq, entry in enumerate(entries, first))
        self._put(lines if self._size else encode_header(self.header) + lines)  # no header: its write had failed
        self._last_seq += len(entries)
        return first

    def _start_afresh(self, header: Mapping[str, str]) -> None:
        """A process that dies between cut and header leaves an empty file: the next one makes it anew."""
        self.header = header
        self._size, self._last_seq, self._sound = 0, 0, False
        self._put(encode_header(header))

    def _put(self, batch: bytes) -> None:
        """Write at the good end, so that what an earlier failure left beyond it is never part of the file."""
        try:
            if not self._sound:
                self._cut()
            written = 0
            while written < len(batch):
                written += os.pwrite(self._handle, batch[written:], self._size + written)
            os.fdatasync(self._handle)
        except OSError as error:
            self._sound = False
            self._cut_if_possible()
            if error.errno not in _FULL:
                raise
            raise JournalFull(f"{self.path} cannot grow: {error.strerror}") from error
        self._size += len(batch)

    def _cut(self) -> None:
        os.ftruncate(self._handle, self._size)
        os.fdatasync(self._handle)
        self._sound = True

    def _cut_if_possible(self) -> None:
        try:
            self._cut()
        except OSError:
            self._sound = False  # before the next write, again


def _open(kind: type[Journal], path: Path, header: Mapping[str, str]) -> Opened:
    lock = FileLock.take(path)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except BaseException:
        lock.release()
        raise
    journal = kind(path, lock, handle)
    try:
        lines, torn = journal._load(header)
    except BaseException:
        journal._close(remove=False)
        raise
    return Opened(journal, lines, torn)


def sync_directory(directory: Path) -> None:
    """Make a file's name as durable as its bytes."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
