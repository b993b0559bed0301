"""Spool: the disk queue of one process while the log is away, and how queued units are replayed into the log.

A unit that ``append`` returned from is on the disk; concurrent ones share one fdatasync. The file stands only while
something waits in it. When to spool and when to replay is in ``fallback``, files of dead processes are in ``takeover``.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from events.disk import make_directory
from events.envelope import ANY, Fence, StreamWrite
from events.errors import EventError, StoreClosed, StoreUnavailable
from events.journal import Journal
from events.journal_lines import UnitEntry, encode_unit
from events.store import Appended, Conflict, EventStore, Fenced, Mismatch

SUFFIX: Final = ".spool.jsonl"
BATCH_EVENTS: Final = 128  # replayed at once: what the writer of the log sends as one batch
_WRITTEN_AT_ONCE: Final = 256
_EVENT_BYTES: Final = 600  # an event's line without its payload and actor
Unit = tuple[StreamWrite, ...]
Reject = Callable[[Unit, str], Awaitable[None]]
"""Takes a unit that the log refuses, with the reason. It must not raise: what cannot be kept now is its own affair."""


def spoolable(writes: Sequence[StreamWrite], fence: Fence | None) -> bool:
    """Whether the unit is true in any order: not fenced, and no stream is expected to be at a version."""
    return fence is None and all(write.expected_version is ANY for write in writes)


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The disk queue of each process while Postgres is away."""

    spool_max_bytes: Annotated[
        int, Meta(ge=0, description="bytes of facts one process keeps on disk and in memory while Postgres is away")
    ] = 256 * 2**20


class _Waiting(msgspec.Struct, frozen=True):
    unit: Unit
    entry: UnitEntry
    weight: int
    written: "asyncio.Future[None]"


class Spool:
    """This process's file ``NAME.spool.jsonl``, 0600 and locked. For one event loop; nothing is made before it is
    needed. ``changed`` is called after ``pending`` grew or shrank."""

    def __init__(self, directory: Path, name: str, log_id: UUID, max_bytes: int) -> None:
        self.path = directory / f"{name}{SUFFIX}"
        self.dropped = 0  # writes that were pending once
        self.changed: Callable[[], None] = lambda: None
        self._log_id = log_id
        self._max_bytes = max_bytes
        self._journal: Journal | None = None
        self._units: deque[Unit] = deque()
        self._writes: deque[StreamWrite] = deque()
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._written = asyncio.Event()  # a batch, or refused
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes of the file; 0 while there is none."""
        return 0 if self._journal is None else self._journal.size

    @property
    def units(self) -> int:
        """How many units are durable here and not dropped."""
        return len(self._units)

    @property
    def busy(self) -> bool:
        """Whether a unit is on its way to the disk, its caller waiting or not."""
        return self._writing is not None

    def pending(self, after: int = 0) -> tuple[StreamWrite, ...]:
        """The writes of those units, oldest first, but the first ``after`` that were ever pending."""
        newest = self.dropped + len(self._writes) - max(after, self.dropped)
        return tuple(islice(reversed(self._writes), max(newest, 0)))[::-1]

    async def append(self, unit: Unit) -> None:
        """Make the unit durable. A caller that is cancelled leaves it in the queue.

        Raises StoreUnavailable, naming the file, when that has its full size or cannot be written: then nothing of
        the unit is left in it, unless it says otherwise. Raises StoreClosed.
        """
        if self._closed:
            raise StoreClosed(f"the spool {self.path} was closed")
        weight = sum(_EVENT_BYTES + len(event.payload) + len(event.actor) for write in unit for event in write.events)
        if self.size + self._queued_bytes + weight > self._max_bytes:
            raise StoreUnavailable(f"the log is away and its spool {self.path} is full at {self.size} bytes")
        waiting = _Waiting(unit, encode_unit(unit), weight, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._queued_bytes += weight
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_queue(), name="spool")
        await waiting.written

    def next_batch(self) -> list[Unit]:
        """The oldest units, as many as are replayed at once."""
        return first_batch(self._units)

    def drop(self, count: int) -> None:
        """Forget the oldest units: the log has them, or they were put aside. The file keeps them until ``empty``."""
        for _ in range(count):
            for _ in self._units.popleft():
                self._writes.popleft()
                self.dropped += 1
        self.changed()

    async def first(self) -> None:
        """Wait until a unit is durable here, or none is on its way."""
        while self.busy and not self._units:
            self._written.clear()
            await self._written.wait()

    async def settle(self) -> None:
        """Wait until what is on its way is on the disk, or refused."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def empty(self) -> None:
        """Delete the file. Only when nothing is pending, nothing on its way, and nobody let in.

        Raises OSError: a file that kept its name goes on being this spool's, and ``size`` says that it is there.
        """
        if self._journal is not None:
            try:
                await self._journal.remove()
            finally:
                if self._journal.closed:
                    self._journal = None

    async def close(self) -> None:
        """After what is being written. The file stays, unlocked, if there is one."""
        self._closed = True
        await self.settle()
        if self._journal is not None:
            await self._journal.close()

    async def _write_queue(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _WRITTEN_AT_ONCE))]
            try:
                await self._write(batch)
            except Exception as error:
                self._fail(batch, error)
            self._queued_bytes -= sum(waiting.weight for waiting in batch)
            self._written.set()
        self._writing = None
        self._written.set()

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        journal = self._journal or await self._open()
        await journal.write([waiting.entry for waiting in batch])
        for waiting in batch:
            self._units.append(waiting.unit)
            self._writes.extend(waiting.unit)
            if not waiting.written.done():  # else the caller left
                waiting.written.set_result(None)
        self.changed()

    def _fail(self, batch: Sequence[_Waiting], error: Exception) -> None:
        for waiting in batch:
            if not waiting.written.done():
                refusal = StoreUnavailable(f"the log is away and its spool {self.path} cannot be written: {error}")
                refusal.__cause__ = error
                waiting.written.set_exception(refusal)

    async def _open(self) -> Journal:
        await asyncio.to_thread(make_directory, self.path.parent)
        opened = await Journal.open(self.path, header={"log_id": str(self._log_id)})
        if opened.lines:
            await opened.journal.close()
            raise StoreUnavailable("a former process of this name left it, and it is not yet taken over")
        self._journal = opened.journal
        return opened.journal


class Replayed(msgspec.Struct, frozen=True):
    """How far a batch came."""

    units: int  # from the first on: in the log, or put aside
    rejected: int  # of these
    error: Exception | None  # why the next one did not come


def first_batch(units: Iterable[Unit]) -> list[Unit]:
    """The first units, as many as are replayed at once; one at least, if there is one."""
    batch: list[Unit] = []
    room = BATCH_EVENTS
    for unit in units:
        room -= sum(len(write.events) for write in unit)
        if batch and room < 0:
            break
        batch.append(unit)
    return batch


async def replay(into: EventStore, units: Sequence[Unit], reject: Reject) -> Replayed:
    """Append the units in order; what is in the log already counts as done, and what it refuses is given to ``reject``.

    ``into`` must take concurrent calls in their order and fail those behind a failure, as the stores of this room do.
    """
    outcomes = await asyncio.gather(*(into.append(*unit) for unit in units), return_exceptions=True)
    rejected = 0
    for done, (unit, outcome) in enumerate(zip(units, outcomes, strict=True)):
        match outcome:
            case Appended():
                continue
            case Mismatch() | Conflict() | Fenced():
                await reject(unit, str(outcome))
                rejected += 1
            case EventError() if not isinstance(outcome, StoreUnavailable | StoreClosed):
                await reject(unit, f"{type(outcome).__name__}: {outcome}")
                rejected += 1
            case Exception():
                return Replayed(done, rejected, outcome)
            case _:
                return Replayed(done, rejected, StoreUnavailable("the log ended before it answered"))
    return Replayed(len(units), rejected, None)
