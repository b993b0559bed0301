"""Whether many operations at once leave the event loop free: what a gateway's other requests would wait for."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from docker.aiodocker_service import AiodockerService
from gateway.doctor.row import Finding, Row, passed, warned
from gateway.doctor.surroundings import Surroundings

OPERATIONS: Final = 40
TICK: Final = 0.002
IDLE_SECONDS: Final = 0.3
MOST_LAG_MS: Final = 20.0


class Lag:
    """How late a sleeping task was woken, in milliseconds."""

    def __init__(self) -> None:
        self.late: list[float] = []

    @property
    def p99(self) -> float:
        ordered = sorted(self.late) or [0.0]
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1)


async def _look(here: Surroundings) -> Finding:
    async with measured() as idle:
        await asyncio.sleep(IDLE_SECONDS)
    async with here.docker() as service:
        await service.list_containers()  # the first one makes the connection
        async with measured() as busy:
            began = time.perf_counter()
            await asyncio.gather(*(_operation(service, number) for number in range(OPERATIONS)))
            took = time.perf_counter() - began
    sentence = (
        f"{OPERATIONS} operations at once took {took * 1000:.0f} ms; the loop was late by {busy.p99} ms (p99), "
        f"idle by {idle.p99} ms."
    )
    facts = {"seconds": round(took, 3), "lag_ms_p99": busy.p99, "idle_lag_ms_p99": idle.p99}
    if busy.p99 - idle.p99 < MOST_LAG_MS:
        return passed(sentence, **facts)
    return warned(sentence, "Look whether the machine is overloaded; run the row alone.", **facts)


async def _operation(service: AiodockerService, number: int) -> None:
    if number % 2:
        await service.list_containers(all=True, labels={"session-gateway.owner": "nobody"})
    else:
        await service.get_container_info("session-gateway-no-such-container")


@asynccontextmanager
async def measured() -> AsyncIterator[Lag]:
    """The lag of the loop within the block."""
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


ROW: Final = Row(name="async-docker", look=_look, alone=True)
