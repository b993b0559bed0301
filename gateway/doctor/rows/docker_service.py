"""Whether a session's container can be made, started, spoken to, stopped and removed on the daemon."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from docker.aiodocker_service import AiodockerService
from docker.service import Address, ContainerState
from gateway.control import Control
from gateway.doctor.probe import Probe, probing
from gateway.doctor.row import Ended, Finding, Row, failed, passed
from gateway.doctor.surroundings import Surroundings


class Times:
    """Seconds for each step, in the order in which they were taken."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - began, 3)


async def _look(here: Surroundings) -> Finding:
    times = Times()
    async with here.docker() as service, Control() as control, probing(here, service) as probe:
        with times.of("start"):
            await service.start_container(probe.info.id)
        with times.of("answer"):
            await _until_ready(service, control, probe)
        with times.of("stop"):
            await service.stop_container(probe.info.id)
        with times.of("remove"):
            await service.remove_container(probe.info.id)
    told = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in times.seconds.items())
    return passed(f"A container of {probe.info.image} was made, answered, and is gone: {told}.", **times.seconds)


async def _until_ready(service: AiodockerService, control: Control, probe: Probe) -> None:
    """Raises Ended when the container ends; else the row's time bounds it."""
    while not await control.is_ready(await _address(service, probe), probe.authorization):
        await control.pause()


async def _address(service: AiodockerService, probe: Probe) -> Address:
    info = await service.get_container_info(probe.info.id)
    if info is None or info.state is not ContainerState.RUNNING or info.address is None:
        said = " ".join(await service.logs(probe.info.id, tail=3)) if info is not None else ""
        code = None if info is None else info.exit_code
        raise Ended(
            failed(
                f"A container of {probe.info.image} ended by itself (exit code {code}): {said or 'it said nothing'}.",
                "Look at CONTAINER_MEMORY_LIMIT, and build the image again: make image.",
            )
        )
    return info.address


ROW: Final = Row(name="docker-service", look=_look, seconds=90)
