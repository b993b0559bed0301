"""A log in memory that can be told to be away, or to hold back what is appended to it; with a spool or without."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from events.envelope import Fence, RecordedEvent, StreamWrite
from events.errors import StoreUnavailable
from events.fallback import FallbackEventStore
from events.filter import EventFilter, Found
from events.keyring import Keyring, MemoryKeyring
from events.lease import MemoryLeases
from events.memory import MemoryEventStore
from events.schema import Applied
from events.sealing import SubjectKey
from events.store import EventStore, Head, Outcome, Spooled
from gateway.settings import Settings
from gateway.storage import Report, Storage


class FaultyStore(MemoryEventStore):
    """``away``: nothing is answered, but what ``spool_room`` has room for. ``held``: appends of this type wait until
    ``release`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.lost_answers = 0  # so many appends are written, and then told as failed
        self.refused = 0
        self.spool_room = 0  # units
        self.spooled: list[tuple[StreamWrite, ...]] = []
        self.held: str | None = None
        self.holding = asyncio.Event()
        self.release = asyncio.Event()

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        if self.away and len(self.spooled) < self.spool_room:
            self.spooled.append(writes)
            return Spooled()
        self._reach()
        if self.held in {event.type for write in writes for event in write.events}:
            self.holding.set()
            await self.release.wait()
        outcome = await super().append(*writes, fence=fence)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable("the answer was lost")
        return outcome

    async def come_back(self) -> None:
        """The log is there again, and takes what was spooled, in its order."""
        self.away = False
        for writes in self.spooled:
            await super().append(*writes)
        self.spooled.clear()

    async def head(self) -> Head:
        self._reach()
        return await super().head()

    async def read_log(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), stream_id: str | None = None
    ) -> list[RecordedEvent]:
        self._reach()
        return await super().read_log(after=after, limit=limit, types=types, stream_id=stream_id)

    async def search(self, wanted: EventFilter, *, after: int = 0, until: int | None = None, limit: int = 100) -> Found:
        self._reach()
        return await super().search(wanted, after=after, until=until, limit=limit)

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        self._reach()
        return await super().find(event_id)

    def _reach(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("the log is away")


class FarKeyring:
    """One process's Keyring, whose keys lie where the log lies: what is not cached is out of reach while ``away``."""

    def __init__(self, far: Keyring, away: Callable[[], bool]) -> None:
        self._far, self._away = far, away
        self._subjects: dict[str, SubjectKey] = {}
        self._ids: dict[str, SubjectKey | None] = {}

    async def key_for(self, subject: str) -> SubjectKey:
        if subject not in self._subjects:
            self._reach()
            key = self._subjects[subject] = await self._far.key_for(subject)
            self._ids[key.id] = key
        return self._subjects[subject]

    async def key_of(self, subject: str) -> SubjectKey | None:
        if subject in self._subjects:
            return self._subjects[subject]
        self._reach()
        key = await self._far.key_of(subject)
        if key is not None:
            self._subjects[subject] = self._ids[key.id] = key
        return key

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        wanted = set(ids)
        if missing := wanted - self._ids.keys():
            self._reach()
            self._ids.update(await self._far.keys(missing))
        return {key_id: key for key_id in wanted if (key := self._ids.get(key_id)) is not None}

    def known(self, ids: Iterable[str]) -> dict[str, SubjectKey | None]:
        return {key_id: self._ids[key_id] for key_id in set(ids) & self._ids.keys()}

    async def erase(self, subject: str) -> tuple[str, ...]:
        self._reach()
        gone = await self._far.erase(subject)
        self.forget(gone)
        return gone

    def forget(self, ids: Iterable[str]) -> None:
        gone = set(ids)
        self._ids.update(dict.fromkeys(gone))
        self._subjects = {subject: key for subject, key in self._subjects.items() if key.id not in gone}

    def start_anew(self) -> None:
        """As the keyring of a process that has fetched nothing yet."""
        self._subjects, self._ids = {}, {}

    def _reach(self) -> None:
        if self._away():
            raise StoreUnavailable("the subject keys are where the log is, and that is away")


@contextlib.asynccontextmanager
async def faulty_log(settings: Settings, report: Report) -> AsyncIterator[Storage]:
    """For ``start_gateway(log_of=...)``; the store is ``gateway.services.store``."""
    store = FaultyStore()
    yield Storage(
        store=store, keyring=MemoryKeyring(), leases=MemoryLeases(store), label="memory", schema=Applied((), False)
    )
    store.away = False
    await store.close()


@contextlib.asynccontextmanager
async def spooled(store: EventStore, directory: Path) -> AsyncIterator[FallbackEventStore]:
    """``store`` with a spool in ``directory``, as a gateway has it."""
    made = await FallbackEventStore.open(store, directory, name="test", max_bytes=2**20)
    try:
        yield made
    finally:
        await made.close()


@contextlib.asynccontextmanager
async def spooling_log(settings: Settings, report: Report) -> AsyncIterator[Storage]:
    """As ``faulty_log``, with a spool: ``faulty(gateway.services.store)`` is what can be told to be away."""
    async with faulty_log(settings, report) as storage, spooled(storage.store, settings.data_dir / "spool") as store:
        keyring = FarKeyring(storage.keyring, lambda: faulty(store).away)
        yield msgspec.structs.replace(storage, store=store, keyring=keyring)
        faulty(store).away = False


def faulty(store: EventStore) -> FaultyStore:
    """The store that can be told to be away, behind a spool or not."""
    inner = store.inner if isinstance(store, FallbackEventStore) else store
    assert isinstance(inner, FaultyStore)
    return inner
