"""Surroundings: what the rows look at: the environment, its settings, the daemon and a gateway that runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from docker.diagnose import Diagnosis, diagnose
from docker.image import ECHO_IMAGE, OPENCODE_IMAGE
from docker.settings import DockerSettings
from gateway.control import GatewayClient
from gateway.settings import Settings, load

if TYPE_CHECKING:
    from docker.aiodocker_service import AiodockerService


class NoGateway(Exception):
    """There is no way to a running gateway: no key, or an address that is none. One sentence."""


class NoDaemon(Exception):
    """No daemon is named: there is nothing to look at. One sentence."""


class DaemonUnusable(Exception):
    """A daemon is named and cannot be used."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(diagnosis.sentence)
        self.diagnosis = diagnosis


class Surroundings:
    """Each part is made when the first row asks for it, and once. ``connect`` raises NoGateway."""

    def __init__(self, environment: Mapping[str, str], connect: Callable[[], GatewayClient]) -> None:
        self.environment = environment
        self._connect = connect
        self._settings: Settings | None = None
        self._diagnosis: asyncio.Task[Diagnosis] | None = None

    def settings(self) -> Settings:
        """Raises BadSettings."""
        if self._settings is None:
            self._settings = load(self.environment)
        return self._settings

    @property
    def names_a_daemon(self) -> bool:
        docker = self.settings().docker
        return bool(docker.docker_host or docker.docker_host_ip)

    async def diagnosis(self) -> Diagnosis:
        """Of the daemon that the settings name. Raises NoDaemon when they name none, and sessions may do without."""
        if not self.names_a_daemon and self.settings().sessions.session_runtime != "docker":
            raise NoDaemon("DOCKER_HOST is empty: sessions run without Docker, as plain processes of this machine.")
        if self._diagnosis is None:
            self._diagnosis = asyncio.create_task(diagnose(self.settings().docker))
        return await asyncio.shield(self._diagnosis)  # the next row wants it too

    @asynccontextmanager
    async def docker(self, settings: DockerSettings | None = None) -> AsyncIterator["AiodockerService"]:
        """A service on the daemon. Raises NoDaemon, DaemonUnusable."""
        found = await self.diagnosis()
        if not found.usable:
            raise DaemonUnusable(found)
        from docker.aiodocker_service import AiodockerService  # aiohttp takes 0.4 s to load

        async with AiodockerService(settings or self.settings().docker) as service:
            yield service

    async def session_image(self, service: "AiodockerService") -> str | None:
        """The image that a gateway on these settings would run sessions of; None when it is not on the daemon."""
        wanted = self.settings().sessions.session_image
        for image in (wanted,) if wanted else (OPENCODE_IMAGE, ECHO_IMAGE):
            if await service.image_id(image):
                return image
        return None

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[GatewayClient]:
        """The way to a gateway that may run. Raises NoGateway."""
        async with self._connect() as client:
            yield client
