"""Exchanges told as one: ACCESS_EVENTS=summary, and what there is no room for."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import ExchangeClosed, ExchangeOpened, ExchangeSummarized
from events.ids import uuid7
from gateway.proxy.errors import ContainerBroke
from gateway.proxy.exchange_records import Record
from gateway.proxy.exchange_sums import INTERVAL, Sums
from gateway.proxy.settings import AccessSettings
from tests.event_fixtures import until
from tests.factories import CAUSE
from tests.gateway.proxy.recording import OPENED, Written, counted, exchange, result, writing

HOUR: Final = AccessSettings(access_events="summary", access_summary_seconds=3600)
MOMENT: Final = AccessSettings(access_events="summary", access_summary_seconds=0.01)
BEGAN: Final = datetime(2026, 11, 24, 14, 2, tzinfo=UTC)


def record(container: str = "c1", *, at: int = 0, was_opened: bool = False, broke: bool = False) -> Record:
    error = ContainerBroke("it broke") if broke else None
    return Record(
        event_id=uuid7(),
        occurred_at=BEGAN + timedelta(seconds=at),
        exchange=exchange(container),
        kind="http",
        result=result(10, error),
        status=200,
        was_opened=was_opened,
    )


async def test_a_sum_says_when_how_many_and_how_much() -> None:
    """What an auditor has instead of the single events; an end of what was opened by an event of its own is no more."""
    sums = Sums(3600, lambda: None)
    for each in (record(at=1), record(at=2, broke=True), record(at=5, was_opened=True), record("c2", at=9)):
        sums.add(each, INTERVAL)
    sums.end()
    told = {due.summary.container: due.summary for due in sums.take(10)}
    assert told["c1"] == ExchangeSummarized(
        session_id="s1",
        container="c1",
        exchanges=2,
        closed=1,
        failed=1,
        bytes_in=9,
        bytes_out=30,
        reason="interval",
        first_at=BEGAN + timedelta(seconds=1),
        last_at=BEGAN + timedelta(seconds=5),
    )
    assert (told["c2"].exchanges, told["c2"].first_at) == (1, told["c2"].last_at)


async def test_what_could_not_be_kept_singly_is_due_at_once() -> None:
    """An interval has time; a loss of detail has not."""
    called: list[bool] = []
    sums = Sums(3600, lambda: called.append(True))
    sums.add(record(), INTERVAL)
    assert (sums.due, sums.waiting, called, sums.take(10)) == (False, 0, [], [])
    sums.add(record(), "queue_full")
    assert (sums.due, sums.waiting, called) == (True, 1, [True])
    assert [due.summary.reason for due in sums.take(10)] == ["queue_full"]
    sums.end("another session")
    assert sums.waiting == 1
    sums.end("s1")
    assert sums.waiting == 2


@given(st.lists(st.sampled_from(["a", "b", "take", "told", "end"]), max_size=40))
def test_every_record_is_in_one_sum(steps: list[str]) -> None:
    """Whenever sums end, are told, or are told again since the answer was lost."""

    async def play() -> None:
        sums, told, added = Sums(3600, lambda: None), dict[object, int](), 0
        for step in [*steps, "end", *["take", "told"] * 3]:
            match step:
                case "end":
                    sums.end()
                case "take":
                    assert sums.take(1) == sums.take(1), "what is told again is the same event"
                case "told":
                    for due in sums.take(9):
                        assert due.event_id not in told
                        told[due.event_id] = due.summary.exchanges
                        sums.told(due.event_id)
                case _:
                    added += 1
                    sums.add(record(step), INTERVAL)
        assert sum(told.values()) == added and not sums.due

    asyncio.run(play())


async def test_an_interval_is_one_event_a_container() -> None:
    """Instead of one each; the paths are not kept. It is told when the interval ends, without another request."""
    async with writing(MOMENT) as it:
        for number in range(100):
            it.log.ended(exchange(f"c{number % 2}"), result(1), 200, was_opened=False)
        assert it.log.waiting == 0, "what is not due yet is not late"
        await until(lambda: _is_told(it, 100))
        told = [each for each in await it.payloads() if isinstance(each, ExchangeSummarized)]
    assert {(each.container, each.exchanges, each.reason) for each in told} == {
        ("c0", 50, "interval"),
        ("c1", 50, "interval"),
    }


async def test_a_sum_is_caused_by_the_token_that_its_exchanges_showed() -> None:
    """As each of them would be; two tokens make two sums. Of many requests, it belongs to none."""
    tokens = [uuid7(), uuid7()]
    async with writing(HOUR) as it:
        for token in (*tokens, *tokens):
            shown = msgspec.structs.replace(exchange(), cause=msgspec.structs.replace(CAUSE, causation_id=token))
            it.log.ended(shown, result(), 200, was_opened=False)
        assert [each.exchanges for each in await it.payloads()] == [2, 2]
        told = await it.store.read_log()
    assert [(event.causation_id, event.correlation_id) for event in told] == [(token, None) for token in tokens]


async def test_a_sessions_end_and_a_drain_end_the_interval() -> None:
    """Whoever looks at an ended session sees all of it, and a clean stop loses nothing."""
    async with writing(HOUR) as it:
        for session_id in ("s1", "s2"):
            it.log.ended(exchange(session_id, session_id=session_id), result(), 200, was_opened=False)
        it.log.session_ended("s1")
        await until(lambda: _is_told(it, 1))
        assert [event.stream_id for event in await it.store.read_log()] == ["container-s1"]
        assert [each.session_id for each in await it.payloads()] == ["s1", "s2"]


async def test_streams_are_events_of_their_own_in_summary_too() -> None:
    """They are few and long: what is open now must be seen while it is, not when it has ended."""
    async with writing(HOUR) as it:
        lasting = exchange()
        assert it.log.opened(lasting, OPENED)
        it.log.ended(lasting, result(is_stream=True), 200, was_opened=True)
        it.log.ended(exchange(), result(), 200, was_opened=False)
        kinds = [type(each) for each in await it.payloads()]
    assert kinds == [ExchangeOpened, ExchangeClosed, ExchangeSummarized]


async def test_while_the_log_is_away_intervals_do_not_pile_up() -> None:
    """One sum a container waits, however many intervals pass; its times say that it is longer."""
    async with writing(MOMENT) as it:
        it.store.away = True
        it.log.ended(exchange(), result(), 200, was_opened=False)
        await it.refused(1)  # this one is being told
        for _ in range(5):
            it.log.ended(exchange(), result(), 200, was_opened=False)
            await it.refused(it.store.refused + 1)
        assert it.log.waiting == 6
        it.store.away = False
        told = await it.payloads()
    assert [each.exchanges for each in told] == [1, 5]
    assert told[1].first_at < told[1].last_at


async def test_a_sum_in_the_spool_is_told() -> None:
    async with writing(HOUR) as it:
        it.store.away, it.store.spool_room = True, 1
        it.log.ended(exchange(), result(), 200, was_opened=False)
        assert await it.log.flush(10) and it.log.waiting == 0
        await it.store.come_back()
        assert counted(await it.payloads()) == 1


async def _is_told(it: Written, exchanges: int) -> bool:
    return counted(await it.so_far()) >= exchanges
