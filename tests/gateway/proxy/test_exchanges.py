"""The records of what was proxied: behind the answer, bounded, and none of them lost or told twice."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import ExchangeClosed, ExchangeCompleted, ExchangeOpened, ExchangeSummarized
from gateway.proxy.errors import ContainerBroke
from gateway.proxy.exchange_records import Exchange
from gateway.proxy.exchanges import BATCH, RETRY_SECONDS
from tests.gateway.proxy.recording import OPENED, counted, exchange, result, writing


async def test_nothing_is_lost_when_the_log_comes_back() -> None:
    """Records wait in their order, with their ids, for as long as it takes."""
    async with writing() as it:
        it.store.away = True
        for size in range(3 * BATCH):
            it.log.ended(exchange(), result(size), 200, was_opened=False)
        await it.refused(2)
        assert it.log.waiting == 3 * BATCH
        assert not await it.log.flush(0.01)
        it.store.away = False
        told = await it.payloads()
    assert [record.bytes_out for record in told] == list(range(3 * BATCH))
    assert it.log.waiting == 0


async def test_a_full_queue_folds_into_a_sum() -> None:
    """Past the queue's end nothing vanishes silently: one sum a container, with figures that add up."""
    async with writing(capacity=10) as it:
        it.store.away = True
        it.log.ended(exchange(), result(), 200, was_opened=False)
        await it.refused(1)
        for number in range(100):
            error = ContainerBroke("it broke") if number % 4 == 0 else None
            it.log.ended(exchange(f"c{number % 2}"), result(10, error), 200, was_opened=False)
        assert it.log.waiting == 101
        it.store.away = False
        told = await it.payloads()
    sums = [each for each in told if isinstance(each, ExchangeSummarized)]
    whole = [each for each in told if isinstance(each, ExchangeCompleted)]
    assert sorted(each.container for each in sums) == ["c0", "c1"]
    assert {each.reason for each in sums} == {"queue_full"}
    assert len(whole) + sum(each.exchanges for each in sums) == 101
    assert sum(each.bytes_out for each in whole) + sum(each.bytes_out for each in sums) == 7 + 1000
    assert sum(each.error is not None for each in whole) + sum(each.failed for each in sums) == 25


async def test_a_full_spool_and_a_full_queue_fold_into_a_sum() -> None:
    """Postgres away: first the spool takes records, then the queue, then sums do. All of them are told in the end."""
    async with writing(capacity=10) as it:
        it.store.away, it.store.spool_room = True, 20
        for size in range(20):
            it.log.ended(exchange(), result(size), 200, was_opened=False)
            assert await it.log.flush(10), "in the spool is written"
        assert (len(it.store.spooled), it.log.waiting) == (20, 0)
        it.log.ended(exchange(), result(20), 200, was_opened=False)
        await it.refused(1)
        for size in range(21, 100):
            it.log.ended(exchange(), result(size), 200, was_opened=False)
        assert it.log.waiting == 80
        await it.store.come_back()
        told = await it.payloads()
    sums = [each for each in told if isinstance(each, ExchangeSummarized)]
    assert [each.reason for each in sums] == ["queue_full"]
    assert (counted(told), sum(each.bytes_out for each in told)) == (100, sum(range(100)))
    assert [each.bytes_out for each in told[:20]] == list(range(20)), "in their order"
    assert sums[0].first_at is not None and sums[0].last_at is not None and sums[0].first_at < sums[0].last_at


async def test_a_stream_that_finds_no_room_is_one_exchange() -> None:
    """Its beginning was not told, so its end is told whole; counted once, whether in a sum or by itself."""
    async with writing(capacity=1) as it:
        it.store.away = True
        it.log.ended(exchange(), result(), 200, was_opened=False)
        await it.refused(1)
        it.log.ended(exchange(), result(), 200, was_opened=False)
        lasting = exchange()
        assert not it.log.opened(lasting, OPENED)
        it.store.away = False
        await it.payloads()
        it.log.ended(lasting, result(is_stream=True), 200, was_opened=False)
        told = await it.payloads()
    (whole,) = [each for each in told if getattr(each, "exchange_id", "") == str(lasting.exchange_id)]
    assert isinstance(whole, ExchangeCompleted)
    assert counted(told) == 3


async def test_a_sum_waits_for_the_log_without_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the records written and only a sum left, a log that goes away again must not be asked in a loop."""
    async with writing(capacity=1) as it:
        it.store.away = True
        for _ in range(3):
            it.log.ended(exchange(), result(), 200, was_opened=False)
        await it.refused(1)
        it.store.away, append = False, it.store.append

        async def only_records(*writes: Any, fence: Any = None) -> Any:
            if any(event.type == "exchange.summarized" for write in writes for event in write.events):
                it.store.away = True
            return await append(*writes, fence=fence)

        monkeypatch.setattr(it.store, "append", only_records)  # away again just before the sum
        await it.refused(2)
        before = it.store.refused
        await asyncio.sleep(2 * RETRY_SECONDS)
        assert it.store.refused - before <= 3
        monkeypatch.undo()
        it.store.away = False
        told = await it.payloads()
    assert counted(told) == 3


async def test_what_was_written_without_an_answer_is_told_once() -> None:
    """The log took it and the answer was lost: asked again with the same ids, records and sums are duplicates."""
    async with writing(capacity=2) as it:
        it.store.away = True
        it.log.ended(exchange(), result(1), 200, was_opened=False)
        await it.refused(1)
        for _ in range(5):
            it.log.ended(exchange(), result(1), 200, was_opened=False)
        it.store.lost_answers, it.store.away = 4, False
        told = await it.payloads()
    assert it.store.lost_answers == 0
    assert counted(told) == 6
    assert sum(each.bytes_out for each in told) == 6


async def test_one_record_that_cannot_be_made_ends_no_other() -> None:
    """A sealing secret that was changed under a session: its own record is a sum, its neighbours stand as they are."""
    async with writing() as it:
        it.keyring.broken.add("sk_lost")
        for number in range(9):
            broken = "sk_lost" if number in (0, 4) else None
            it.log.ended(exchange(owner_key=broken), result(1), 200, was_opened=False)
        told = await it.payloads()
        it.log.ended(exchange(), result(1), 200, was_opened=False)
        assert len(await it.payloads()) == len(told) + 1
    (summary,) = [each for each in told if isinstance(each, ExchangeSummarized)]
    assert (summary.reason, summary.exchanges, summary.bytes_out) == ("unwritable", 2, 2)
    assert len([each for each in told if isinstance(each, ExchangeCompleted)]) == 7


@given(st.lists(st.sampled_from(["ended", "stream", "away", "back", "lost"]), max_size=60))
def test_every_exchange_is_counted_once(steps: list[str]) -> None:
    """Whatever comes, and whenever the log is away or its answers get lost: as many are told as there were."""

    async def play() -> None:
        async with writing(capacity=4) as it:
            happened, lasting = 0, list[tuple[Exchange, bool]]()
            for step in steps:
                match step:
                    case "away" | "back":
                        it.store.away = step == "away"
                    case "lost":
                        it.store.lost_answers += 1
                    case "ended":
                        happened += 1
                        it.log.ended(exchange(), result(1), 200, was_opened=False)
                    case _ if lasting:
                        one, was_opened = lasting.pop()
                        it.log.ended(one, result(1), 200, was_opened=was_opened)
                    case _:
                        happened += 1
                        one = exchange()
                        lasting.append((one, it.log.opened(one, OPENED)))
                await asyncio.sleep(0)
            it.store.away = False
            for one, was_opened in lasting:
                it.log.ended(one, result(1), 200, was_opened=was_opened)
            told = await it.payloads()
        begun = [each.exchange_id for each in told if isinstance(each, ExchangeOpened)]
        closed = [each.exchange_id for each in told if isinstance(each, ExchangeClosed)]
        assert set(closed) <= set(begun) and len(closed) == len(set(closed))
        folded_ends = sum(each.closed for each in told if isinstance(each, ExchangeSummarized))
        assert len(begun) == len(closed) + folded_ends, "a stream whose end alone found no room is in a sum"
        assert counted(told) == happened
        assert sum(getattr(each, "bytes_out", 0) for each in told) == happened

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.proxy.exchanges.RETRY_SECONDS", 0.001)  # many plays
        asyncio.run(play())
