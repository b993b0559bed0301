"""Lag: how late an event loop wakes who sleeps, beside one of a process that does nothing at the same time.

The difference is the loop's own doing: what the machine does besides, both bear. ``python -m gateway.doctor.lag`` is
the idle one; it measures until its standard input ends.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

TICK: Final = 0.002
_ROOT: Final = Path(__file__).resolve().parents[2]


class Lag:
    """How late a sleeping task was woken, in milliseconds. Of an idle process: ``p99`` alone, once its time is over."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._told: float | None = None

    @property
    def p99(self) -> float:
        if self._told is not None:
            return self._told
        ordered = sorted(self.late) or [0.0]
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1)

    def told(self, p99: float) -> None:
        """What another process measured."""
        self._told = p99


@asynccontextmanager
async def measured() -> AsyncIterator[Lag]:
    """The lag of this loop within the block."""
    lag = Lag()

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK)
            lag.late.append((time.perf_counter() - began - TICK) * 1000)

    watcher = asyncio.create_task(watch())
    try:
        yield lag
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


@asynccontextmanager
async def idle_beside() -> AsyncIterator[Lag]:
    """The lag of a process whose loop does nothing, for the time of the block; it can be read after the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.doctor.lag"),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    assert process.stdin is not None and process.stdout is not None
    lag = Lag()
    try:
        await process.stdout.readline()
        yield lag
        process.stdin.close()
        lag.told(float(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


async def _idle() -> None:
    async with measured() as lag:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(lag.p99)


if __name__ == "__main__":
    asyncio.run(_idle())
