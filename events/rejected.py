"""Rejected: what the log refused of the units of one spool, kept beside it as ``NAME.rejected.jsonl`` for a person.

A unit was acknowledged when it was spooled, so it stays in the spool's file until it is in this one. A disk that takes
nothing here says nothing of the log: the unit is held, and ``settle`` tries again.
"""

import logging
from pathlib import Path
from typing import Final
from uuid import UUID

from events.errors import EventError, JournalFull
from events.journal import Journal
from events.journal_lines import decode_unit, encode_unit
from events.spool import SUFFIX, Unit

REJECTED: Final = ".rejected.jsonl"
_NAMES: Final = 10  # of files that cannot be used, as a damaged one, before a person must come
log = logging.getLogger("session_gateway.spool")


class Rejected:
    """For one spool. The file is open, and locked, from the first unit until ``close``."""

    def __init__(self, spool: Path, log_id: UUID) -> None:
        self._spool = spool
        self._log_id = log_id
        self._journal: Journal | None = None
        self._kept: set[Unit] = set()  # what stands in the open file: a replay that begins anew refuses the same units
        self._held: dict[Unit, str] = {}
        self._written = 0
        self._complaint = ""

    @property
    def count(self) -> int:
        """Units that were put here, each once, held ones too; not those that an earlier process had put."""
        return self._written + len(self._held)

    async def put(self, unit: Unit, reason: str) -> None:
        """Keep the unit, once, and say so; held in memory while the disk does not take it."""
        self._held[unit] = reason
        if len(self._held) == 1:  # else those before it are still held
            await self.settle()

    async def settle(self) -> bool:
        """Whether every unit that was refused is in a file now: until then the spool's own must stay."""
        try:
            while self._held:
                unit, reason = next(iter(self._held.items()))
                await self._keep(unit, reason)
                del self._held[unit]
        except (EventError, OSError) as error:
            self._complain(error)
            return False
        return True

    async def close(self) -> None:
        """Give the file back."""
        journal, self._journal = self._journal, None
        self._kept = set()
        if journal is not None:
            await journal.close()

    async def _keep(self, unit: Unit, reason: str) -> None:
        journal = self._journal or await self._open()
        if unit in self._kept:
            return
        await journal.write([encode_unit(unit, {"reason": reason})])
        self._kept.add(unit)
        self._written += 1
        first = unit[0]
        log.error(
            "a spooled unit was refused by the log and is kept in %s: %s (%s on %s)",
            journal.path,
            reason,
            first.events[0].type,
            first.stream_id,
        )

    async def _open(self) -> Journal:
        """The first file of the name that can be used; one that cannot is left as it is, for a person."""
        stem = self._spool.name.removesuffix(SUFFIX)
        reasons: list[str] = []
        for name in (stem, *(f"{stem}.{nth}" for nth in range(2, _NAMES + 1))):
            try:
                return await self._open_one(self._spool.with_name(name + REJECTED))
            except JournalFull:
                raise  # no other file would help
            except (EventError, OSError) as error:
                reasons.append(str(error))
        raise JournalFull(f"no file beside {self._spool} can be used: {reasons[0]}")

    async def _open_one(self, path: Path) -> Journal:
        opened = await Journal.open(path, header={"log_id": str(self._log_id)})
        try:
            self._kept = {decode_unit(line.entry)[0] for line in opened.lines}
        except BaseException:
            await opened.journal.close()
            raise
        if opened.torn_bytes:
            log.warning("cut a torn end of %d bytes from %s: its unit is still in the spool", opened.torn_bytes, path)
        self._journal = opened.journal
        return opened.journal

    def _complain(self, error: Exception) -> None:
        """Once, not at each try."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.error("a unit that the log refused stays in %s, it cannot be put aside now: %s", self._spool, error)
