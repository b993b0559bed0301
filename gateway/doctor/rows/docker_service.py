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

UNREACHED_SECONDS: Final = 12.0  # OpenCode opens its port within 1-3 s


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
            await _until_ready(here, service, control, probe)
        with times.of("stop"):
            await service.stop_container(probe.info.id)
        with times.of("remove"):
            await service.remove_container(probe.info.id)
    told = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in times.seconds.items())
    return passed(f"A container of {probe.info.image} was made, answered, and is gone: {told}.", **times.seconds)


async def _until_ready(here: Surroundings, service: AiodockerService, control: Control, probe: Probe) -> None:
    """Raises Ended when the container ends, its port stays closed to us, or its agent silent."""
    began, accepted = time.monotonic(), False
    seconds = here.settings().sessions.session_ready_seconds
    while not await control.is_ready(address := await _address(service, probe), probe.authorization):
        accepted = accepted or await control.accepts(address)
        waited = time.monotonic() - began
        if not accepted and waited > min(UNREACHED_SECONDS, seconds):
            raise Ended(await _unreached(service, address))
        if waited > seconds:
            raise Ended(
                failed(
                    f"The agent of {probe.info.image} takes connections and did not answer rightly in {seconds:g} s.",
                    "Look whether the machine is overloaded, and build the image again: make image.",
                )
            )
        await control.pause()


async def _unreached(service: AiodockerService, address: Address) -> Finding:
    """What speaks against the address, if anything does, is the likely cause."""
    doubt = await service.host.note()
    return failed(
        f"A container runs, and its port at {address.host}:{address.port} does not answer us."
        + (f" {doubt}" if doubt else ""),
        "Let PUBLISH_ADDRESS be an address of the daemon's machine that this machine reaches, correct HOST_IP if it is "
        "set, and let that machine's firewall pass its ports.",
        address=address,
    )


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
