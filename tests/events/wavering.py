"""A log in memory that is away, slow, full or forgetful when told to be, and a spool around it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

from events.envelope import Fence, RecordedEvent, StreamWrite
from events.errors import BadEvent, StoreUnavailable
from events.fallback import FallbackEventStore
from events.memory import MemoryEventStore
from events.spool import SUFFIX
from events.store import Head, Outcome, Spooled, StoreStatus
from tests.factories import new_stream, write

MEGABYTE = 2**20
AT_ONCE = 0.25  # seconds: far below any time-out of a store


class WaveringStore(MemoryEventStore):
    """``away``: nothing is answered. ``full``: reads are, appends are not. ``open`` cleared: every call waits."""

    def __init__(self, *, log_id: UUID | None = None) -> None:
        super().__init__(log_id=log_id)
        self.away = False
        self.full = False
        self.lost_answers = 0  # so many appends are written, and then told as failed
        self.poison: set[str] = set()  # streams whose events are refused
        self.appends = 0
        self.reads = 0
        self.open = asyncio.Event()
        self.open.set()
        self.takes = asyncio.Event()  # cleared: appends wait, reads do not
        self.takes.set()
        self._turn = asyncio.Lock()

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        """In turn, as the writer of Postgres does: a wait does not let a later call pass."""
        self.appends += 1
        async with self._turn:
            await self.open.wait()
            await self.takes.wait()
            if self.away or self.full:
                raise StoreUnavailable("the log is away, says the test")
            if self.poison & {write.stream_id for write in writes}:
                raise BadEvent("poison")
            outcome = await super().append(*writes, fence=fence)
            await asyncio.sleep(0)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable("the answer was lost")
        return outcome

    async def head(self) -> Head:
        await self._reach()
        return await super().head()

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        await self._reach()
        return await super().read_stream(stream_id, after=after, limit=limit, backwards=backwards)

    async def _reach(self) -> None:
        self.reads += 1
        await self.open.wait()
        if self.away:
            raise StoreUnavailable("the log is away, says the test")


class Changes:
    """What ``on_change`` told, and a way to wait for it."""

    def __init__(self, store: FallbackEventStore) -> None:
        self.told: list[StoreStatus] = []
        self._told = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        store.on_change(self._take)

    def _take(self, status: StoreStatus) -> None:
        self.told.append(status)
        task = asyncio.create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._told:
            self._told.notify_all()

    async def until(self, available: bool) -> StoreStatus:
        """The last status once it is so; TimeoutError after 20 seconds."""
        async with asyncio.timeout(20), self._told:
            await self._told.wait_for(lambda: bool(self.told) and self.told[-1].available is available)
        return self.told[-1]


@contextlib.asynccontextmanager
async def spooling(
    inner: MemoryEventStore, directory: Path, *, name: str = "gw-1", max_bytes: int = 16 * MEGABYTE
) -> AsyncIterator[FallbackEventStore]:
    """A store on ``inner`` with its spool in ``directory``, closed afterwards."""
    store = await FallbackEventStore.open(inner, directory, name=name, max_bytes=max_bytes)
    try:
        yield store
    finally:
        await store.close()


def order_of(log: Sequence[RecordedEvent], stream_id: str) -> list[str]:
    """The ids of one stream's events as they stand in the log."""
    return [str(event.event_id) for event in log if event.stream_id == stream_id]


def files(directory: Path, suffix: str = SUFFIX) -> list[Path]:
    """The files of one kind, spools unless another one is named; all of them for an empty ``suffix``."""
    return sorted(directory.glob(f"*{suffix}"))


async def go_away(store: FallbackEventStore, inner: WaveringStore) -> StreamWrite:
    """From here on the log is away, and the store knows, since it spooled this."""
    inner.away = True
    first = write(new_stream())
    assert await store.append(first) == Spooled()
    assert not store.status.available
    return first


async def refused(store: FallbackEventStore) -> bool:
    """Whether a read is refused, or hangs."""
    try:
        async with asyncio.timeout(AT_ONCE):
            await store.read_stream("session-a")
    except (StoreUnavailable, TimeoutError):
        return True
    return False


async def gone(file: Path) -> bool:
    """Whether a spool was deleted."""
    return file not in files(file.parent)


async def stay_open() -> None:
    """Instead of closing a log that is read afterwards."""
