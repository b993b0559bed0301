"""The loop's lag is measured while something runs, and that of an idle process beside it."""

import asyncio
import time

from gateway.doctor.lag import idle_beside, measured


async def test_a_loop_that_is_held_up_is_seen_and_an_idle_process_bears_none_of_it() -> None:
    async with idle_beside() as idle, measured() as lag:
        await asyncio.sleep(0.01)
        time.sleep(0.3)  # noqa: ASYNC251 - holding the loop up is what is measured
        await asyncio.sleep(0.01)
    assert max(lag.late) > 250
    assert lag.p99 > 250 > idle.p99 >= 0
