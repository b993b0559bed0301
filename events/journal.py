"""Journal: an append-only file of checked lines, for the log without a database and for the spool.

What ``write`` returned from is on the disk: one write and one fdatasync a batch, in a thread of the journal's own. A
batch that failed is cut off again; where the disk refuses that too, the error says so, and the journal takes nothing
more until it could be cut and read again. A process that died in mid-write leaves a torn end, which the next ``open``
cuts: nobody was told that it was written. Anything else that is unreadable is refused, with its line number.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from events.disk import sync_directory, taking
from events.errors import JournalDamaged, JournalFull, StoreClosed
from events.file_lock import FileLock
from events.journal_lines import (
    Line,
    decode_header,
    decode_line,
    encode_header,
    encode_line,
    is_torn_header,
    lost_its_end,
)

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
        self._sound = True  # the file ends at ``_size``; if not, it is cut and read again before anything is written
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    @classmethod
    async def open(cls, path: Path, *, header: Mapping[str, str]) -> Opened:
        """Open the file, or make it (0600) with ``header``; one that stands keeps its own: compare ``.header``.

        Raises JournalLocked (says who holds it), JournalDamaged (says which line), JournalFull, OSError.
        """
        return await asyncio.to_thread(_open, cls, path, header)

    @property
    def closed(self) -> bool:
        return self._closed

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

        An entry is anything that msgspec encodes to a JSON value (``encode_unit``). Raises StoreClosed, JournalFull:
        nothing was written, unless it says that the batch may be there. A caller that is cancelled leaves the batch
        whole: written, or not at all.
        """
        return await self._in_thread(lambda: self._write(entries))

    async def start_afresh(self, header: Mapping[str, str] | None = None) -> None:
        """Drop every line; numbers begin at 1 again. Without ``header`` the old one stays."""
        await self._in_thread(lambda: self._start_afresh(self.header if header is None else header))

    async def close(self) -> None:
        """After what is under way. Twice is once."""
        await self._end(remove=False)

    async def remove(self) -> None:
        """Delete the file, and close. Raises OSError: still open when the file has kept its name, else closed."""
        await self._end(remove=True)

    async def _end(self, *, remove: bool) -> None:
        if self._closed:
            return
        self._closed = True  # before the thread begins, which takes it back when the file cannot be removed
        ending = asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._close(remove=remove))
        await asyncio.shield(ending)

    def _in_thread(self, work: Callable[[], R]) -> "asyncio.Future[R]":
        if self._closed:
            raise StoreClosed(f"{self.path} was closed")
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self, header: Mapping[str, str]) -> tuple[list[Line], int]:
        """Every line beyond the header, and how many torn bytes were cut."""
        content = self.path.read_bytes()
        good, newline, torn = content.rpartition(b"\n")
        if not newline:  # new, or its maker died before the header was whole
            if not is_torn_header(content, header):
                raise JournalDamaged(f"{self.path} is no journal")
            self._start_afresh(header)
            sync_directory(self.path.parent)
            return [], 0
        lines = self._lines(good)
        self.header = decode_header(lines[0])
        self._size, self._last_seq = len(good) + 1, len(lines) - 1
        if lost_its_end(torn):
            raise JournalDamaged(f"{self.path} is damaged at line {len(lines) + 1}: {_RESCUE}")
        if torn:
            self._cut()
        return lines[1:], len(torn)

    def _lines(self, good: bytes) -> list[Line]:
        return [self._line(number, line) for number, line in enumerate(good.split(b"\n"), start=1)]

    def _line(self, number: int, raw: bytes) -> Line:
        line = decode_line(raw)
        if line is None or line.seq != number - 1:
            raise JournalDamaged(f"{self.path} is damaged at line {number}: {_RESCUE}")
        return line

    def _close(self, *, remove: bool) -> None:
        if remove:
            self._unlink()
        try:
            if remove:
                sync_directory(self.path.parent)
        finally:
            self._thread.shutdown(wait=False)
            os.close(self._handle)
            self._lock.release(remove=remove)

    def _unlink(self) -> None:
        """A file without its name must never be written into; one that kept it goes on being the journal."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            if os.path.lexists(self.path):
                self._closed = False
                raise

    def _write(self, entries: Sequence[object]) -> int:
        first = self._last_seq + 1
        lines = b"".join(encode_line(seq, entry) for seq, entry in enumerate(entries, first))
        if not self._size:  # the write of the header had failed; nothing is ever durable before it
            self._put(encode_header(self.header))
        self._put(lines)
        self._last_seq += len(entries)
        return first

    def _start_afresh(self, header: Mapping[str, str]) -> None:
        """A process that dies between cut and header leaves an empty file: the next one makes it anew."""
        self.header = header
        self._size, self._last_seq, self._sound = 0, 0, False
        self._put(encode_header(header))

    def _put(self, batch: bytes) -> None:
        """Write at the good end, so that what an earlier failure left beyond it is never part of the file."""
        if not self._sound:
            self._mend()
        try:
            written = 0
            while written < len(batch):
                written += os.pwrite(self._handle, batch[written:], self._size + written)
            os.fdatasync(self._handle)
        except OSError as error:
            taken_back = self._cut_if_possible()
            told = "" if taken_back else "; nor could the batch be taken back: it may be there"
            raise JournalFull(f"{self.path} cannot grow: {error.strerror}{told}") from error
        self._size += len(batch)

    def _mend(self) -> None:
        """The disk refused both a batch and its removal: believe nothing of the file that was not read again."""
        try:
            self._cut()
            content = self.path.read_bytes()
            lines = self._lines(content.removesuffix(b"\n")) if content else []
            if len(content) != self._size or len(lines) != (self._last_seq + 1 if self._size else 0):
                raise JournalDamaged(f"{self.path} is not what was written")
        except (OSError, JournalDamaged) as error:
            self._sound = False
            raise JournalFull(f"{self.path} takes nothing, its disk failed and it cannot be read: {error}") from error

    def _cut(self) -> None:
        os.ftruncate(self._handle, self._size)
        os.fdatasync(self._handle)
        self._sound = True

    def _cut_if_possible(self) -> bool:
        self._sound = False
        try:
            self._cut()
        except OSError:
            return False  # tried again before the next write
        return True


def _open(kind: type[Journal], path: Path, header: Mapping[str, str]) -> Opened:
    lock = FileLock.take(path)
    try:
        with taking(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except BaseException:
        lock.release()
        raise
    journal = kind(path, lock, handle)
    try:
        with taking(path):
            lines, torn = journal._load(header)
    except BaseException:
        journal._close(remove=False)
        raise
    return Opened(journal, lines, torn)
