"""Exchange records while Postgres is away, over the real spool: what it takes, what waits, and what is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from events.catalogue import ExchangeClosed, ExchangeOpened, ExchangeSummarized
from events.codec import decode
from events.fallback import FallbackEventStore
from events.keyring import Keyring, MemoryKeyring
from gateway.proxy.errors import Unrecorded
from gateway.proxy.exchanges import BATCH, QUEUE, ExchangeLog
from gateway.proxy.settings import AccessSettings
from gateway.recorder import Recorder
from tests.event_fixtures import until
from tests.events.wavering import Changes, WaveringStore, go_away, spooling
from tests.gateway.faulty import FarKeyring
from tests.gateway.proxy.recording import OPENED, counted, exchange, result
from tests.gateway.world import eventually

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
async def writing(
    store: FallbackEventStore, settings: AccessSettings, capacity: int, keyring: Keyring | None = None
) -> AsyncIterator[ExchangeLog]:
    """An exchange log that writes into ``store`` meanwhile."""
    exchanges = ExchangeLog(Recorder(store, keyring or MemoryKeyring()), settings, capacity=capacity)
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


class Keys:
    """Two people's keys; of the first alone this process has a copy when the log goes away."""

    def __init__(self, inner: WaveringStore) -> None:
        self.far = MemoryKeyring()
        self.near = FarKeyring(self.far, lambda: inner.away)
        self.here = self.there = ""

    async def made(self) -> "Keys":
        self.here = (await self.near.key_for("ada")).id
        self.there = (await self.far.key_for("grace")).id
        return self


async def test_a_missing_key_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Whatever stands before them: only the session without a key waits for it, its exchanges in their order."""
    inner = WaveringStore()
    async with spooling(inner, tmp_path) as store:
        keys = await Keys(inner).made()
        async with writing(store, AccessSettings(), QUEUE, keys.near) as exchanges:
            await go_away(store, inner)
            for nth in range(2 * BATCH):
                exchanges.ended(exchange("waits", owner_key=keys.there), result(nth), 200, was_opened=False)
            lasting = exchange("waits", owner_key=keys.there)
            assert exchanges.opened(lasting, OPENED)
            exchanges.ended(lasting, result(is_stream=True), 200, was_opened=True)
            for nth in range(2 * BATCH):
                exchanges.ended(exchange("served", owner_key=keys.here), result(nth), 200, was_opened=False)
            await eventually(lambda: store.status.spooled_units == 1 + 2 * BATCH)
            await eventually(lambda: exchanges.waiting == 2 * BATCH + 2)  # counted when the spool has answered
            changes, inner.away = Changes(store), False
            assert await exchanges.flush(20)
            await changes.until(available=True)
            told = [decode(event) for event in await inner.read_log(limit=10_000, types=["exchange.*"])]
    waited: list[Any] = [each for each in told if getattr(each, "container", None) == "waits"]
    assert [each.bytes_out for each in waited[:-2]] == list(range(2 * BATCH))
    assert isinstance(waited[-2], ExchangeOpened) and isinstance(waited[-1], ExchangeClosed)
    assert counted(told) == 4 * BATCH + 1


async def test_what_has_no_key_at_the_end_is_told_in_a_sum(tmp_path: Path) -> None:
    """The process ends during the outage and the spool has room: nothing is lost, and all the others are whole."""
    inner = WaveringStore()
    async with spooling(inner, tmp_path) as store:
        keys = await Keys(inner).made()
        async with writing(store, AccessSettings(), QUEUE, keys.near) as exchanges:
            await go_away(store, inner)
            for nth in range(BATCH):
                exchanges.ended(exchange("waits", owner_key=keys.there), result(nth), 200, was_opened=False)
                exchanges.ended(exchange("served", owner_key=keys.here), result(nth), 200, was_opened=False)
            assert await exchanges.flush(10, last=True) and exchanges.waiting == 0
            assert store.status.spooled_units == 1 + BATCH + 1
            inner.away = False
            await Changes(store).until(available=True)
            told = [decode(event) for event in await inner.read_log(limit=10_000, types=["exchange.*"])]
    (summed,) = [each for each in told if isinstance(each, ExchangeSummarized)]
    assert (summed.container, summed.reason, summed.exchanges) == ("waits", "no_key", BATCH)
    assert counted(told) == 2 * BATCH


async def test_a_session_that_outlives_its_subject_is_served_on(tmp_path: Path) -> None:
    """The key is known to be destroyed: nobody need be asked, and nothing is refused for want of it."""
    inner = WaveringStore()
    async with spooling(inner, tmp_path) as store:
        keys = await Keys(inner).made()
        keys.near.forget([keys.there])
        before = AccessSettings(access_durability="before")
        async with writing(store, before, QUEUE, keys.near) as exchanges:
            await go_away(store, inner)
            one = exchange(owner_key=keys.there)
            await exchanges.begin(one)
            exchanges.ended(one, result(), 200, was_opened=True)
            assert await exchanges.flush(10) and store.status.spooled_units == 3
