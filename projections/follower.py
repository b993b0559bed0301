"""Follower: carries some tables on from one place of the log, a page at a time. Whoever holds the lease drives it.

A page is decoded once for all tables, folded by the same ``apply`` as every view, and written with the checkpoint in
one transaction. The states of touched keys are read from the table once and kept, up to a bound; after any failure
nothing kept is trusted, and the holder begins a new Follower from what the tables then say.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from events import codec
from events.catalogue import Payload
from events.envelope import Fence, RecordedEvent
from events.mark import Mark
from events.store import EventStore
from events.tail import read_on
from projections.checkpoint import Checkpoint
from projections.projection import apply
from projections.table import Table
from projections.table_store import Changes, TableStore

PAGE: Final = 125  # events, when there is little to do
MOST: Final = 1000  # of 100,000 events, 4000 at once take no less time and keep requests waiting 100 ms instead of 40
KEPT: Final = 10_000  # states a table that stay in memory between pages
SLICE: Final = 200  # events, after which requests of the same process get their turn


Tell = Callable[[RecordedEvent], Awaitable[None]]
"""Makes sure that somebody is told of an event that is passed over as unreadable. Raises StoreUnavailable."""


class Follower:
    """Tables at one position. Every method raises StoreUnavailable, LogForked, Superseded."""

    def __init__(
        self,
        store: EventStore,
        rows: TableStore,
        tables: Sequence[Table[Any]],
        checkpoints: Sequence[Checkpoint],
        *,
        tell: Tell | None = None,
    ) -> None:
        """``checkpoints``: one a table, all at the same position.

        ``tell``: of each event that cannot be read, before a checkpoint moves past it; None: others have told of them.
        """
        self._store = store
        self._rows = rows
        self._kept = [_Kept(table) for table in tables]
        self._seen = {checkpoint.name: checkpoint.updated_at for checkpoint in checkpoints}
        self._marks = checkpoints[0].marks()
        self._limit = PAGE
        self._tell = tell
        self._wanted = self._by_type()

    @property
    def position(self) -> int:
        return self._marks.position

    @property
    def tables(self) -> tuple[Table[Any], ...]:
        return tuple(kept.table for kept in self._kept)

    async def step(self, fence: Fence, *, until: int | None = None) -> bool:
        """Take the next page of the log into the tables; whether it was a full one. The further behind, the larger.

        ``until``: the last position to take; there is something before it.
        """
        limit = self._limit if until is None else min(self._limit, until - self.position)
        page = await read_on(self._store, self._marks, limit)
        if page:
            await self._take(page, fence)
        full = len(page) == self._limit
        self._limit = min(2 * self._limit, MOST) if full else PAGE
        return full

    async def _take(self, page: list[RecordedEvent], fence: Fence) -> None:
        work, touched = await self._sort(page)
        for kept, keys in zip(self._kept, touched, strict=True):
            await kept.load(self._rows, keys)
        before = [kept.of(keys) for kept, keys in zip(self._kept, touched, strict=True)]
        await self._fold(work)
        changes = [kept.changed(states) for kept, states in zip(self._kept, before, strict=True)]
        written = [change for change in changes if change.states]
        self._seen = await self._rows.write(written, self._seen, Mark.of(page[-1]), fence)
        for kept in self._kept:
            kept.forget()

    def join(self, other: "Follower") -> None:
        """Carry on its tables too; it is at the same position."""
        self._kept += other._kept
        self._seen |= other._seen
        self._wanted = self._by_type()

    def _by_type(self) -> dict[str, tuple[int, ...]]:
        tags = {tag for kept in self._kept for tag in kept.table.projection.types}
        return {
            tag: tuple(n for n, kept in enumerate(self._kept) if tag in kept.table.projection.types) for tag in tags
        }

    async def _sort(
        self, page: list[RecordedEvent]
    ) -> tuple[list[tuple[RecordedEvent, Payload, tuple[int, ...]]], list[dict[str, None]]]:
        """The events that concern any table, decoded, and the keys they touch in each."""
        work: list[tuple[RecordedEvent, Payload, tuple[int, ...]]] = []
        touched: list[dict[str, None]] = [{} for _ in self._kept]
        keys_of = [kept.table.projection.key for kept in self._kept]
        for number, event in enumerate(page, start=1):
            concerned = self._wanted.get(event.type, ())
            if concerned or self._tell is not None:
                payload = codec.decode(event)
                if isinstance(payload, codec.Unreadable) and self._tell is not None:
                    await self._tell(event)
                elif concerned and not isinstance(payload, codec.Unknown):
                    work.append((event, payload, concerned))
                    for which in concerned:
                        if (key := keys_of[which](payload)) is not None:
                            touched[which][key] = None
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return work, touched

    async def _fold(self, work: Sequence[tuple[RecordedEvent, Payload, tuple[int, ...]]]) -> None:
        folds = [(kept.table.projection, kept.states) for kept in self._kept]
        for number, (event, payload, concerned) in enumerate(work, start=1):
            for which in concerned:
                apply(*folds[which], event, payload)
            if number % SLICE == 0:
                await asyncio.sleep(0)


class _Kept:
    """States of one table in memory: written through, the least lately touched given up first."""

    def __init__(self, table: Table[Any]) -> None:
        self.table = table
        self.states: dict[str, Any] = {}
        self._known: dict[str, None] = {}  # keys whose state, or want of one, is known; the last touched last

    async def load(self, rows: TableStore, keys: Collection[str]) -> None:
        missing = [key for key in keys if key not in self._known]
        if missing:
            self.states |= await rows.load(self.table, missing)
        for key in keys:
            self._known.pop(key, None)
            self._known[key] = None

    def of(self, keys: Collection[str]) -> dict[str, Any]:
        return {key: self.states.get(key) for key in keys}

    def changed(self, before: dict[str, Any]) -> Changes:
        """An ``evolve`` that changes nothing gives back the very state it was given."""
        now = self.states.get
        states = {key: now(key) for key, state in before.items() if now(key) is not state}
        return Changes(self.table, states, frozenset(key for key in states if before[key] is None))

    def forget(self) -> None:
        for key in list(self._known)[: max(0, len(self._known) - KEPT)]:
            del self._known[key]
            self.states.pop(key, None)
