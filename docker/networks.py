"""The network of the session containers on a daemon: made when absent, one of its name, and its gateway's address.

What it looks like is ``spec.network_body``.
"""

import asyncio
import logging
from typing import Any

import aiodocker
from aiodocker.exceptions import DockerError as ForeignError

from docker.errors import LimitsNotApplied
from docker.firewall_rules import BRIDGE_OPTION
from docker.readback import network_departures
from docker.settings import DockerSettings
from docker.spec import network_body

log = logging.getLogger("session_gateway.session_network")


class SessionNetwork:
    """SESSION_NETWORK on one daemon. Raises LimitsNotApplied, aiodocker's errors: called inside ``Connection.call``."""

    def __init__(self, settings: DockerSettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._told = False

    async def ensure(self, client: aiodocker.Docker) -> None:
        """Make it when it is absent; asked each time, because an operator may prune networks."""
        name = self._settings.session_network
        async with self._lock:
            if not (found := await _networks(client, name)):
                found = await self._made(client)
            # Gateways can outrun the daemon's check for a second one of that name: who sees two removes one, unused.
            oldest, *younger = sorted(found, key=lambda network: (network["Created"], network["Id"]))
            if not all([await _removed(client, network["Id"]) for network in younger]):
                await _removed(client, oldest["Id"])
            if clauses := network_departures(oldest, self._settings):
                raise LimitsNotApplied(
                    f"The network {name} cannot serve ({'; '.join(clauses)}): remove it, or set SESSION_NETWORK."
                )
            self._tell_of_another_bridge(oldest)

    async def gateway(self, client: aiodocker.Docker) -> str | None:
        """Its gateway's address: the daemon's machine, as containers reach it. None when it has none."""
        await self.ensure(client)
        (network, *_) = await _networks(client, self._settings.session_network)
        ranges = (network.get("IPAM") or {}).get("Config") or []
        return next((each["Gateway"].partition("/")[0] for each in ranges if each.get("Gateway")), None)

    async def _made(self, client: aiodocker.Docker) -> list[dict[str, Any]]:
        try:
            await client.networks.create(network_body(self._settings))
        except ForeignError as error:
            if error.status != 403:
                raise
            # Another gateway was faster: a daemon takes one network of that interface, and lists it a moment later.
            for _ in range(20):
                if found := await _networks(client, self._settings.session_network):
                    return found
                await asyncio.sleep(0.05)
            raise
        return await _networks(client, self._settings.session_network)

    def _tell_of_another_bridge(self, network: dict[str, Any]) -> None:
        """Once: sessions go on, and the firewall does not know them."""
        wanted = network_body(self._settings)["Options"][BRIDGE_OPTION]
        found = (network.get("Options") or {}).get(BRIDGE_OPTION) or f"br-{network['Id'][:12]}"
        if found != wanted and not self._told:
            self._told = True
            log.warning(
                "The interface of the network %s is %s, not %s, so a firewall for the latter does not hold its "
                "sessions: remove the network when no session runs, and it is made anew.",
                self._settings.session_network,
                found,
                wanted,
            )


async def _networks(client: aiodocker.Docker, name: str) -> list[dict[str, Any]]:
    found = await client.networks.list(filters={"name": name})  # the daemon's filter also finds longer names
    return [network for network in found if network["Name"] == name]


async def _removed(client: aiodocker.Docker, network_id: str) -> bool:
    """False when a container is in it."""
    try:
        await (await client.networks.get(network_id)).delete()
    except ForeignError as error:
        if error.status not in (403, 404, 409):
            raise
        return error.status == 404
    return True
