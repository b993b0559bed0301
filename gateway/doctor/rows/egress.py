"""What a session reaches and should not: tried from inside a container on the session network.

Only the daemon's machine can hold sessions back (``docker/firewall.py``), and a gateway elsewhere cannot see whether it
does. An address where nobody listens tells nothing, so what is out of reach may be closed or merely absent.
"""

import asyncio
from typing import Final
from urllib.parse import urlsplit

from docker.aiodocker_service import AiodockerService
from docker.service import ContainerState
from docker.settings import daemon_url
from gateway.doctor.probe import probing
from gateway.doctor.row import Finding, Row, passed, warned
from gateway.doctor.surroundings import Surroundings
from gateway.settings import Settings

_METADATA: Final = ("169.254.169.254", 80)  # a cloud's credentials for its machine
_POSTGRES: Final = 5432
_LOCAL: Final = ("", "127.0.0.1", "::1", "localhost")
# busybox is in every image of ours. -e runs a program once the connection is there: the exit code tells.
_TRY: Final = (
    'for each in "$@"; do (busybox nc -w 3 "${each%|*}" "${each##*|}" -e /bin/true </dev/null >/dev/null 2>&1 '
    '&& echo "$each") & done; wait'
)

Targets = dict[str, tuple[str, int]]


def targets(settings: Settings, machine: str | None) -> Targets:
    """What should be out of reach, by what it is. ``machine``: the daemon's, as containers see it."""
    found: Targets = {"link-local metadata": _METADATA}
    daemon = urlsplit(daemon_url(settings.docker))
    places = [("the daemon", str(daemon.hostname or ""), daemon.port or 443)]
    places.append(("the database", settings.database.db_host, settings.database.db_port))
    port = settings.server.gateway_bind.rpartition(":")[2]
    if machine is not None:
        places += [("the daemon on its machine", machine, daemon.port or 443)]
        places += [("a Postgres on the daemon's machine", machine, _POSTGRES)]
        places += [("a gateway on the daemon's machine", machine, int(port))] if port.isdigit() else []
    for name, host, number in places:
        if host not in _LOCAL and not host.startswith("/") and number:
            found[name] = (host, number)
    return found


async def _look(here: Surroundings) -> Finding:
    async with here.docker() as service:
        tried = targets(here.settings(), await service.host_address())
        words = [f"{host}|{port}" for host, port in tried.values()]
        async with probing(here, service, ("/bin/sh", "-c", _TRY, "sh", *words)) as probe:
            await service.start_container(probe.info.id)
            await _until_ended(service, probe.info.id)
            said = await service.logs(probe.info.id)
    reached = [name for name, (host, port) in tried.items() if f"{host}|{port}" in said]
    addresses = {name: f"{host} port {port}" for name, (host, port) in tried.items()}
    if reached:
        told = ", ".join(f"{name} ({addresses[name]})" for name in reached)
        return warned(
            f"A session reaches {told}.",
            "Close them on the daemon's machine: docker/scripts/setup-session-firewall.sh.",
            reached=reached,
            tried=addresses,
        )
    return passed(f"None of {len(tried)} addresses answers a session: {', '.join(tried)}.", reached=[], tried=addresses)


async def _until_ended(service: AiodockerService, container_id: str) -> None:
    """The row's time bounds it."""
    while True:
        info = await service.get_container_info(container_id)
        if info is None or info.state is not ContainerState.RUNNING:
            return
        await asyncio.sleep(0.1)


ROW: Final = Row(name="egress", look=_look, seconds=30)
