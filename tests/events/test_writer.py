"""The writer against a log that answers, hangs, loses answers and refuses as each test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import pytest_asyncio

from events import writer as module
from events.envelope import EventData
from events.errors import BadEvent, StoreClosed, StoreUnavailable
from events.memory import MemoryEventStore
from events.store import Appended, Conflict, Outcome
from events.writer import CAP, FEW, Unit, Writer
from tests.factories import event, events, new_stream, write


def unit(*of: EventData, stream: str | None = None) -> Unit:
    return Unit((write(stream or new_stream(), *(of or (event(),))),), None)


def ids(units: Sequence[Unit]) -> list[object]:
    return [one.event_id for each in units for written in each.writes for one in written.events]


class Log:
    """Takes batches into a log in memory. ``faults`` are met first, one a batch; ``open`` lets batches through."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        self.batches: list[list[Unit]] = []
        self.faults: list[Callable[[list[Unit]], Awaitable[None]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()

    async def send(self, units: Sequence[Unit]) -> list[Outcome]:
        batch = list(units)
        self.batches.append(batch)
        self.entered.set()
        await self.open.wait()
        if self.faults:
            await self.faults.pop(0)(batch)
        return await self._take(batch)

    async def _take(self, batch: list[Unit]) -> list[Outcome]:
        return [await self.store.append(*one.writes) for one in batch]

    async def lose_answer(self, batch: list[Unit]) -> None:
        """The batch is committed, the connection ends before the answer."""
        await self._take(batch)
        raise StoreUnavailable("cut after send")

    async def lose_batch(self, batch: list[Unit]) -> None:
        raise StoreUnavailable("cut before send")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest_asyncio.fixture
async def writer(log: Log, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Writer]:
    monkeypatch.setattr(module, "RETRY_PAUSE_SECONDS", 0.001)
    made = Writer(log.send)
    made.start()
    yield made
    log.open.set()
    await made.close()


def start(writer: Writer, *units: Unit) -> list[asyncio.Task[Outcome]]:
    return [asyncio.create_task(writer.append(one)) for one in units]


async def test_lone_append_is_sent_at_once(log: Log, writer: Writer) -> None:
    assert isinstance(await writer.append(unit()), Appended)
    assert [len(batch) for batch in log.batches] == [1]


async def test_batch_is_what_arrived_during_the_last_round_trip(log: Log, writer: Writer) -> None:
    log.open.clear()
    first = start(writer, unit())
    await log.entered.wait()
    rest = start(writer, *(unit() for _ in range(FEW)))
    await asyncio.sleep(0)
    assert writer.depth == FEW
    log.open.set()
    await asyncio.gather(*first, *rest)
    assert [len(batch) for batch in log.batches] == [1, FEW]


async def test_batch_is_half_of_those_who_write(log: Log, writer: Writer) -> None:
    """One half is made while the server writes the other; few are not worth a second round trip."""
    await asyncio.gather(*start(writer, *(unit() for _ in range(4 * FEW))))
    assert [len(batch) for batch in log.batches] == [2 * FEW, 2 * FEW]


async def test_batches_hold_at_most_the_cap_and_whole_units_in_order(log: Log, writer: Writer) -> None:
    units = [unit(*events(size)) for size in (100, 28, 1, 127, 2, CAP, 1)]
    outcomes = await asyncio.gather(*start(writer, *units))
    assert [[len(one) for one in batch] for batch in log.batches] == [[100, 28], [1, 127], [2], [CAP], [1]]
    positions = [one.first_position for one in outcomes if isinstance(one, Appended)]
    assert positions == [1, 101, 129, 130, 257, 259, 387]


async def test_each_caller_gets_the_outcome_of_its_unit(log: Log, writer: Writer) -> None:
    stream = new_stream()
    refused = Unit((write(stream, expected=5),), None)
    outcomes = await asyncio.gather(*start(writer, unit(), refused, unit()))
    assert [type(one) for one in outcomes] == [Appended, Conflict, Appended]


async def test_batch_whose_answer_was_lost_is_sent_again_before_anything_newer(log: Log, writer: Writer) -> None:
    """With the same ids: of 387 calls cut after sending, 387 had been committed."""
    log.faults = [log.lose_answer, log.lose_batch]
    log.open.clear()
    first = start(writer, unit(), unit())
    await log.entered.wait()
    newer = start(writer, unit())
    log.open.set()
    outcomes = await asyncio.gather(*first, *newer)
    assert [ids(batch) for batch in log.batches[:3]] == [ids(log.batches[0])] * 3
    assert len(log.batches) == 4
    assert [isinstance(one, Appended) and one.duplicate for one in outcomes] == [True, True, False]
    assert (await log.store.head()).position == 3


async def test_log_that_stays_away_is_told_to_the_callers(
    log: Log, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each learns that nothing was acknowledged, and what comes later is tried again."""
    monkeypatch.setattr(module, "RETRY_FOR_SECONDS", -1.0)
    log.faults = [log.lose_batch]
    outcomes = await asyncio.gather(*start(writer, unit(), unit()), return_exceptions=True)
    assert [type(one) for one in outcomes] == [StoreUnavailable] * 2
    assert isinstance(await writer.append(unit()), Appended)


async def test_who_waits_behind_a_log_that_is_away_is_told_with_the_others(
    log: Log, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch after batch each waiting its own time-out, the last of 10,000 units would be answered after ten minutes."""
    monkeypatch.setattr(module, "RETRY_FOR_SECONDS", -1.0)
    log.faults = [log.lose_batch]
    log.open.clear()
    first = start(writer, unit())
    await log.entered.wait()
    waiting = start(writer, *(unit() for _ in range(3 * CAP)))
    await asyncio.sleep(0)
    log.open.set()
    outcomes = await asyncio.gather(*first, *waiting, return_exceptions=True)
    assert {type(one) for one in outcomes} == {StoreUnavailable}
    assert len(log.batches) == 1
    assert isinstance(await writer.append(unit()), Appended)


async def test_guilty_unit_fails_alone(log: Log, writer: Writer) -> None:
    """What one caller sent must not cost the others their events."""
    guilty = unit()

    async def refuse(batch: list[Unit]) -> None:
        if guilty in batch:
            log.faults.append(refuse)
            raise BadEvent("poison")
        log.faults.append(refuse)

    log.faults = [refuse]
    units = [unit() for _ in range(100)]
    units.insert(42, guilty)
    outcomes = await asyncio.gather(*start(writer, *units), return_exceptions=True)
    assert isinstance(outcomes.pop(42), BadEvent)
    assert [one.position for one in outcomes if isinstance(one, Appended)] == list(range(1, 101))
    assert (await log.store.head()).position == 100


async def test_log_that_goes_away_while_units_are_sent_singly_fails_the_rest_at_once(
    log: Log, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waiting its own time-out, 128 units would hold the writer for 13 minutes."""
    monkeypatch.setattr(module, "RETRY_FOR_SECONDS", -1.0)

    async def poison(batch: list[Unit]) -> None:
        raise BadEvent("poison")

    async def fine(batch: list[Unit]) -> None:
        return

    log.faults = [poison, fine, log.lose_batch]
    outcomes = await asyncio.gather(*start(writer, *(unit() for _ in range(20))), return_exceptions=True)
    assert isinstance(outcomes[0], Appended)
    assert [type(one) for one in outcomes[1:]] == [StoreUnavailable] * 19
    assert len(log.batches) == 3


async def test_cancelled_caller_leaves_its_unit_and_disturbs_nobody(log: Log, writer: Writer) -> None:
    log.open.clear()
    first, second = start(writer, unit(), unit())
    await log.entered.wait()
    queued, last = start(writer, unit(), unit())
    await asyncio.sleep(0)
    first.cancel()
    queued.cancel()
    await asyncio.wait([first, queued])
    log.open.set()
    assert isinstance(await second, Appended) and isinstance(await last, Appended)
    assert first.cancelled() and queued.cancelled()
    assert (await log.store.head()).position == 4


async def test_close_writes_what_waits(log: Log, writer: Writer) -> None:
    log.open.clear()
    waiting = start(writer, *(unit() for _ in range(300)))
    await log.entered.wait()
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreClosed):
        await writer.append(unit())
    log.open.set()
    await closing
    assert {type(one) for one in await asyncio.gather(*waiting)} == {Appended}
    await writer.close()


async def test_close_does_not_wait_for_a_log_that_is_away(log: Log, writer: Writer) -> None:
    """A drain has its own deadline; each waiting batch is tried once."""
    log.faults = [log.lose_batch] * 3
    log.open.clear()
    waiting = start(writer, *(unit() for _ in range(300)))
    await log.entered.wait()
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    log.open.set()
    await asyncio.wait_for(closing, 5)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in outcomes] == [StoreUnavailable] * 300


async def test_close_that_is_cut_short_leaves_no_caller_waiting(log: Log, writer: Writer) -> None:
    """Units under way and units in the queue: nobody waits for an answer that cannot come any more."""
    log.open.clear()
    waiting = start(writer, unit())
    await log.entered.wait()
    waiting += start(writer, unit())
    await asyncio.sleep(0)  # it is in the queue
    assert writer.depth == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.close(), 0.01)
    done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert [type(one) for one in done] == [StoreUnavailable] * 2


async def test_writer_that_was_not_started_takes_nothing(log: Log) -> None:
    with pytest.raises(StoreClosed):
        await Writer(log.send).append(unit())
