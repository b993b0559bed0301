"""aiodocker's clients: the one in use, and former ones for as long as a conversation on them lasts.

Each belongs to one identity. When other certificate files are in use, the next conversation has a new client, and so
new connections; what is under way ends on the client that it began on, which is closed after its last conversation.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiodocker
import aiohttp

from docker.identity import Credentials, Identity
from docker.settings import DockerSettings, daemon_url


class _Client:
    __slots__ = ("calls", "docker", "identity")

    def __init__(self, docker: aiodocker.Docker, identity: Identity) -> None:
        self.docker, self.identity, self.calls = docker, identity, 0


class Clients:
    """The clients of one daemon."""

    def __init__(self, settings: DockerSettings, credentials: Credentials) -> None:
        self._settings, self._credentials = settings, credentials
        self._current: _Client | None = None
        self._former: set[_Client] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._former) + len(self._closing) + (self._current is not None)

    def current(self) -> aiodocker.Docker:
        """The one that a conversation begins on now. Raises BadCertificateFiles, BadDockerSettings."""
        return self._now().docker

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[aiodocker.Docker]:
        """The one in use, open until the end of the block whatever takes its place meanwhile."""
        client = self._now()
        client.calls += 1
        try:
            yield client.docker
        finally:
            client.calls -= 1
            self._close_unused(client)

    async def close(self) -> None:
        """Close all of them, whatever they are used for; a later conversation has a new one."""
        clients = [*self._former, *([self._current] if self._current is not None else [])]
        self._former, self._current = set(), None
        for client in clients:
            await client.docker.close()
        await asyncio.gather(*self._closing)

    def _now(self) -> _Client:
        identity = self._credentials.identity()
        if self._current is None or self._current.identity is not identity:
            former, self._current = self._current, _Client(self._made(identity), identity)
            if former is not None:
                self._former.add(former)
                self._close_unused(former)
        return self._current

    def _made(self, identity: Identity) -> aiodocker.Docker:
        settings = self._settings
        limits = aiohttp.ClientTimeout(total=settings.docker_call_timeout, sock_connect=settings.docker_connect_timeout)
        return aiodocker.Docker(url=daemon_url(settings), ssl_context=identity.context, timeout=limits)

    def _close_unused(self, client: _Client) -> None:
        """In a task of its own: whose conversation was the last may have been cancelled, and waits for nothing."""
        if client.calls == 0 and client in self._former:
            self._former.remove(client)
            task = asyncio.create_task(client.docker.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
