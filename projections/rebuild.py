"""Rebuild: makes the table of a projection anew from the log, while it is in use, and proves the former one by it.

It is built beside (``view.NAME_next``), a page of the log and its place in one transaction, so that it goes on where it
was interrupted. Then both are compared row by row in a snapshot, while the projector goes on. At the end, in one
transaction, it stands still: both come to the same position, what was touched since is compared again, and the new one
takes the name. Whoever reads sees one or the other, whole.

One process at a time builds a table: the lease ``rebuild-NAME``. What came of it is told by whoever may append.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from events.catalogue import ProjectionRebuilt
from events.dialling import Connection, Pool
from events.envelope import Fence
from events.errors import LogForked
from events.ids import uuid7
from events.lease import Leases
from events.mark import verify
from events.store import EventStore
from projections.checkpoint import Checkpoint
from projections.comparison import SUFFIX, Compared
from projections.errors import (
    ProjectionBehind,
    RebuildRefused,
    RowRefused,
    Superseded,
    TableHeld,
    UnderWay,
    UnreadableState,
)
from projections.follower import Follower
from projections.holding import holding
from projections.rebuild_store import Held, Rebuilding, RebuildStore
from projections.table import Table

LEASE: Final = "rebuild-"
NEAR: Final = 1000  # events that are left for the exchange, during which the projector waits
PATIENCE_SECONDS: Final = 900.0  # with whoever reads the former table in one long transaction
MAKE_PATIENCE_SECONDS: Final = 10.0  # the same, while the projector has other tables to make
_PAUSES: Final = (0.2, 1.0, 5.0)
log = logging.getLogger("session_gateway.rebuild")
Step = Literal["begun", "resumed", "folded", "caught_up", "compared", "waiting", "swapped", "told"]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rebuild is: ``position`` of ``goal``."""

    name: str
    step: Step
    position: int
    goal: int


Tell = Callable[[UUID, ProjectionRebuilt], Awaitable[None]]
"""Appends what came of a rebuild, under this event id; called again with the same id after a crash."""
Watch = Callable[[Progress], None]


class _Restart(Exception):
    """What was built does not lead to the table in use any more."""


class Rebuilder:
    """Rebuilds tables, for one ``holder`` of leases."""

    def __init__(
        self,
        store: EventStore,
        pool: Pool,
        leases: Leases,
        *,
        holder: str,
        tell: Tell,
        near: int = NEAR,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.store, self.pool, self.tell = store, pool, tell
        self.near, self.patience_seconds = near, patience_seconds
        self._leases, self._holder = leases, holder
        self._said: dict[str, str] = {}  # why a table could not be made, by its name

    async def rebuild(
        self,
        table: Table[Any],
        *,
        reason: str = "asked",
        watch: Watch = lambda progress: None,
        patience_seconds: float | None = None,
    ) -> ProjectionRebuilt:
        """Make the table anew up to the position of the one in use; what was told of it.

        ``patience_seconds``: another than the rebuilder's. Interrupted anywhere, the next call goes on.

        Raises UnderWay, WouldLose, TableHeld and other RebuildRefused, Superseded when the lease was lost, RowRefused,
        UnreadableState, StoreUnavailable, LogForked.
        """
        async with holding(self._leases, LEASE + table.name, self._holder) as fence:
            if fence is None:
                raise await RebuildStore(self.pool, table).under_way(LEASE + table.name)
            await self.tell_former(table)
            patience = self.patience_seconds if patience_seconds is None else patience_seconds
            return await (await _Rebuild.begin(self, table, fence, reason, watch)).run(patience)

    async def make(self, table: Table[Any]) -> bool:
        """Rebuild a table that is of an older version or of another log, for the projector, unless somebody else did;
        False when it could not be now: others are at it, or a person is needed, which is told once.

        Raises Superseded, StoreUnavailable, LogForked.
        """
        if await self._fits(table):
            return True
        try:
            await self.rebuild(table, reason="version", patience_seconds=MAKE_PATIENCE_SECONDS)
        except UnderWay:
            return False
        except (RebuildRefused, RowRefused, UnreadableState) as refused:
            if (said := str(refused)) != self._said.get(table.name):
                self._said[table.name] = said
                log.warning("a table stays as it is: %s", said, extra={"operation": "rebuild"})
            return False
        return True

    async def _fits(self, table: Table[Any]) -> bool:
        found = (await RebuildStore(self.pool, table).checkpoints()).get(table.name)
        return found is not None and found.version >= table.projection.version and await holds(self.store, found)

    async def abandon(self, table: Table[Any]) -> bool:
        """Drop what an interrupted rebuild has built; False when there is none. Raises UnderWay, StoreUnavailable."""
        async with holding(self._leases, LEASE + table.name, self._holder) as fence:
            if fence is None:
                raise await RebuildStore(self.pool, table).under_way(LEASE + table.name)
            return await RebuildStore(self.pool, table).drop()

    async def tell_former(self, table: Table[Any]) -> bool:
        """Tell what a process did that died before it could say so; False when there is no such thing."""
        rows = RebuildStore(self.pool, table)
        found = await rows.found()
        if found is None or found.told_id is None or found.told is None:
            return False
        await self.tell(found.told_id, msgspec.json.decode(found.told, type=ProjectionRebuilt))
        await rows.forget(found.told_id)
        return True


class _Rebuild:
    """One run. ``follows``: the table in use has a place in this log; ``head``: of the log, when the run began."""

    def __init__(
        self,
        of: Rebuilder,
        table: Table[Any],
        fence: Fence,
        watch: Watch,
        *,
        rows: RebuildStore,
        row: Rebuilding,
        follows: bool,
        head: int,
    ) -> None:
        self._of, self._table, self._fence, self._watch, self._rows = of, table, fence, watch, rows
        self._row, self._follows, self._head = row, follows, head
        self._follower = self._from(row)
        self._analysed = False

    @classmethod
    async def begin(cls, of: Rebuilder, table: Table[Any], fence: Fence, reason: str, watch: Watch) -> "_Rebuild":
        """Go on where another was interrupted, or from the first event. Raises RebuildRefused."""
        store, rows = of.store, RebuildStore(of.pool, table)
        await rows.check()
        former = (await rows.checkpoints()).get(table.name)
        _refuse_later(table, former)
        follows = former is not None and await holds(store, former)
        head = (await store.head()).position
        found = await rows.found()
        resumes = found is not None and await _goes_on(store, rows, found, table.projection.version)
        row = found if found is not None and resumes else await rows.start(store.log_id, reason, fence)
        made = cls(of, table, fence, watch, rows=rows, row=row, follows=follows, head=head)
        made._tell("resumed" if resumes else "begun")
        return made

    async def run(self, patience_seconds: float) -> ProjectionRebuilt:
        deadline = time.monotonic() + patience_seconds
        pauses = itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1]))
        while True:
            try:
                await self._approach()
                if not self._rows.comparison.made:
                    await self._compare()
                    await self._near()
                return await self._finish()
            except _Restart:
                await self._anew()
            except Held:
                if time.monotonic() > deadline:
                    raise TableHeld(self._table.name, await self._rows.holders()) from None
                self._tell("waiting")
                await asyncio.sleep(next(pauses))
                if self._rows.comparison.far:
                    self._rows.comparison.forget()
                await self._reload()

    def _from(self, row: Rebuilding) -> Follower:
        return Follower(self._of.store, self._rows, [self._table], [row.checkpoint])

    async def _reload(self) -> None:
        """After a transaction that was rolled back: nothing that is in memory is trusted."""
        row = await self._rows.found()
        if row is None:
            await self._anew()
        elif row.started_at != self._row.started_at:
            raise Superseded(row.name + SUFFIX)
        else:
            self._row, self._follower = row, self._from(row)

    async def _anew(self) -> None:
        self._rows.comparison.forget()
        self._row = await self._rows.start(self._of.store.log_id, self._row.reason, self._fence)
        self._follower, self._analysed = self._from(self._row), False
        self._tell("begun")

    async def _approach(self) -> None:
        """Fold until little is left; the planner gets its figures before anything is compared."""
        self._tell("caught_up", await self._near())
        if not self._analysed:
            await self._rows.analyze()
            self._analysed = True

    async def _near(self) -> int:
        while (goal := await self._goal()) - self._position > self._of.near:
            await self._step(goal)
            self._tell("folded", goal)
        return goal

    async def _compare(self) -> None:
        """Bring the new table to where a snapshot has the one in use, and compare all of both in it.

        The states in memory are given up: what is touched from here on is read again, and noted.
        """
        rows = self._rows
        async with rows.exchanging("repeatable_read") as connection:
            await rows.stand(connection, self._fence)
            former = await rows.place(connection)
            await self._fold(connection, self._aim(former))
            await rows.comparison.all(connection, former)
        await self._reload()

    async def _fold(self, connection: Connection, goal: int) -> None:
        with self._rows.within(connection):
            while self._position < goal:
                await self._step(goal)

    async def _step(self, until: int) -> None:
        before = self._position
        await self._follower.step(self._fence, until=until)
        if self._position == before:
            raise ProjectionBehind(until, before)

    async def _goal(self) -> int:
        """The position of the table in use; the head, when it has none in this log."""
        checkpoint = (await self._rows.checkpoints()).get(self._table.name)
        _refuse_later(self._table, checkpoint)
        return self._aim(checkpoint)

    def _aim(self, checkpoint: Checkpoint | None) -> int:
        if checkpoint is None or not self._follows:
            return max(self._head, self._position)
        if checkpoint.position < self._position:
            raise _Restart  # the one in use is being made anew itself
        return checkpoint.position

    async def _finish(self) -> ProjectionRebuilt:
        rows, told_id = self._rows, uuid7()
        async with rows.exchanging() as connection:
            await rows.stand(connection, self._fence)
            await rows.ask_for_lock(connection)
            former = await rows.stop_projector(connection)
            goal = self._aim(former)
            await self._fold(connection, goal)
            compared = await rows.comparison.at_last(connection, former, follows=self._follows)
            self._tell("compared", goal)
            done = self._done(compared)
            await rows.exchange(connection, compared, told_id, msgspec.json.encode(done))
        self._tell("swapped", goal)
        await self._of.tell(told_id, done)
        await rows.forget(told_id)
        self._tell("told", goal)
        return done

    def _done(self, compared: Compared) -> ProjectionRebuilt:
        lasted = datetime.now(UTC) - self._row.started_at
        return ProjectionRebuilt(
            projection=self._table.name,
            version=self._table.projection.version,
            position=self._position,
            rows=compared.rows,
            differing=compared.differing,
            reason=self._row.reason,
            duration_us=max(0, round(lasted.total_seconds() * 1_000_000)),
        )

    @property
    def _position(self) -> int:
        return self._follower.position

    def _tell(self, step: Step, goal: int | None = None) -> None:
        self._watch(Progress(name=self._table.name, step=step, position=self._position, goal=goal or self._head))


def _refuse_later(table: Table[Any], checkpoint: Checkpoint | None) -> None:
    if checkpoint is not None and checkpoint.version > table.projection.version:
        raise RebuildRefused(
            f"The table of {table.name} is of version {checkpoint.version}, made by a later release; this one folds"
            f" version {table.projection.version} and leaves it alone."
        )


async def _goes_on(store: EventStore, rows: RebuildStore, found: Rebuilding, version: int) -> bool:
    """Whether what was built is of this fold and log, made as the table in use is, and where this log has been."""
    same = (found.version, found.log_id) == (version, store.log_id)
    return same and await rows.fits() and await holds(store, found.checkpoint)


async def holds(store: EventStore, checkpoint: Checkpoint) -> bool:
    """Whether the log still has the event that a table was last moved to. Raises StoreUnavailable."""
    try:
        await verify(store, checkpoint.marks())
    except LogForked:
        return False
    return True
