"""Projector: carries the tables of all projections behind the log, one process at a time, by the lease ``projector``.

Exactly once: rows and checkpoint are one transaction, and a holder that was superseded moves no checkpoint. A holder
that is killed, frozen or cut off leaves the tables as of some position, from which the next one goes on.

A table that was never made is filled from the first event on; one of an older version of its fold is made anew, beside
(``make``), and so is one with a row that cannot be read; one of a later release is left alone. One of which Postgres
refuses a row is set aside: the others go on, and it stays where it is until it was rebuilt or another holder tries. A
table whose checkpoint is not in the log any more stops the projector for good, until the fork was accepted.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

from events import codec
from events.catalogue import LogForkAccepted
from events.envelope import SYSTEM, Fence
from events.errors import LogForked, StoreUnavailable
from events.lease import TTL_SECONDS, Leases
from events.mark import verify
from events.registry import tags
from events.store import EventStore
from projections.checkpoint import Checkpoint, standing
from projections.errors import RowRefused, Superseded, UnreadableState
from projections.follower import Follower, Tell
from projections.table import Table
from projections.table_store import TableStore
from projections.tables import TABLES

LEASE: Final = "projector"
POLL_SECONDS: Final = 0.5
RENEW_SECONDS: Final = TTL_SECONDS / 4
MAKE_SECONDS: Final = 1.0  # until the tables that could not be made are tried again; each time twice as long, up to
MAKE_MOST_SECONDS: Final = 60.0
ASIDE_SECONDS: Final = 30.0  # between two looks whether a table that was set aside was rebuilt
Make = Callable[[Table[Any]], Awaitable[bool]]
"""Makes a table anew whose rows are of an older version or of another past, while the others go on: a rebuild.
False when it cannot be made now."""
log = logging.getLogger("session_gateway.projector")


class Projector:
    """``run_once`` is called again and again by its worker (``gateway/lifespan.py``)."""

    def __init__(
        self,
        store: EventStore,
        rows: TableStore,
        leases: Leases,
        holder: str,
        *,
        tables: Sequence[Table[Any]] = TABLES,
        make: Make | None = None,
        tell: Tell | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``make``: None empties the table and folds the log into it from its beginning. ``tell``: as a Follower's."""
        self._store = store
        self._rows = rows
        self._leases = leases
        self._holder = holder
        self._tables = tuple(tables)
        self._make = make
        self._tell = tell
        self._clock = clock
        self._epoch: int | None = None  # while the lease is ours
        self._renewed = float("-inf")
        self._followers: list[Follower] | None = None  # None: to begin from what the tables say
        self._making: asyncio.Task[None] | None = None
        self._anew: dict[str, Table[Any]] = {}  # what it is to make, also what was found since it began
        self._ending: set[asyncio.Task[None]] = set()  # makings that were given up and have leases to give back
        self._told: set[tuple[str, int]] = set()  # tables of a later release, once each
        self._condemned: set[str] = set()  # tables that had to be made anew: once in a process
        self._aside: dict[str, Checkpoint | None] = {}  # tables that cannot be written, and where they are
        self._looked = float("-inf")  # when it was last asked whether they still are there
        self.forked: LogForked | None = None

    @property
    def positions(self) -> Mapping[str, int]:
        """How far each table holds the log, as its holder knows; empty in the other processes."""
        followed = {table.name: each.position for each in self._followers or () for table in each.tables}
        return {name: each.position if each else 0 for name, each in self._aside.items()} | followed

    async def run_once(self) -> None:
        """Carry the tables to the head, when the lease is ours or can be had. Raises StoreUnavailable."""
        if self.forked is not None:
            return
        try:
            while (epoch := await self._hold()) is not None and await self._round(Fence(LEASE, epoch)):
                pass
        except Superseded as late:
            log.info("%s: beginning anew", late, extra={"operation": "projector"})
            self._drop()
            self._renewed = float("-inf")
        except LogForked as forked:
            await self._stop(forked)
        except BaseException:
            self._drop()
            raise

    async def close(self) -> None:
        """Give the lease back, so that another process goes on at once."""
        held, self._epoch = self._epoch, None
        self._drop()
        await _ended(self._ending)  # its transaction has ended when the lease goes to another
        if held is not None:
            try:
                await self._leases.release(LEASE, self._holder)
            except StoreUnavailable as away:
                log.info("the lease of the projector runs out by itself: %s", away)

    async def _hold(self) -> int | None:
        """Our epoch; None while another process is the holder. Asks only now and then while it is known."""
        if self._epoch is not None and self._clock() < self._renewed + RENEW_SECONDS:
            return self._epoch
        began = self._clock()
        epoch = await self._leases.claim(LEASE, self._holder)
        if epoch != self._epoch:
            self._drop()
            self._epoch = None
            self._aside.clear()
            if epoch is not None and (epoch := await self._above(epoch)) is not None:
                await self._rows.claim(epoch)
                log.info("the tables are carried on by this process", extra={"operation": "projector"})
        self._epoch, self._renewed = epoch, began
        return epoch

    async def _above(self, epoch: int) -> int | None:
        raised = await self._rows.raise_epoch(Fence(LEASE, epoch), self._holder)
        if raised is not None and raised != epoch:
            log.warning(
                "the lease of the projector was deleted or set back: it goes on with epoch %d instead of %d",
                *(raised, epoch),
                extra={"operation": "projector"},
            )
        return raised

    async def _round(self, fence: Fence) -> bool:
        """One page for each follower; whether there is more to do at once."""
        if self._making is not None and self._making.done():
            making, self._making, self._followers = self._making, None, None
            making.result()
        if self._aside and self._clock() >= self._looked + ASIDE_SECONDS:
            await self._look()
        if self._followers is None:
            self._followers = await self._begin(fence)
        more = [await self._step(follower, fence) for follower in self._followers]
        self._followers = _joined(self._followers) if None not in more else None
        return any(one is not False for one in more)

    async def _step(self, follower: Follower, fence: Fence) -> bool | None:
        """Whether there is more to do; None when one of its tables cannot be gone on with, and all begin anew."""
        try:
            return await follower.step(fence)
        except (UnreadableState, RowRefused) as broken:
            anew = isinstance(broken, UnreadableState) and broken.table not in self._condemned
            log.error(
                "%s: %s (`python -m gateway projections rebuild %s`)",
                broken,
                "it is made anew" if anew else "it is set aside, the others go on; mend it, rebuild it",
                broken.table,
                extra={"operation": "projector", "position": follower.position},
            )
            if anew:
                self._condemned.add(broken.table)
                await self._rows.condemn(broken.table, fence)
            else:
                self._aside[broken.table] = None  # asked for when all begin anew
                self._looked = self._clock()
            return None

    async def _look(self) -> None:
        """Take back the tables that were set aside and written since by somebody else: by a rebuild."""
        self._looked = self._clock()
        found = await self._rows.checkpoints()
        for name, left in tuple(self._aside.items()):
            if left is not None and left != found.get(name):
                del self._aside[name]
                self._followers = None
                log.info("the table %s was rebuilt: it is carried on again", name, extra={"operation": "projector"})

    async def _begin(self, fence: Fence) -> list[Follower]:
        tables = [table for table in self._tables if table.name not in self._aside]
        found = await self._rows.checkpoints()
        self._aside = {name: each or found.get(name) for name, each in self._aside.items()}
        stands = standing(tables, found)
        for checkpoint in stands.newer:
            self._tell_newer(checkpoint)
        fits, anew = list[Checkpoint](), list(stands.older)
        for checkpoint in stands.fits:
            if await self._holds(checkpoint):
                fits.append(checkpoint)
            else:
                anew.append(self._table(checkpoint.name))
        if anew and self._make is not None:
            self._make_anew(self._make, anew)
            anew = []
        fits += [await self._rows.begin(table, self._store.log_id, fence) for table in (*stands.unmade, *anew)]
        by_position: dict[int, list[Checkpoint]] = {}
        for checkpoint in fits:
            by_position.setdefault(checkpoint.position, []).append(checkpoint)
        return [
            Follower(self._store, self._rows, [self._table(each.name) for each in same], same, tell=self._tell)
            for same in by_position.values()
        ]

    def _make_anew(self, make: Make, tables: Sequence[Table[Any]]) -> None:
        if self._making is None:
            self._anew = {}
            making = _one_of(make, self._anew, after=tuple(self._ending))
            self._making = asyncio.create_task(making, name="projector-making")
        self._anew.update({table.name: table for table in tables})

    async def _holds(self, checkpoint: Checkpoint) -> bool:
        """Whether its event is in the log. False when it is not and the fork was accepted since; else LogForked."""
        try:
            await verify(self._store, checkpoint.marks())
        except LogForked:
            if not await self._accepted(checkpoint):
                raise
            return False
        return True

    async def _accepted(self, checkpoint: Checkpoint) -> bool:
        """A person has looked at the log since that event was recorded, and goes on with it as it is."""
        after, mark, wanted = 0, checkpoint.mark, tuple(tags(LogForkAccepted))
        while mark and (page := await self._store.read_log(after=after, types=wanted, stream_id=SYSTEM)):
            later = [codec.decode(event) for event in page if event.recorded_at > mark.recorded_at]
            if any(isinstance(each, LogForkAccepted) and each.same_until < mark.position for each in later):
                return True
            after = page[-1].position
        return False

    def _table(self, name: str) -> Table[Any]:
        return next(table for table in self._tables if table.name == name)

    def _tell_newer(self, checkpoint: Checkpoint) -> None:
        known = (checkpoint.name, checkpoint.version)
        if known not in self._told:
            self._told.add(known)
            log.warning(
                "the table %s is of version %d, a later release's: this one does not write it",
                *known,
                extra={"operation": "projector"},
            )

    async def _stop(self, forked: LogForked) -> None:
        log.critical(
            "%s. The tables stay as they are; when it is clear which database is right, accept the log"
            " (`python -m gateway log accept`) or make them anew (`python -m gateway projections rebuild --all`), and"
            " restart this process",
            forked,
            extra={"operation": "projector", "position": forked.differs_from},
        )
        await self.close()
        self.forked = forked

    def _drop(self) -> None:
        """Trust nothing that was kept in memory."""
        self._followers = None
        if self._making is not None:
            self._making.cancel()
            self._ending.add(self._making)
            self._making.add_done_callback(self._forget)
            self._making = None

    def _forget(self, ended: asyncio.Task[None]) -> None:
        self._ending.discard(ended)
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.info("a making that was given up: %s", error, extra={"operation": "projector"})


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tuple(tasks))


async def _one_of(make: Make, tables: Mapping[str, Table[Any]], after: Collection[asyncio.Task[None]]) -> None:
    """Make the first of them that can be made, which is carried on before the next is begun; one that cannot keeps
    none of the others, nor of those that come to them meanwhile.

    ``after``: makings that were given up. They give back leases of the same holder: these would be the new ones.
    """
    await _ended(after)
    pause = MAKE_SECONDS
    while True:
        for table in tuple(tables.values()):
            if await make(table):
                return
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAKE_MOST_SECONDS)


def _joined(followers: list[Follower]) -> list[Follower]:
    """Those that have come to the same position go on as one."""
    first: dict[int, Follower] = {}
    for follower in followers:
        if (known := first.setdefault(follower.position, follower)) is not follower:
            known.join(follower)
    return list(first.values())
