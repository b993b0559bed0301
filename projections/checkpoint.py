"""Checkpoint: how far a table holds the log, by which fold, and who may move it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from events.mark import Mark, Marks
from projections.table import Table


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``view.projection_checkpoint``. ``updated_at`` is the database's and another one after every write."""

    name: str
    version: int
    log_id: UUID
    position: int
    event_id: UUID | None
    recorded_at: datetime | None
    epoch: int
    updated_at: datetime

    @property
    def mark(self) -> Mark | None:
        """The last event that the table holds; None when it holds none."""
        if self.event_id is None or self.recorded_at is None:
            return None
        return Mark(self.position, self.event_id, self.recorded_at)

    def marks(self) -> Marks:
        """The place from which a reader goes on, and by which it notices a fork."""
        known = [] if self.mark is None else [self.mark]
        return Marks(self.log_id, known, after=self.position)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What this release can do with each table. A table in none of these is left to a later release."""

    fits: tuple[Checkpoint, ...]  # folded on
    unmade: tuple[Table[Any], ...]  # never made
    older: tuple[Table[Any], ...]  # by a fold of an older version: made anew
    newer: tuple[Checkpoint, ...]  # a later release's: left alone


def standing(tables: Sequence[Table[Any]], found: Mapping[str, Checkpoint]) -> Standing:
    """Compare what was found with the code's versions."""
    fits, unmade, older, newer = [], [], [], []
    for table in tables:
        checkpoint, version = found.get(table.name), table.projection.version
        if checkpoint is None:
            unmade.append(table)
        elif checkpoint.version < version:
            older.append(table)
        elif checkpoint.version > version:
            newer.append(checkpoint)
        else:
            fits.append(checkpoint)
    return Standing(fits=tuple(fits), unmade=tuple(unmade), older=tuple(older), newer=tuple(newer))
