"""Conversations with the Docker daemon over mutual TLS, and what their failures mean: aiodocker's exceptions end here.

Connections are made by the first call (``client_pool``). What is said over them stands in ``aiodocker_service``,
``networks`` and ``subscription``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiodocker
import aiohttp
import msgspec
from aiodocker.exceptions import DockerError as ForeignError

from docker.client_pool import Clients
from docker.errors import (
    BadDockerSettings,
    ContainerGone,
    DaemonFailed,
    DaemonPlainText,
    DockerError,
    NoDaemon,
)
from docker.identity import Credentials
from docker.refusals import failure_of
from docker.settings import DockerSettings
from docker.tls import PLAIN_TEXT_ANSWER


class Connection:
    """Lends aiodocker's client for each conversation; whatever it raises becomes an error of this room."""

    def __init__(self, settings: DockerSettings, credentials: Credentials) -> None:
        self._settings, self._credentials = settings, credentials
        self.clients = Clients(settings, credentials)
        self.accepted = False  # the daemon has answered a call of ours
        self.epoch = 0  # counts up whenever another daemon may have taken the place of the one that answered
        self._lost = False
        self._listeners: list[Callable[[], object]] = []

    async def close(self) -> None:
        await self.clients.close()

    def on_return(self, listener: Callable[[], object]) -> None:
        """``listener`` is told when the daemon answers again after a connection was lost or refused."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def call(
        self, what: str, *, seconds: float | None = None, gone: str | None = None
    ) -> AsyncIterator[aiodocker.Docker]:
        """One bounded conversation with the daemon; ``gone`` names the container that a 404 is about."""
        async with self.mapped(what, gone), self.clients.lent() as client:
            async with asyncio.timeout(seconds or self._settings.docker_call_timeout):
                yield client
        self._answered()

    @asynccontextmanager
    async def mapped(self, what: str, gone: str | None = None) -> AsyncIterator[None]:
        """Turn whatever aiodocker, aiohttp or the socket raises into an error of this room."""
        try:
            yield
        except ForeignError as error:
            if error.status == 404 and gone is not None and "no such container" in error.message.lower():
                raise ContainerGone(f"There is no container {gone}.") from error
            raise await self._translated(error, what) from error
        except ExceptionGroup as group:
            raise await self._translated(group.exceptions[0], what) from group
        except (aiohttp.ClientError, OSError, EOFError) as error:
            raise await self._translated(error, what) from error
        except (TypeError, ValueError, KeyError, msgspec.ValidationError) as error:
            # From aiodocker, or our own reading, over an answer of another shape.
            raise NoDaemon(f"What answers at {self._address} cannot be understood as a Docker daemon.") from error

    async def _translated(self, error: Exception, what: str) -> DockerError:
        address = self._address
        if isinstance(error, DockerError):
            return error
        if isinstance(error, aiohttp.ClientResponseError):
            return NoDaemon(f"What answers at {address} speaks TLS, but not HTTP.")
        if not isinstance(error, ForeignError) or error.status == 900:  # aiodocker's own number for "no connection"
            return await self._connection_failure(error)
        if error.status == 400 and PLAIN_TEXT_ANSWER in error.message:
            # We speak nothing but TLS, so this is a proxy before the daemon that took ours off.
            return DaemonPlainText(f"What answers at {address} speaks plain HTTP to a daemon that wants TLS.")
        if "cannot assign requested address" in error.message:  # by the kernel, of the one port that we ask for
            return BadDockerSettings(
                f"PUBLISH_ADDRESS={self._settings.publish_address} is no address of the daemon's machine: no container "
                "starts with its port there. Let it be one of that machine's own."
            )
        return DaemonFailed(f"The daemon could not {what}: {error.message.strip()} (status {error.status}).")

    def _answered(self) -> None:
        self.accepted = True
        if self._lost:
            self._lost = False
            for listener in self._listeners:
                listener()

    async def _connection_failure(self, error: Exception) -> DockerError:
        self._lost = True
        self.epoch += 1
        # aiohttp does not always show a lost connection as an OSError
        lost = isinstance(error, ForeignError | aiohttp.ClientConnectionError | aiohttp.ClientPayloadError)
        # The one that was refused: what lies in the files now may be another, which is not in use.
        shown = self._credentials.in_use or self._credentials.identity()
        return await failure_of(
            error, self._settings, self._address, lost=lost, context=shown.context, shown=shown.held
        )

    @property
    def _address(self) -> str:
        """As the operator wrote it."""
        return self._settings.docker_host or self._settings.docker_host_ip
