"""Exchange records while Postgres is away, over the real spool: what it takes, what waits, and what is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.catalogue import ExchangeClosed, ExchangeOpened, ExchangeSummarized
from events.codec import decode
from events.fallback import FallbackEventStore
from events.keyring import MemoryKeyring
from gateway.proxy.errors import Unrecorded
from gateway.proxy.exchanges import QUEUE, ExchangeLog
from gateway.proxy.settings import AccessSettings
from gateway.recorder import Recorder
from tests.event_fixtures import until
from tests.events.wavering import Changes, WaveringStore, go_away, spooling
from tests.gateway.proxy.recording import counted, exchange, result

ROOM = 64 * 1024  # bytes: some dozens of records
CAPACITY = 20
FULL_SECONDS = 2.0  # in which a record that has room is surely in the spool


class Use:
    """Exchanges through a log of them; how many there were, and how many were refused."""

    def __init__(self, exchanges: ExchangeLog) -> None:
        self._exchanges = exchanges
        self.happened = self.refused = 0

    async def once(self) -> None:
        self.happened, one = self.happened + 1, exchange()
        try:
            if self._exchanges.opens_before:
                await self._exchanges.begin(one)
        except Unrecorded:
            self.refused += 1
        else:
            self._exchanges.ended(one, result(1), 200, was_opened=self._exchanges.opens_before)


@contextlib.asynccontextmanager
async def writing(store: FallbackEventStore, settings: AccessSettings, capacity: int) -> AsyncIterator[ExchangeLog]:
    """An exchange log that writes into ``store`` meanwhile."""
    exchanges = ExchangeLog(Recorder(store, MemoryKeyring()), settings, capacity=capacity)
    task = asyncio.create_task(exchanges.run())
    try:
        yield exchanges
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("settings", [AccessSettings(), AccessSettings(access_durability="before")])
async def test_past_a_full_spool_nothing_vanishes(tmp_path: Path, settings: AccessSettings) -> None:
    """Spool, then queue, then sums; with ``before`` what finds no room is refused. All of it is told in the end."""
    inner = WaveringStore()
    async with spooling(inner, tmp_path, max_bytes=ROOM) as store, writing(store, settings, CAPACITY) as exchanges:
        changes, use = Changes(store), Use(exchanges)
        await go_away(store, inner)
        while await exchanges.flush(FULL_SECONDS):
            await use.once()
        assert store.status.spooled_units > 10
        while exchanges.waiting < 3 * CAPACITY:
            await use.once()
        inner.away = False
        await changes.until(available=True)
        assert await exchanges.flush(20)
        told = [decode(event) for event in await inner.read_log(limit=10_000, types=["exchange.*"])]
    sums = [each for each in told if isinstance(each, ExchangeSummarized)]
    assert counted(told) == use.happened
    assert {each.reason for each in sums} == {"queue_full"}
    assert sum(getattr(each, "bytes_out", 0) for each in told) == use.happened - use.refused
    assert (use.refused > 0) == exchanges.opens_before
    ends = sum(isinstance(each, ExchangeClosed) for each in told) + sum(each.closed for each in sums)
    assert ends == sum(isinstance(each, ExchangeOpened) for each in told)


async def test_a_spooled_record_does_not_wait(tmp_path: Path) -> None:
    """It is written: no figure grows while Postgres is away and the spool has room."""
    inner = WaveringStore()
    async with spooling(inner, tmp_path) as store, writing(store, AccessSettings(), QUEUE) as exchanges:
        await go_away(store, inner)
        use = Use(exchanges)
        for _ in range(300):
            await use.once()
        assert await exchanges.flush(20) and exchanges.waiting == 0
        assert store.status.spooled_units == 301
        inner.away = False

        async def replayed() -> bool:
            return len(await inner.read_log(types=["exchange.completed"])) == 300

        await until(replayed)
