"""Whether the daemon holds a session's container as it was asked to: read back, not believed."""

from typing import Any, Final

import msgspec

from docker.asking import ask
from docker.readback import cannot_give, daemon_departures, departures, more_than_there_is
from docker.settings import DockerSettings
from gateway.doctor.probe import probing
from gateway.doctor.row import Finding, Row, failed, passed, warned
from gateway.doctor.surroundings import Surroundings

TOLD: Final = ("Memory", "MemorySwap", "CpuQuota", "CpuPeriod", "PidsLimit", "CapDrop", "ReadonlyRootfs", "Init")


async def _look(here: Surroundings) -> Finding:
    settings = here.settings().docker
    async with here.docker() as service, probing(here, service) as probe:
        found = await _asked(settings, f"/containers/{probe.info.id}/json")
    machine = await _asked(settings, "/info")
    host = found["HostConfig"]
    facts = {name: host.get(name) for name in TOLD}
    wrong = [*departures(found, settings), *daemon_departures(machine), *cannot_give(machine, settings)]
    if wrong:
        return failed(
            f"The daemon does not hold a session as it must be held: {'; '.join(wrong).rstrip('.')}.",
            "Mend the daemon's configuration or the setting that is named (docker/README.md).",
            **facts,
        )
    if more := more_than_there_is(machine, settings):
        return warned(" ".join(more), "Lower the limit, or give the daemon's machine more.", **facts)
    memory, cores = host["Memory"] >> 20, host["CpuQuota"] / host["CpuPeriod"]
    return passed(
        f"Read back from the daemon: {memory} MiB without swap, {cores:g} cores, {host['PidsLimit']} processes, "
        "no capabilities, no new privileges, a read-only root.",
        **facts,
    )


async def _asked(settings: DockerSettings, path: str) -> dict[str, Any]:
    return msgspec.json.decode((await ask(settings, path)).body, type=dict[str, Any])


ROW: Final = Row(name="resource-limits", look=_look, seconds=30)
