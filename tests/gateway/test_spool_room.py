"""The end of the spool is for ends: what anybody can cause any number of does not get there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from events.catalogue import AccessDenied, ExchangeCompleted, Payload, SessionStopRequested
from events.envelope import SYSTEM, container_stream, session_stream
from events.errors import StoreUnavailable
from events.fallback import FallbackEventStore
from events.keyring import MemoryKeyring
from gateway.recorder import Recorder
from gateway.spool_room import SHARE
from tests.event_fixtures import until
from tests.factories import payload
from tests.gateway.faulty import FaultyStore, spooled
from tests.gateway.world import ORIGIN

ROOM = 2**20  # bytes, of ``spooled``


class Filling:
    """A process whose log is away."""

    def __init__(self, store: FallbackEventStore) -> None:
        self.store = store
        self.recorder = Recorder(store, MemoryKeyring(), spool_bytes=ROOM)

    async def takes(self, stream_id: str, told: Payload) -> bool:
        try:
            await self.recorder.fact(stream_id, told, who=ORIGIN.who)
        except StoreUnavailable:
            return False
        return True

    async def denial(self) -> bool:
        return await self.takes(SYSTEM, payload(AccessDenied))

    async def fill(self, at_once: int) -> None:
        """With denials, until no more are taken."""
        while all(await asyncio.gather(*(self.denial() for _ in range(at_once)))):
            assert self.store.status.spooled_bytes <= ROOM


@asynccontextmanager
async def away(tmp_path: Path) -> AsyncIterator[Filling]:
    inner = FaultyStore()
    async with spooled(inner, tmp_path) as store:
        inner.away = True
        made = Filling(store)
        assert await made.denial() and not store.status.available
        yield made
        inner.away = False
    await inner.close()


async def test_strangers_leave_room_for_ends(tmp_path: Path) -> None:
    """However many come, and however many at once: a session can still be stopped."""
    async with away(tmp_path) as made:
        await made.fill(at_once=500)
        await made.fill(at_once=1)
        assert ROOM / 2 < made.store.status.spooled_bytes <= SHARE * ROOM
        assert not await made.takes(container_stream("c1"), payload(ExchangeCompleted))
        for _ in range(20):
            assert await made.takes(session_stream("s1"), payload(SessionStopRequested, session_id="s1"))


async def test_a_log_that_is_there_has_room_for_all(tmp_path: Path) -> None:
    async with away(tmp_path) as made:
        await made.fill(at_once=100)
        assert isinstance(made.store.inner, FaultyStore)
        made.store.inner.away = False
        await until(made.denial, 10.0)
