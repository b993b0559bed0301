"""The loop of background jobs: it goes on after a failure, comes when poked, and ends when told to."""

import asyncio
import logging

import pytest

from docker.errors import DaemonDown
from events.errors import StoreUnavailable
from gateway.workers.worker import Worker


class Job:
    """Counts its runs; fails with what it is given."""

    def __init__(self, *failures: Exception) -> None:
        self.runs = 0
        self._failures = list(failures)
        self._ran = asyncio.Condition()

    async def run_once(self) -> None:
        self.runs += 1
        async with self._ran:
            self._ran.notify_all()
        if self._failures:
            raise self._failures.pop(0)

    def fails_with(self, failure: Exception) -> None:
        self._failures.append(failure)

    async def ran(self, times: int) -> None:
        async with asyncio.timeout(5), self._ran:
            await self._ran.wait_for(lambda: self.runs >= times)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    _, late = await asyncio.wait([task], timeout=2)
    assert not late and task.cancelled()


async def test_a_job_runs_at_once_and_every_interval() -> None:
    job = Job()
    task = asyncio.create_task(Worker("test", job.run_once, 0.01).run())
    await job.ran(3)
    await ended(task)


async def test_a_failure_is_told_and_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """With a traceback when it is a fault of ours, in a sentence when something is away."""
    job = Job(ValueError("a fault"), StoreUnavailable("the log is away"))
    with caplog.at_level(logging.WARNING, "session_gateway.worker"):
        task = asyncio.create_task(Worker("test", job.run_once, 0.01).run())
        await job.ran(3)
        await ended(task)
    told = [(record.getMessage().rpartition(": ")[2], bool(record.exc_info)) for record in caplog.records]
    assert told == [("a fault", True), ("the log is away", False)]


async def test_what_stays_away_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """An outage of an hour is not a line a second; the next one is told again, and another fault at once."""
    away, down = StoreUnavailable("the log is away"), DaemonDown("the daemon is down")
    job = Job(away, away, away, down, down, away)
    with caplog.at_level(logging.WARNING, "session_gateway.worker"):
        task = asyncio.create_task(Worker("test", job.run_once, 0.001).run())
        await job.ran(8)
        job.fails_with(away)
        await job.ran(10)
        await ended(task)
    told = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert told == ["the log is away", "the daemon is down", "the log is away", "the log is away"]


async def test_a_poke_is_not_waited_for() -> None:
    job = Job()
    worker = Worker("test", job.run_once, 600)
    task = asyncio.create_task(worker.run())
    await job.ran(1)
    worker.poke()
    await job.ran(2)
    await ended(task)


async def test_a_poke_during_a_run_is_another_run() -> None:
    """What it tells of may have happened after the run had looked."""
    entered, go_on = asyncio.Event(), asyncio.Event()
    job = Job()

    async def slow() -> None:
        await job.run_once()
        entered.set()
        await go_on.wait()

    worker = Worker("test", slow, 600)
    task = asyncio.create_task(worker.run())
    await entered.wait()
    worker.poke()
    go_on.set()
    await job.ran(2)
    await ended(task)


async def test_a_worker_ends_although_it_is_poked_at_the_same_moment() -> None:
    """``asyncio.wait_for`` of Python 3.11 returns the poke and forgets the cancellation: no gateway would end."""
    job = Job()
    worker = Worker("test", job.run_once, 600)
    task = asyncio.create_task(worker.run())
    await job.ran(1)
    await asyncio.sleep(0)  # into the wait
    worker.poke()
    await asyncio.sleep(0)  # the wait is over, and the loop has not heard of it yet
    await ended(task)
