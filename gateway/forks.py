"""Forks: a process remembers across its restarts how far it has seen the log, and refuses one that has lost some of it.

The place lies in the data directory. A backup that was restored while no gateway ran is found by it at the next start;
who runs meanwhile finds it by the tail (``projections.views``). Either way a person decides: ``log accept``.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from events.errors import EventError, LogForked, StoreUnavailable
from events.mark import Mark, Marks, verify
from events.store import EventStore
from gateway.settings import BadSettings
from projections.views import Views

MARK_FILE: Final = "log-mark.json"
KEEP: Final = 256  # a fork this near to the end is named exactly; 50 kB in the file at most
MARK_SECONDS: Final = 5.0
ADVICE: Final = (
    "Bring back the database that has them; or, when it was restored on purpose or they must be given up, say so with "
    "`python -m gateway log accept`"
)
log = logging.getLogger("session_gateway.forks")


class _File(msgspec.Struct, frozen=True):
    log_id: UUID
    marks: tuple[Mark, ...]


class BadMarkFile(BadSettings):
    """The file of marks holds something else. One sentence."""


def read(data_dir: Path) -> Marks | None:
    """The place that a gateway on ``data_dir`` has seen the log up to. Raises BadMarkFile."""
    file = data_dir / MARK_FILE
    if not file.exists():
        return None
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError) as error:
        raise BadMarkFile([f"{file} cannot be read ({error}): restore it, or remove it."]) from error
    return Marks(kept.log_id, kept.marks, keep=KEEP)


def write(data_dir: Path, marks: Marks) -> None:
    """Keep ``marks``; a reader sees the former file or this one. Raises OSError."""
    kept = Marks(marks.log_id, marks, keep=KEEP)
    content = msgspec.json.encode(_File(kept.log_id, tuple(kept)))
    descriptor, fresh = tempfile.mkstemp(prefix=f".{MARK_FILE}.", dir=data_dir)
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        os.replace(fresh, data_dir / MARK_FILE)
    except BaseException:
        os.unlink(fresh)
        raise


async def fork_of(data_dir: Path, store: EventStore) -> LogForked | None:
    """How the log differs from what was seen of it. Another log is no fork: the settings name another database."""
    marks = read(data_dir)
    if marks is None or marks.log_id != store.log_id:
        return None
    try:
        await verify(store, marks)
    except LogForked as forked:
        return forked
    return None


async def check(data_dir: Path, store: EventStore) -> tuple[str, ...]:
    """Before the log is used: raise LogForked, with what to do, when it lost what was seen. Lines for the person."""
    forked = await fork_of(data_dir, store)
    if forked is not None:
        raise LogForked(
            f"{forked}. {ADVICE}",
            same_until=forked.same_until,
            differs_from=forked.differs_from,
            known_until=forked.known_until,
        )
    marks = read(data_dir)
    if marks is None or marks.log_id == store.log_id:
        return ()
    return (f"ANOTHER LOG: this data directory was last used with the log {marks.log_id}; this one is {store.log_id}.",)


class MarkKeeper:
    """Writes what the views have seen into the data directory, when it is more than the last time."""

    def __init__(self, data_dir: Path, views: Views) -> None:
        self._data_dir = data_dir
        self._views = views
        self._written = 0

    async def save(self) -> None:
        """Raises OSError. A view that the log no longer supports is not told to the next process."""
        position = self._views.position
        if self._views.forked is not None or position == self._written or self._views.marks.last is None:
            return
        await asyncio.to_thread(write, self._data_dir, Marks(self._views.marks.log_id, self._views.marks, keep=KEEP))
        self._written = position

    async def save_last(self) -> None:
        """At the end, when nobody follows the tail any more: with the last that we have written ourselves."""
        try:
            if self._views.forked is None:
                with contextlib.suppress(StoreUnavailable):  # what was seen before is kept all the same
                    await self._views.load()
            await self.save()
        except (OSError, EventError) as error:
            log.error("how far this process has seen the log could not be kept: %s", error)
