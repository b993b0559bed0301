"""The Docker daemon over mutual TLS, as a ``DockerService``.

The conversation itself is ``connection``, the network of the sessions ``networks``. Nothing is pulled: an image that is
not there is ``ImageMissing``.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import IO, Any, Self

import aiodocker
import aiohttp
import msgspec
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError as ForeignError

from docker.answers import container_info, image_of, volumes_of
from docker.connection import Connection
from docker.errors import (
    BadDockerSettings,
    ContainerRunning,
    DockerError,
    HostDirRefused,
    ImageMissing,
    LimitsNotApplied,
    NameTaken,
    VolumeInUse,
)
from docker.handshake import shown_certificate
from docker.host_ip import HostAddress, published
from docker.identity import Certificate, Credentials
from docker.networks import SessionNetwork
from docker.readback import (
    cannot_give,
    daemon_departures,
    departures,
    more_than_there_is,
    read_back,
    refusal,
)
from docker.service import Capability, ContainerEvent, ContainerInfo, ContainerState, Mount, VolumeInfo
from docker.settings import DockerSettings, daemon_url
from docker.spec import Body, container_body
from docker.subscription import events

_PING_SECONDS = 5.0
_IMPORT_SECONDS = 600.0
_PARALLEL_INSPECTS = 8
_POLL_SECONDS = 0.05


class AiodockerService:
    """A ``DockerService`` on a real daemon. ``settings`` are checked when the first call connects."""

    runtime = "docker"
    capabilities = frozenset(
        {Capability.LIMITS, Capability.ISOLATION, Capability.ADOPTION, Capability.EXIT_CODE, Capability.HOST_DIRS}
    )

    def __init__(self, settings: DockerSettings, host: HostAddress | None = None) -> None:
        self._settings = settings
        self.host = host or HostAddress(settings)  # where published ports are reached
        self.credentials = Credentials(settings)
        self._connection = Connection(settings, self.credentials)
        self._network = SessionNetwork(settings)
        self._looked_in = -1  # the connection's epoch in which the daemon was found to hold sessions
        self._looking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._connection.clients.current()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection; a later call makes new ones."""
        await self._connection.close()

    async def create_container(
        self,
        name: str,
        image: str,
        *,
        environment: Mapping[str, str] = {},
        labels: Mapping[str, str] = {},
        volumes: tuple[Mount, ...] = (),
        port: int = 4096,
        command: tuple[str, ...] | None = None,
    ) -> ContainerInfo:
        """As the contract says. One request makes container and volumes, so a cancelled call leaves all or nothing."""
        publishing = await self.host.publishing()
        body = container_body(
            publishing,
            image=image,
            environment=environment,
            labels=labels,
            volumes=volumes,
            port=port,
            command=command,
        )
        async with self._connection.call(f"create container {name}") as client:
            await self._network.ensure(client)
            await self._demand_of_daemon(client)
            # A name is reserved before the container can be inspected, and freed after it cannot: between the two
            # (a create cancelled a moment ago, a removal at work) we ask again. ``_call`` bounds it.
            while True:
                info = await self._create(client, name, body, publishing)
                info = info or await self._existing(client, name, body, publishing)
                if info is not None:
                    return info
                await asyncio.sleep(_POLL_SECONDS)

    async def start_container(self, container_id: str) -> None:
        async with self._connection.call(f"start container {container_id}", gone=container_id) as client:
            await client.containers.container(container_id).start()

    async def stop_container(self, container_id: str, timeout: int = 10) -> None:
        limit = self._settings.docker_call_timeout + timeout
        async with self._connection.call(f"stop container {container_id}", seconds=limit) as client:
            try:
                await client.containers.container(container_id).stop(t=timeout, timeout=_total(limit))
            except ForeignError as error:
                if error.status != 404:
                    raise

    async def remove_container(self, container_id: str, force: bool = False) -> None:
        async with self._connection.call(f"remove container {container_id}") as client:
            container = client.containers.container(container_id)
            try:
                # v: anonymous volumes of the image go with it; named ones stay.
                await container.delete(force=force, v=True, timeout=_total(self._settings.docker_call_timeout))
            except ForeignError as error:
                if error.status == 409 and "in progress" in error.message:
                    await _wait_until_gone(container)
                elif error.status == 409:
                    raise ContainerRunning(
                        f"Container {container_id} is running: stop it first or use force."
                    ) from error
                elif error.status != 404:
                    raise

    async def get_container_info(self, container_id: str) -> ContainerInfo | None:
        async with self._connection.call(f"inspect container {container_id}") as client:
            answer = await _inspect(client, container_id)
        if answer is None:
            return None
        await self.host.find()
        return self._info(answer)

    async def list_containers(self, all: bool = False, labels: Mapping[str, str] = {}) -> list[ContainerInfo]:
        filters = json.dumps({"label": [f"{key}={value}" for key, value in labels.items()]})
        gate = asyncio.Semaphore(_PARALLEL_INSPECTS)
        async with self._connection.call("list containers") as client:

            async def inspect(container_id: str) -> dict[str, Any] | None:
                async with gate:
                    return await _inspect(client, container_id)

            found = await client.containers.list(all=all, filters=filters)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(inspect(container.id)) for container in found]
            answers = [task.result() for task in tasks]
        if answers:
            await self.host.find()
        return [self._info(answer) for answer in answers if answer is not None]

    async def list_volumes(self, labels: Mapping[str, str] = {}) -> list[VolumeInfo]:
        filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
        async with self._connection.call("list volumes") as client:
            volumes: Any = client.volumes  # untyped in aiodocker
            answer = await volumes.list(filters=filters)
            return volumes_of(answer)

    async def remove_volume(self, name: str) -> None:
        async with self._connection.call(f"remove volume {name}") as client:
            await _remove_volume(client, name)

    async def logs(self, container_id: str, tail: int = 50) -> list[str]:
        async with self._connection.call(f"read logs of container {container_id}", gone=container_id) as client:
            limit = _total(self._settings.docker_call_timeout)
            container = client.containers.container(container_id)
            pieces = await container.log(stdout=True, stderr=True, tail=tail, timeout=limit)
        return "".join(pieces).splitlines()

    def events(self, past: bool = False) -> AsyncIterator[ContainerEvent]:
        """As the contract says; goes on when the daemon comes back and when other certificates are in use."""
        return events(self._connection, past)

    async def ping(self) -> bool:
        try:
            async with self._connection.call("ping", seconds=_PING_SECONDS) as client:
                await client.version()
        except DockerError:
            return False
        return True

    async def image_id(self, name: str) -> str | None:
        """The id of an image on the daemon's machine; None when it is not there."""
        async with self._connection.call(f"inspect image {name}") as client:
            try:
                return str((await client.images.inspect(name))["Id"])
            except ForeignError as error:
                if error.status == 404:
                    return None
                raise

    async def load_image(self, archive: IO[bytes]) -> None:
        """Give the daemon an image in the form that ``docker save`` writes, name included."""
        async with self._connection.call("load image", seconds=_IMPORT_SECONDS) as client:
            await client.images.import_image(archive, timeout=_total(_IMPORT_SECONDS))

    async def _create(
        self, client: aiodocker.Docker, name: str, body: Body, settings: DockerSettings
    ) -> ContainerInfo | None:
        """A new container, read back; None when the name is taken."""
        try:
            container = await client.containers.create(body, name=name)
        except ForeignError as error:
            if error.status == 409:
                return None
            if error.status == 404 and "no such image" in error.message.lower():
                raise ImageMissing(
                    f"The image {body['Image']} is not on the daemon's machine: build it there."
                ) from error
            if error.status == 400 and "bind source path does not exist" in error.message:
                raise HostDirRefused(
                    "The daemon does not see the folder: it runs on another machine, or in another file system, than "
                    "the gateway."
                ) from error
            raise
        answer = await container.show()
        if clauses := _departures(answer, body, settings):
            await container.delete(force=True, v=True)
            raise LimitsNotApplied(refusal(clauses))
        return self._info(answer)

    async def _existing(
        self, client: aiodocker.Docker, name: str, body: Body, settings: DockerSettings
    ) -> ContainerInfo | None:
        """The container that has the name, if it is the one that was asked for; None when there is none now."""
        answer = await _inspect(client, name)
        if answer is None:
            return None
        info = self._info(answer)
        # The daemon adds the image's labels to those that were asked for.
        inherited = await _image_labels(client, image_of(answer))
        if body["Labels"] | inherited != dict(info.labels) | inherited:
            raise NameTaken(f"A container named {name} exists with other labels.")
        if info.state is not ContainerState.CREATED:
            _demand(list(info.breaches))
        elif _departures(answer, body, settings):
            # Made before the settings changed, or by a call that was cancelled before it could look: made anew.
            await client.containers.container(info.id).delete(force=True, v=True)
            return None
        return info

    async def _demand_of_daemon(self, client: aiodocker.Docker) -> None:
        """Once for each time that it may have started: its answer takes longer than a create."""
        async with self._looking:
            epoch = self._connection.epoch
            if self._looked_in != epoch:
                _demand(daemon_departures(await client.system.info()))
                self._looked_in = epoch

    async def examine(self) -> tuple[str, ...]:
        """Notes on the daemon's machine. Raises LimitsNotApplied, BadDockerSettings when it cannot hold sessions."""
        async with self._connection.call("look at the daemon") as client:
            info = await client.system.info()
        _demand(daemon_departures(info))
        if sentences := cannot_give(info, self._settings):
            raise BadDockerSettings(" ".join(sentences))
        return tuple(more_than_there_is(info, self._settings))

    async def host_address(self) -> str | None:
        """Where a container reaches the daemon's machine: the session network's gateway. None when it has none."""
        async with self._connection.call("look at the session network") as client:
            return await self._network.gateway(client)

    async def daemon_certificate(self) -> Certificate:
        """The certificate that the daemon shows now, over a connection of its own."""
        async with self._connection.mapped("show its certificate"):
            return await shown_certificate(
                daemon_url(self._settings),
                self.credentials.identity().context,
                seconds=self._settings.docker_connect_timeout,
            )

    def on_return(self, listener: Callable[[], object]) -> None:
        """``listener`` is told when the daemon answers again after it was away, or another one has its place."""
        self._connection.on_return(listener)

    def _info(self, answer: Mapping[str, Any]) -> ContainerInfo:
        last = self.host.last
        here, settings = ("", self._settings) if last is None else (last.address, published(self._settings, last)[0])
        return msgspec.structs.replace(
            container_info(answer, host=settings.host_ip, here=here), **read_back(answer, settings)
        )


def _departures(answer: Mapping[str, Any], body: Body, settings: DockerSettings) -> list[str]:
    """Against the settings that ``body`` was made by: the address to publish on may have moved since."""
    folders = [mount["Source"] for mount in body["HostConfig"]["Mounts"] if mount["Type"] == "bind"]
    return departures(answer, settings, labels=body["Labels"], folders=folders)


def _demand(clauses: list[str]) -> None:
    if clauses:
        raise LimitsNotApplied(refusal(clauses))


def _total(seconds: float) -> aiohttp.ClientTimeout:
    """aiodocker waits for ever on stop, delete, logs and load unless it is told otherwise."""
    return aiohttp.ClientTimeout(total=seconds)


async def _inspect(client: aiodocker.Docker, container_id: str) -> dict[str, Any] | None:
    try:
        return await client.containers.container(container_id).show()
    except ForeignError as error:
        if error.status == 404:
            return None
        raise


async def _wait_until_gone(container: DockerContainer) -> None:
    """Return when a removal that is at work already has ended."""
    try:
        await container.wait(condition="removed")
    except ForeignError as error:
        if error.status != 404:
            raise


async def _remove_volume(client: aiodocker.Docker, name: str) -> None:
    try:
        volumes: Any = client.volumes  # untyped in aiodocker
        await (await volumes.get(name)).delete()
    except ForeignError as error:
        if error.status == 409:
            raise VolumeInUse(f"Volume {name} is in use by a container: remove that first.") from error
        if error.status != 404:
            raise


async def _image_labels(client: aiodocker.Docker, image: str) -> dict[str, str]:
    try:
        answer = await client.images.inspect(image)
    except ForeignError as error:
        if error.status == 404:
            return {}
        raise
    return dict(answer["Config"].get("Labels") or {})
