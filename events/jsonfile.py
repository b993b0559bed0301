"""The log without a database: the memory store over a journal, for one process on one machine.

A unit is decided, written with others in one fdatasync, and only then seen and acknowledged. Everything is read into
memory at the start, so this is for logs that fit there.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from events import codec
from events.envelope import Fence, StreamWrite
from events.errors import JournalDamaged, JournalFull
from events.journal import Journal
from events.journal_lines import Line, UnitEntry, decode_unit, encode_unit
from events.ledger import utc_now
from events.memory import MemoryEventStore
from events.store import Appended, Outcome, StoreStatus, check_unit
from events.writer import Unit, Writer

FILE: Final = "events.jsonl"
_HOLDS: Final = "log"
log = logging.getLogger("session_gateway.jsonfile")


class JsonFileEventStore(MemoryEventStore):
    """An EventStore in one file. Made by ``open``."""

    def __init__(self, journal: Journal, *, now: Callable[[], datetime] = utc_now) -> None:
        super().__init__(now=now, log_id=UUID(journal.header["log_id"]))
        self._journal = journal
        self._writer = Writer(self._send, retry_for=0.0)
        self._away_since: datetime | None = None

    @classmethod
    async def open(cls, path: Path, *, now: Callable[[], datetime] = utc_now) -> "JsonFileEventStore":
        """The log in ``path``, made when there is none.

        Raises JournalLocked while another process has it (says which), JournalDamaged (says which line), JournalFull.
        """
        opened = await Journal.open(path, header={"holds": _HOLDS, "log_id": str(uuid.uuid4())})
        try:
            if opened.torn_bytes:
                log.warning("cut a torn end of %d bytes from %s: nobody was told of it", opened.torn_bytes, path)
            if opened.journal.header.get("holds") != _HOLDS:
                raise JournalDamaged(f"{path} is a journal, but not of a log")
            store = cls(opened.journal, now=now)
            await asyncio.to_thread(store._restore, opened.lines)
        except BaseException:
            await opened.journal.close()
            raise
        store._writer.start()
        return store

    @property
    def status(self) -> StoreStatus:
        return StoreStatus(available=not self._closed and self._away_since is None, away_since=self._away_since)

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        check_unit(writes, fence)
        self._refuse_closed()
        return await self._writer.append(Unit(writes, fence))

    async def size(self) -> int:
        """Bytes of the file."""
        return self._journal.size

    async def close(self) -> None:
        """Write what waits, then give the file back."""
        try:
            await self._writer.close()
        finally:
            await super().close()
            await self._journal.close()

    async def _send(self, units: Sequence[Unit]) -> list[Outcome]:
        """Decide, make durable, show. Raises JournalFull: then nothing has happened."""
        try:
            outcomes = [self.ledger.stage(unit.writes, unit.fence) for unit in units]
            entries = [self._entry(unit, outcome) for unit, outcome in zip(units, outcomes, strict=True)]
            lines = [entry for entry in entries if entry is not None]
            if lines:
                await self._journal.write(lines)
        except JournalFull:
            self.ledger.drop()
            self._away_since = self._away_since or utc_now()
            raise
        except BaseException:
            self.ledger.drop()
            raise
        self._away_since = None
        await self._admit()
        return outcomes

    def _entry(self, unit: Unit, outcome: Outcome) -> UnitEntry | None:
        """What the file keeps of a unit; nothing of one that was refused or stood there already."""
        if not isinstance(outcome, Appended) or outcome.duplicate:
            return None
        recorded_at = codec.timestamp(self.ledger.at(outcome.first_position).recorded_at)
        return encode_unit(unit.writes, {"position": outcome.first_position, "recorded_at": recorded_at})

    def _restore(self, lines: Sequence[Line]) -> None:
        """Where and when each unit stood is in its line; which version its events have follows."""
        for line in lines:
            try:
                writes, extra = decode_unit(line.entry)
                place = self.ledger.record(writes, datetime.fromisoformat(str(extra.get("recorded_at"))))
            except (JournalDamaged, ValueError) as error:
                raise JournalDamaged(f"{self._journal.path}: line {line.seq + 1} holds no unit of a log") from error
            if place.first_position != extra.get("position"):
                raise JournalDamaged(f"{self._journal.path}: the unit in line {line.seq + 1} is not at its position")
        self.ledger.admit()
