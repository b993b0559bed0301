"""Jobs: they end with the process, and one that ends before it is told."""

import asyncio
import contextlib

import pytest

from gateway.jobs import Jobs


async def test_a_job_that_ends_by_itself_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """The process serves nobody well any more: whoever runs it is told, and which job it was."""
    told = asyncio.Event()

    async def dies() -> None:
        raise ValueError("a fault")

    async def lives() -> None:
        await asyncio.Event().wait()

    async with contextlib.AsyncExitStack() as stack:
        jobs = Jobs(stack, told.set)
        jobs.start("good", lives())
        jobs.start("bad", dies())
        await asyncio.wait_for(told.wait(), 5)
        assert jobs.dead == ["The job bad ended: a fault"]
    assert jobs.dead == ["The job bad ended: a fault"]  # being ended is no death
