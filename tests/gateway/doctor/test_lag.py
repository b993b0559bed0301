"""The loop's lag is measured while something runs, and that of an idle process beside it."""

import asyncio
import os
import sys
import time

from gateway.doctor.lag import idle_beside, measured


async def test_a_loop_that_is_held_up_is_seen_and_an_idle_process_bears_none_of_it() -> None:
    async with idle_beside() as idle, measured() as lag:
        await asyncio.sleep(0.01)
        time.sleep(0.3)  # noqa: ASYNC251 - holding the loop up is what is measured
        await asyncio.sleep(0.01)
    assert max(lag.late) > 250
    assert lag.p99 > 250 > idle.p99 >= 0
    assert lag.own_p99 > 200, "it slept, and queued for no core"


async def test_waiting_for_a_core_is_not_the_loops_own_doing() -> None:
    """One core, and another process that never leaves it."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    hog = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(flush=True)\nwhile True: pass", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert hog.stdout is not None and await hog.stdout.readline()
        async with measured() as lag:
            ends = time.thread_time() + 0.3
            while time.thread_time() < ends:
                sum(range(1000))
                await asyncio.sleep(0)
    finally:
        hog.kill()
        await hog.communicate()
        os.sched_setaffinity(0, everywhere)
    assert sum(lag.own) < sum(lag.late) / 2
