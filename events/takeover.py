"""Takeover: replays what dead processes left in the spool directory, then removes their files.

A file whose process lives is locked, and left alone. Nothing is dropped without a person: a file with lines that cannot
be read is kept beside as ``NAME.damaged.jsonl`` after the others were replayed, one of another log, and one of which a
refused unit could not be put aside, stays as it is.
"""

import asyncio
import logging
import os
from collections import deque
from itertools import count
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from events.disk import sync_directory
from events.errors import EventError, JournalDamaged, JournalLocked
from events.file_lock import FileLock
from events.journal_lines import decode_header, decode_line, decode_unit, is_torn_header, lost_its_end
from events.rejected import Rejected
from events.spool import SUFFIX, Unit, first_batch, replay
from events.store import EventStore

DAMAGED: Final = ".damaged.jsonl"
log = logging.getLogger("session_gateway.spool")


class _NotOurs(Exception):
    """The file is not to be replayed into this log; the text says why."""


class _Left(msgspec.Struct, frozen=True):
    """What one file holds, locked by us."""

    path: Path
    lock: FileLock
    stamp: tuple[int, int, int]  # other bytes, another stamp
    units: deque[Unit]
    bad: list[int]  # numbers of lines that cannot be read, or before which some are missing
    torn_bytes: int  # at its end: a write that nobody was told of


class Takeover:
    """For one process: any number may look at one directory, and each file is replayed by whoever locks it first."""

    def __init__(self, directory: Path, into: EventStore) -> None:
        self.rejected = 0  # units of all those files that the log refused
        self._directory = directory
        self._into = into
        self._told: set[tuple[Path, str]] = set()
        self._refused: dict[Path, Rejected] = {}
        self._brought: dict[Path, tuple[int, int, int]] = {}  # files all of whose units the log has, or has refused

    async def run_once(self) -> int:
        """Replay every file whose process is gone; how many of its units the log refused.

        What is wrong with one file is told once, and holds up no other. Raises what the log raises (StoreUnavailable,
        StoreClosed): what was not replayed stays for the next look.
        """
        before = self.rejected
        for path in await asyncio.to_thread(lambda: sorted(self._directory.glob(f"*{SUFFIX}"))):
            try:
                left = await asyncio.to_thread(_lock_and_read, path, self._into.log_id)
            except (JournalLocked, FileNotFoundError):
                continue  # its process lives, or another one was quicker
            except (_NotOurs, EventError, OSError) as reason:
                self._tell_once(path, f"is not replayed: {reason}")
                continue
            await self._take(left)
        return self.rejected - before

    def _tell_once(self, path: Path, what: str) -> None:
        if (path, what) not in self._told:
            self._told.add((path, what))
            log.error("the spool %s of a former process %s", path, what)

    async def _take(self, left: _Left) -> None:
        """Replayed, it is removed; one that cannot be removed is not replayed again."""
        refused = self._refused.setdefault(left.path, Rejected(left.path, self._into.log_id))
        before, done = refused.count, False
        try:
            if self._brought.get(left.path) != left.stamp:
                await self._bring(left, refused)
                self._brought[left.path] = left.stamp
            done = await refused.settle() and await self._finish(left)
        finally:
            self.rejected += refused.count - before
            try:
                await refused.close()
            finally:
                self._release(left, done=done)

    async def _bring(self, left: _Left, refused: Rejected) -> None:
        units = len(left.units)
        rejected = refused.count
        while left.units:
            replayed = await replay(self._into, first_batch(left.units), refused.put)
            for _ in range(replayed.units):
                left.units.popleft()
            if replayed.error is not None:
                raise replayed.error
        if left.torn_bytes:
            log.warning("cut a torn end of %d bytes from %s: nobody was told of it", left.torn_bytes, left.path)
        brought = units - (refused.count - rejected)
        log.warning("took over %s of a process that ended: %d units are in the log", left.path, brought)

    async def _finish(self, left: _Left) -> bool:
        try:
            await asyncio.to_thread(_finish, left)
        except OSError as error:
            self._tell_once(left.path, f"is in the log and cannot be removed: {error}")
            return False
        del self._brought[left.path], self._refused[left.path]
        return True

    def _release(self, left: _Left, *, done: bool) -> None:
        try:
            left.lock.release(remove=done)
        except OSError as error:
            self._tell_once(left.path, f"has a lock file that cannot be removed: {error}")


def _lock_and_read(path: Path, log_id: UUID) -> _Left:
    """Raises JournalLocked, FileNotFoundError, _NotOurs; JournalFull, OSError."""
    lock = FileLock.take(path)
    try:
        content = path.read_bytes()
        complete, newline, torn = content.rpartition(b"\n")
        lines = complete.split(b"\n") if newline else []
        if lines and lost_its_end(torn):
            lines, torn = [*lines, torn[:-1]], b""
        if lines:
            _check_header(lines[0], log_id)
        units, bad = _units(lines[1:])
        if not lines and not is_torn_header(content, {"log_id": str(log_id)}):
            torn = b""
            bad.append(1)  # more than what can have been written before anybody was told
        found = path.stat()
        return _Left(path, lock, (found.st_ino, found.st_size, found.st_mtime_ns), units, bad, len(torn))
    except FileNotFoundError:
        lock.release(remove=True)
        raise
    except BaseException:
        lock.release()
        raise


def _check_header(line: bytes, log_id: UUID) -> None:
    read = decode_line(line)
    if read is None:
        raise _NotOurs("its first line, which names its log, is damaged")
    try:
        named = decode_header(read).get("log_id")
    except JournalDamaged as error:
        raise _NotOurs(str(error)) from error
    if named != str(log_id):
        raise _NotOurs(f"it belongs to the log {named}, this one is {log_id}")


def _units(lines: list[bytes]) -> tuple[deque[Unit], list[int]]:
    units: deque[Unit] = deque()
    bad: list[int] = []
    expected = 1
    for number, raw in enumerate(lines, start=2):
        line = decode_line(raw)
        if line is None or line.seq != expected:
            bad.append(number)
        expected = expected + 1 if line is None else line.seq + 1
        if line is not None:
            try:
                units.append(decode_unit(line.entry)[0])
            except JournalDamaged:
                bad.append(number)
    return units, bad


def _finish(left: _Left) -> None:
    """All that could be read is in the log."""
    if left.bad:
        kept = _free_name(left.path)
        left.path.rename(kept)
        log.error(
            "the spool of a former process is damaged at lines %s: the rest is in the log, see %s", left.bad, kept
        )
    else:
        left.path.unlink()
    sync_directory(left.path.parent)


def _free_name(path: Path) -> Path:
    """What is kept for a person is never written over. Nobody else names a file so: we hold the spool's lock."""
    stem = path.name.removesuffix(SUFFIX)
    kept = path.with_name(stem + DAMAGED)
    for nth in count(2):
        if not os.path.lexists(kept):
            break
        kept = path.with_name(f"{stem}.{nth}{DAMAGED}")
    return kept
