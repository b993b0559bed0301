"""ACCESS_DURABILITY=before: nothing is forwarded that is not durable already, in the log or in its spool."""

import asyncio
from typing import Final
from uuid import UUID

import pytest

from events.catalogue import ExchangeClosed, ExchangeOpened, ExchangeSummarized
from events.envelope import Fence, StreamWrite
from events.store import Outcome
from gateway.proxy.errors import Unrecorded
from gateway.proxy.settings import AccessSettings
from tests.gateway.faulty import FaultyStore
from tests.gateway.proxy.recording import Written, counted, exchange, result, writing

BEFORE: Final = AccessSettings(access_durability="before")
TOGETHER: Final = 32


class Busy(FaultyStore):
    """A store whose appends are answered when ``TOGETHER`` of them wait."""

    def __init__(self) -> None:
        super().__init__()
        self._together = asyncio.Barrier(TOGETHER)

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        await self._together.wait()
        return await super().append(*writes, fence=fence)


class Unanswering(FaultyStore):
    """A store that writes what is held, and does not answer."""

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        held, self.held = self.held, None
        outcome = await super().append(*writes, fence=fence)
        if held is not None:
            self.holding.set()
            await self.release.wait()
        return outcome


async def ends(it: Written) -> list[tuple[int, str, str | None]]:
    """Status, who ended it and why, of each end; every opening has one, caused by it."""
    told = await it.payloads()
    opened = {each.exchange_id: event for each, event in zip(told, await it.store.read_log(), strict=True)}
    closed = [each for each in told if isinstance(each, ExchangeClosed)]
    assert [each.exchange_id for each in told if isinstance(each, ExchangeOpened)] == [
        each.exchange_id for each in closed
    ]
    assert len(told) == 2 * len(closed)
    for event in await it.store.read_log(types=["exchange.closed"]):
        assert event.causation_id is not None and str(event.causation_id) in opened
    return [(each.status, each.ended_by, each.error) for each in closed]


async def test_an_opening_is_in_the_log_before_its_exchange_goes_on() -> None:
    """And who it is for waits for that, not for a place in a queue."""
    async with writing(BEFORE) as it:
        it.store.held = "exchange.opened"
        one = exchange()
        beginning = asyncio.create_task(it.log.begin(one))
        await asyncio.wait_for(it.store.holding.wait(), 10)
        assert not beginning.done()
        it.store.release.set()
        await beginning
        (event,) = await it.store.read_log()
        assert (event.type, event.event_id) == ("exchange.opened", UUID(str(one.exchange_id)))
        it.log.ended(one, result(), 200, was_opened=True)
        assert await ends(it) == [(200, "container", None)]
    assert it.log.opens_before


async def test_openings_that_come_together_wait_together() -> None:
    """Each in turn would cost a disk's flush a request; the store's writer makes one batch of those that wait."""
    async with writing(BEFORE, store=Busy()) as it, asyncio.timeout(10):
        await asyncio.gather(*(it.log.begin(exchange()) for _ in range(TOGETHER)))
        assert counted(await it.payloads()) == TOGETHER


async def test_an_opening_in_the_spool_is_durable() -> None:
    """Away from Postgres sessions are served on, and the log has it all when it is back."""
    async with writing(BEFORE) as it:
        first = exchange()
        await it.log.begin(first)
        it.store.away, it.store.spool_room = True, 10
        spooled = exchange()
        await it.log.begin(spooled)
        for one in (first, spooled):
            it.log.ended(one, result(), 200, was_opened=True)
        assert await it.log.flush(10) and it.log.waiting == 0
        assert len(it.store.spooled) == 3
        await it.store.come_back()
        assert counted(await it.payloads()) == 2
        assert len(await it.store.read_log(types=["exchange.closed"])) == 2


async def test_what_nobody_can_write_down_is_refused_and_told_later() -> None:
    """No log and no room in the spool: the refusal itself is what is told when there is one again."""
    async with writing(BEFORE) as it:
        it.store.away = True
        for _ in range(3):
            with pytest.raises(Unrecorded):
                await it.log.begin(exchange())
        it.store.away = False
        assert await ends(it) == [(503, "gateway", "unrecorded")] * 3


async def test_an_opening_whose_answer_was_lost_is_there_once() -> None:
    """Nobody knew that it was written, so its exchange was refused; the log says that it was not forwarded."""
    async with writing(BEFORE) as it:
        it.store.lost_answers = 1
        with pytest.raises(Unrecorded):
            await it.log.begin(exchange())
        assert await ends(it) == [(503, "gateway", "unrecorded")]


@pytest.mark.parametrize("store", [FaultyStore, Unanswering])
async def test_an_exchange_that_is_cut_while_it_waits_has_its_end(store: type[FaultyStore]) -> None:
    """A drain does not wait for the log, which may have the opening already or never get it."""
    async with writing(BEFORE, store=store()) as it:
        it.store.held = "exchange.opened"
        beginning = asyncio.create_task(it.log.begin(exchange()))
        await asyncio.wait_for(it.store.holding.wait(), 10)
        it.store.held = None
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        assert beginning.cancelled()
        assert await ends(it) == [(503, "gateway", "exchange_cut")]


async def test_refused_exchanges_past_the_queue_are_counted_once() -> None:
    """Neither twice, as an opening and an end, nor not at all."""
    async with writing(BEFORE, capacity=5) as it:
        it.store.away = True
        for _ in range(20):
            with pytest.raises(Unrecorded):
                await it.log.begin(exchange())
        it.store.away = False
        told = await it.payloads()
    sums = [each for each in told if isinstance(each, ExchangeSummarized)]
    assert counted(told) == 20
    ended = sum(isinstance(each, ExchangeClosed) for each in told)
    assert ended + sum(each.closed for each in sums) == sum(isinstance(each, ExchangeOpened) for each in told)
    failed = sum(each.failed for each in sums) + sum(getattr(each, "error", None) is not None for each in told)
    assert failed == 20
