"""Whether many operations at once leave the event loop free: what a gateway's other requests would wait for."""

import asyncio
import time
from typing import Final

import msgspec

from docker import names
from docker.aiodocker_service import AiodockerService
from gateway.doctor.lag import idle_beside, measured
from gateway.doctor.row import Finding, Row, passed, warned
from gateway.doctor.surroundings import Surroundings

OPERATIONS: Final = 40
MOST_LAG_MS: Final = 20.0  # more than the idle process beside; dockerd and we share the cores
LOOKS: Final = 3  # a loaded machine may wake us late once; what holds the loop up does so every time


class Measure(msgspec.Struct, frozen=True):
    """One look: how long all took, and how late the two loops were (p99)."""

    seconds: float
    lag_ms_p99: float
    idle_lag_ms_p99: float

    @property
    def own(self) -> float:
        """What is the loop's own doing."""
        return self.lag_ms_p99 - self.idle_lag_ms_p99


async def _look(here: Surroundings) -> Finding:
    async with here.docker() as service:
        await service.list_containers()  # the first one makes the connection
        best = await _measure(service)
        for _ in range(LOOKS - 1):
            if best.own < MOST_LAG_MS:
                break
            best = min(best, await _measure(service), key=lambda each: each.own)
    return judged(best)


def judged(best: Measure) -> Finding:
    """What the least of the looks means."""
    sentence = (
        f"{OPERATIONS} operations at once took {best.seconds * 1000:.0f} ms; the loop was late by {best.lag_ms_p99} ms "
        f"(p99), an idle process beside by {best.idle_lag_ms_p99} ms."
    )
    facts = msgspec.structs.asdict(best)
    if best.own < MOST_LAG_MS:
        return passed(sentence, **facts)
    return warned(
        f"{sentence} It was so {LOOKS} times.",
        "Run the row alone; if it stays, give the gateway more than the cores that it has.",
        **facts,
    )


async def _measure(service: AiodockerService) -> Measure:
    async with idle_beside() as idle, measured() as busy:
        began = time.perf_counter()
        await asyncio.gather(*(_operation(service, number) for number in range(OPERATIONS)))
        took = time.perf_counter() - began
    return Measure(round(took, 3), busy.p99, idle.p99)


async def _operation(service: AiodockerService, number: int) -> None:
    if number % 2:
        await service.list_containers(all=True, labels=names.owned_by("nobody"))
    else:
        await service.get_container_info("session-gateway-no-such-container")


ROW: Final = Row(name="async-docker", look=_look, alone=True)
