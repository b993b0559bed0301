"""Snapshot: the states of projections as their tables hold them, for a process that starts.

Nothing is taken from a table whose checkpoint is of another version of its fold or of an event
that the log does not hold there, or whose rows cannot be read. Then there is no snapshot, and who starts folds the log
from its first event, as without tables. Rows themselves are believed until the next proof of their table, but for API
keys: they are folded from their stream, whatever a table says of them.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from events.envelope import KEYS
from events.errors import LogForked, StoreUnavailable
from events.mark import Mark, Marks, verify
from events.store import EventStore
from events.tail import read_on
from projections.checkpoint import Checkpoint, standing
from projections.errors import UnreadableState
from projections.projection import fold
from projections.table import Table
from projections.table_store import TableStore
from projections.tables import API_KEYS

REMEMBERED: Final = 256  # marks before the place, by which a fork of the log is told more exactly
PAGE: Final = 2000
# Who may write the tables could else let himself in at the next start, without an event that tells of it.
_STREAMS: Final = {API_KEYS.name: KEYS}
log = logging.getLogger("session_gateway.snapshot")


class Snapshot(msgspec.Struct, frozen=True):
    """States by projection and key, all as of the place in the log that ``marks`` end at."""

    marks: Marks
    states: Mapping[str, dict[str, Any]]


class _Unfit(Exception):
    """Why the tables cannot be gone on from. Half a sentence."""


class _Unmade(_Unfit):
    """Nothing is wrong with them: the projector has not made them yet, or not in this release's way."""


async def take(store: EventStore, rows: TableStore, tables: Sequence[Table[Any]]) -> Snapshot | None:
    """All of ``tables`` as of one position; None, and a line in the log, when something does not fit."""
    try:
        found, states = await _read(rows, tables)
        for checkpoint in found:
            await verify(store, checkpoint.marks())
        last = max(found, key=lambda checkpoint: checkpoint.position)
        for table, checkpoint in zip(tables, found, strict=True):
            if table.name in _STREAMS:
                states[table.name] = await _of_stream(store, table, last.position)
            else:
                await _carry(store, table, checkpoint, states[table.name], last.position)
        return Snapshot(await _remember(store, last), states)
    except _Unmade as unmade:
        log.info("starting from the first event of the log: %s", unmade, extra={"operation": "snapshot"})
    except (_Unfit, LogForked, StoreUnavailable, UnreadableState) as unfit:
        log.warning("starting from the first event of the log: %s", unfit, extra={"operation": "snapshot"})
    return None


async def _read(rows: TableStore, tables: Sequence[Table[Any]]) -> tuple[list[Checkpoint], dict[str, dict[str, Any]]]:
    async with rows.snapshot(tables) as then:
        found = {checkpoint.name: checkpoint for checkpoint in standing(tables, await then.checkpoints()).fits}
        if missing := [table.name for table in tables if table.name not in found]:
            raise _Unmade(f"no table of this release's version holds {', '.join(missing)}")
        if all(checkpoint.mark is None for checkpoint in found.values()):
            raise _Unmade("the tables hold no event yet")
        rows_of = [table for table in tables if table.name not in _STREAMS]
        states = {table.name: {key: state async for key, state in then.states(table)} for table in rows_of}
    return [found[table.name] for table in tables], states


async def _of_stream(store: EventStore, table: Table[Any], to: int) -> dict[str, Any]:
    """The fold of the only stream that concerns this table, up to position ``to``."""
    states, after = dict[str, Any](), 0
    while page := await store.read_stream(_STREAMS[table.name], after=after, limit=PAGE):
        fold(table.projection, states, [event for event in page if event.position <= to])
        if len(page) < PAGE or page[-1].position >= to:
            break
        after = page[-1].version
    return states


async def _carry(store: EventStore, table: Table[Any], checkpoint: Checkpoint, states: dict[str, Any], to: int) -> None:
    """Fold what a table lacks that another one has."""
    marks = checkpoint.marks()
    while marks.position < to:
        page = await read_on(store, marks, min(PAGE, to - marks.position))
        if not page:
            raise _Unfit(f"the log ends before position {to}")
        fold(table.projection, states, page)


async def _remember(store: EventStore, last: Checkpoint) -> Marks:
    after = max(0, last.position - REMEMBERED)
    marks = Marks(store.log_id, after=after)
    for event in await store.read_log(after=after, limit=last.position - after):
        marks.add(Mark.of(event))
    if marks.last != last.mark:
        raise _Unfit(f"the log holds another event at position {last.position} than the tables")
    return marks
