"""Lag: how late an event loop wakes who sleeps, beside one of a process that does nothing at the same time.

The difference is the loop's own doing: what the machine does besides, both bear. On a machine with more to do than it
has cores they do not bear alike: who has work queues for a core, who sleeps is served at once. ``own_p99`` leaves the
queueing out, which the kernel counts. ``python -m gateway.doctor.lag`` is the idle one; it measures until its standard
input ends.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

TICK: Final = 0.002
_ROOT: Final = Path(__file__).resolve().parents[2]
_QUEUEING: Final = Path("/proc/thread-self/schedstat")  # nanoseconds on a core, in the queue for one; turns


class Lag:
    """How late a sleeping task was woken, in milliseconds. Of an idle process: ``p99`` alone, once its time is over."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.own: list[float] = []  # of it, what this thread did not spend in the queue for a core
        self._told: float | None = None

    @property
    def p99(self) -> float:
        return _p99(self.late) if self._told is None else self._told

    @property
    def own_p99(self) -> float:
        return _p99(self.own)

    def told(self, p99: float) -> None:
        """What another process measured."""
        self._told = p99


@asynccontextmanager
async def measured() -> AsyncIterator[Lag]:
    """The lag of this loop within the block."""
    lag = Lag()

    async def watch(queued: Callable[[], float]) -> None:
        while True:
            began, before = time.perf_counter(), queued()
            await asyncio.sleep(TICK)
            late = (time.perf_counter() - began - TICK) * 1000
            lag.late.append(late)
            lag.own.append(late - queued() + before)

    with _queueing() as queued:
        watcher = asyncio.create_task(watch(queued))
        try:
            yield lag
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher


@contextmanager
def _queueing() -> Iterator[Callable[[], float]]:
    """Milliseconds that this thread has queued for a core; always 0 where the kernel does not tell."""
    if not _QUEUEING.exists():
        yield lambda: 0.0
        return
    with _QUEUEING.open("rb", buffering=0) as file:
        yield lambda: int(os.pread(file.fileno(), 100, 0).split()[1]) / 1e6


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


def _p99(values: list[float]) -> float:
    ordered = sorted(values) or [0.0]
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1)


async def _idle() -> None:
    async with measured() as lag:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(lag.p99)


if __name__ == "__main__":
    asyncio.run(_idle())
