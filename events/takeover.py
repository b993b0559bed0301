"""Takeover: replays what dead processes left in the spool directory, then removes their files.

A file whose process lives is locked, and left alone. Nothing is dropped without a person: a file with lines that cannot
be read is kept beside as ``NAME.damaged.jsonl`` after the others were replayed, one of another log stays as it is.
"""

import asyncio
import logging
from collections import deque
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from events.disk import sync_directory
from events.errors import JournalDamaged, JournalLocked
from events.file_lock import FileLock
from events.journal_lines import decode_header, decode_line, decode_unit
from events.spool import SUFFIX, Unit, first_batch, put_aside, replay
from events.store import EventStore

DAMAGED: Final = ".damaged.jsonl"
log = logging.getLogger("session_gateway.spool")


class _NotOurs(Exception):
    """The file is not to be replayed into this log; the text says why."""


class _Left(msgspec.Struct, frozen=True):
    """What one file holds, locked by us."""

    path: Path
    lock: FileLock
    units: deque[Unit]
    bad: list[int]  # numbers of lines that cannot be read, or before which some are missing


class Takeover:
    """For one process: any number may look at one directory, and each file is replayed by whoever locks it first."""

    def __init__(self, directory: Path, into: EventStore) -> None:
        self._directory = directory
        self._into = into
        self._told: set[Path] = set()

    async def run_once(self) -> int:
        """Replay every file whose process is gone; how many of its units the log refused.

        Raises StoreUnavailable, StoreClosed, OSError: what was not replayed stays for the next look.
        """
        rejected = 0
        for path in await asyncio.to_thread(lambda: sorted(self._directory.glob(f"*{SUFFIX}"))):
            try:
                left = await asyncio.to_thread(_lock_and_read, path, self._into.log_id)
            except (JournalLocked, FileNotFoundError):
                continue  # its process lives, or another one was quicker
            except _NotOurs as reason:
                self._tell_once(path, str(reason))
                continue
            rejected += await self._replay(left)
        return rejected

    def _tell_once(self, path: Path, reason: str) -> None:
        if path not in self._told:
            self._told.add(path)
            log.error("the spool %s of a former process is not replayed: %s", path, reason)

    async def _replay(self, left: _Left) -> int:
        rejected, units, done = 0, len(left.units), False

        async def reject(unit: Unit, reason: str) -> None:
            await put_aside(unit, reason, spool=left.path, log_id=self._into.log_id)

        try:
            while left.units:
                batch = first_batch(left.units)
                replayed = await replay(self._into, batch, reject)
                rejected += replayed.rejected
                for _ in range(replayed.units):
                    left.units.popleft()
                if replayed.error is not None:
                    raise replayed.error
            await asyncio.to_thread(_finish, left)
            done = True
        finally:
            left.lock.release(remove=done)
        log.warning("took over %s of a process that ended: %d units are in the log", left.path, units - rejected)
        return rejected


def _lock_and_read(path: Path, log_id: UUID) -> _Left:
    """Raises JournalLocked, FileNotFoundError, _NotOurs."""
    lock = FileLock.take(path)
    try:
        content = path.read_bytes()
        complete, newline, _ = content.rpartition(b"\n")  # a torn end: nobody was told that it was written
        lines = complete.split(b"\n") if newline else []
        if lines:
            _check_header(lines[0], log_id)
        return _Left(path, lock, *_units(lines[1:]))
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
        kept = left.path.with_name(left.path.name.removesuffix(SUFFIX) + DAMAGED)
        left.path.rename(kept)
        log.error(
            "the spool of a former process is damaged at lines %s: the rest is in the log, see %s", left.bad, kept
        )
    else:
        left.path.unlink()
    sync_directory(left.path.parent)
