"""Exactly once, whatever happens to the process that carries the tables on, and whenever."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import psutil
import pytest
import pytest_asyncio

from events.errors import StoreUnavailable
from tests.event_fixtures import LogDatabase, until
from tests.projections.projecting import Projecting, projecting
from tests.projections.projector_child import child

pytestmark = [pytest.mark.postgres, pytest.mark.patient]


@pytest_asyncio.fixture
async def world(empty_log: LogDatabase) -> AsyncIterator[Projecting]:
    async with projecting(empty_log) as opened:
        yield opened


async def at_head(world: Projecting) -> bool:
    head = (await world.store.head()).position
    positions = await world.positions()
    return bool(positions) and set(positions.values()) == {head}


async def test_killed_at_any_call_to_the_database(world: Projecting, empty_log: LogDatabase) -> None:
    """Before and after each one, of making the tables and of carrying them on, by the same holder and by a new one."""
    killed = 0
    async with child(empty_log.app_dsn, "die", "one") as forks:
        assert forks.stdin is not None and forks.stdout is not None
        for number in range(1, 1000):
            if number % 2:
                await world.lapse()
            await world.live(f"s{number}", sessions=1, exchanges=1)
            forks.stdin.write(b"%d\n" % number)
            answer = await asyncio.wait_for(forks.stdout.readline(), 30)
            if number % 10 == 0:
                await world.agrees()
            if answer == b"done\n":
                break
            assert answer == b"killed\n"
            killed += 1
    assert killed > 100, "a start, and a page into eight tables"
    assert await world.agrees() == (await world.store.head()).position, "the last one lived"


async def test_killed_at_any_moment_under_load(world: Projecting, empty_log: LogDatabase) -> None:
    chance = random.Random(7)

    async def load() -> None:
        for number in range(1000):
            await world.live(f"load{number}", sessions=2, exchanges=5)

    loading = asyncio.create_task(load())
    try:
        for _ in range(6):
            reached = sum((await world.positions()).values())
            async with child(empty_log.app_dsn, "run", "one") as process:
                await until(lambda reached=reached: _moved(world, reached))  # type: ignore[misc]  # bound at once
                await asyncio.sleep(chance.random() / 20)  # at any moment: what is tested is that none is a bad one
                process.kill()
                await process.wait()
            await world.agrees()
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    await world.projector("one").run_once()
    assert await world.agrees() == (await world.store.head()).position


async def _moved(world: Projecting, reached: int) -> bool:
    return sum((await world.positions()).values()) > reached


async def test_frozen_holder_that_wakes_up_writes_nothing(world: Projecting, empty_log: LogDatabase) -> None:
    async with child(empty_log.app_dsn, "run", "frozen") as process:
        await world.live("a")
        await until(lambda: at_head(world))
        process.send_signal(signal.SIGSTOP)
        await until(lambda: _is_stopped(process.pid))
        await world.lapse()
        head = await world.live("b")
        await world.projector("another").run_once()
        before = await world.rows.checkpoints()
        assert {checkpoint.position for checkpoint in before.values()} == {head}
        await world.live("c")
        asleep = psutil.Process(process.pid).cpu_times()
        process.send_signal(signal.SIGCONT)
        await until(lambda: _has_worked(process.pid, asleep.user + asleep.system))
        assert await world.rows.checkpoints() == before and await world.agrees() == head


async def test_holder_that_freezes_inside_its_transaction_holds_nobody_up(
    world: Projecting, empty_log: LogDatabase
) -> None:
    """Postgres ends the transaction after three seconds; appends never wait for it."""
    await world.live("a")
    async with child(empty_log.app_dsn, "freeze", "frozen") as process:
        await until(lambda: _is_stopped(process.pid))
        await world.lapse()
        async with asyncio.timeout(2):
            head = await world.live("b", sessions=1)
        another = world.projector("another")
        await until(lambda: _carried_on(another.run_once, world))
        before = await world.rows.checkpoints()
        process.send_signal(signal.SIGCONT)
        assert await asyncio.wait_for(process.wait(), 20) != 0, "its connection was taken from it"
        assert await world.rows.checkpoints() == before and await world.agrees() == head


async def _carried_on(run_once: Callable[[], Awaitable[None]], world: Projecting) -> bool:
    try:
        await run_once()
    except StoreUnavailable:
        return False  # it waits for what the frozen one has locked
    return await at_head(world)


async def _is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


async def _has_worked(pid: int, before: float) -> bool:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system > before + 0.1  # hundreds of rounds of nothing but asking
