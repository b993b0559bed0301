"""Hints of a log that grows: what a reader gains by true ones, and what false ones may cost."""

import asyncio

import asyncpg
import pytest

from events.hints import Hints
from events.postgres import PostgresEventStore
from events.tail import follow
from tests.event_fixtures import LogDatabase, as_user, connection, ensure_role, open_store, until
from tests.events.test_postgres import LISTENING
from tests.factories import new_stream, write

BEYOND_REASON = 9 * 10**18
POLL = 0.25


async def _waits(hints: Hints, position: int) -> bool:
    """Whether a reader there is not let go at once."""
    began = asyncio.get_running_loop().time()
    await hints.wait_beyond(position, 0.02)
    return asyncio.get_running_loop().time() - began >= 0.02


async def test_reader_behind_the_hint_does_not_wait() -> None:
    hints = Hints()
    await hints.told(5)
    assert not await _waits(hints, 4)
    assert await _waits(hints, 5)


async def test_reader_that_found_nothing_waits_its_time_whatever_is_told() -> None:
    hints = Hints()
    for _ in range(3):
        await hints.told(BEYOND_REASON)
        assert not await _waits(hints, 7)
        await hints.told(BEYOND_REASON)
        assert await _waits(hints, 7)


async def test_hint_that_showed_nothing_is_forgotten() -> None:
    """Else it would hide every true one after it, until the log had grown beyond: for ever, or after a lost end."""
    hints = Hints()
    await hints.told(BEYOND_REASON)
    assert not await _waits(hints, 7)
    assert await _waits(hints, 7)
    assert await _waits(hints, 7)
    await hints.told(8)
    assert not await _waits(hints, 7)


async def test_hint_that_came_after_the_fruitless_one_is_kept() -> None:
    hints = Hints()
    await hints.told(BEYOND_REASON)
    assert not await _waits(hints, 7)
    await hints.told(8)
    assert await _waits(hints, 7)
    assert not await _waits(hints, 7)


@pytest.mark.parametrize("payload", ["", "x", "1.5", "9" * 5000, None])
async def test_payload_that_is_no_position_says_nothing(payload: object) -> None:
    hints = Hints()
    await hints.heard(payload)
    assert await _waits(hints, 0)


async def test_readers_do_not_share_what_they_found() -> None:
    """Two at one place: the first that comes must not take the hint away from the second."""
    hints = Hints()
    await hints.told(8)
    for _ in range(2):
        assert not await asyncio.create_task(_waits(hints, 7))


@pytest.mark.postgres
async def test_stranger_who_notifies_costs_the_tails_two_reads_a_poll(empty_log: LogDatabase) -> None:
    """Any login of the database may; one such NOTIFY made every tail read without a pause, for ever."""
    await ensure_role(empty_log.admin_dsn, "passerby")
    pages = 0

    async def tail(store: PostgresEventStore) -> None:
        nonlocal pages
        async for _ in follow(store, 0, poll_seconds=POLL):
            pages += 1

    async with open_store(empty_log.app_dsn) as store:
        async with connection(empty_log.admin_dsn) as admin:
            await until(lambda: _listens(admin))
        await store.append(write(new_stream()))
        tailing = asyncio.create_task(tail(store))
        async with connection(as_user(empty_log.admin_dsn, "passerby")) as stranger:
            began, before = asyncio.get_running_loop().time(), pages
            while (passed := asyncio.get_running_loop().time() - began) < 4 * POLL:
                await stranger.execute(f"notify gateway_log, '{BEYOND_REASON}'; notify gateway_log, 'x'")
        assert pages - before <= 2 * passed / POLL + 4
        waiting = asyncio.create_task(store.wait_beyond(1, 60))
        await store.append(write(new_stream()))
        await asyncio.wait_for(waiting, 5)
        tailing.cancel()


async def _listens(admin: "asyncpg.Connection[asyncpg.Record]") -> bool:
    return len(await admin.fetch(LISTENING)) == 1
