"""aiodocker's clients: the one in use, and former ones for as long as a conversation on them lasts.

Each belongs to one identity. When other certificate files are in use, the next conversation has a new client, and so
new connections; what is under way ends on the client that it began on, which is closed after its last conversation.

Many conversations that begin at once must not hold up the event loop. What took its time was measured: one TLS
handshake is 2 ms, and a hundred at once, all ready in the same turn of the loop, kept others waiting for 230 ms. So few
are made at a time, and who waits takes a connection that came free meanwhile.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from ssl import SSLContext
from typing import Final

import aiodocker
import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from docker.identity import Credentials, Identity
from docker.settings import DockerSettings, daemon_url

HANDSHAKES: Final = 2  # at a time
HANDSHAKE_SECONDS: Final = 0.05  # one that takes longer waits for the daemon, and holds up no other
BEGINNINGS: Final = 4  # conversations that begin in one turn of the event loop


class _Resolver(aiohttp.ThreadedResolver):
    """aiohttp bounds a connection's time from the address on: a name server that is away held a call up for 10 s."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        async with asyncio.timeout(self._seconds):
            return await super().resolve(host, port, family)


class _Connector(aiohttp.TCPConnector):
    """Few handshakes at a time, and no bound on conversations: some last long (a stop, the stream of events)."""

    def __init__(self, *, ssl: SSLContext, resolver: AbstractResolver) -> None:
        super().__init__(ssl=ssl, resolver=resolver, limit=0)  # aiohttp's own is 100
        self._turns = asyncio.Semaphore(HANDSHAKES)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection that is free, else a new one; whoever waits for his turn looks for a free one after it."""
        await self._turns.acquire()
        with ExitStack() as turn:
            turn.callback(self._turns.release)
            over = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, turn.close)
            turn.callback(over.cancel)
            return await super().connect(req, traces, timeout)


class _Client:
    __slots__ = ("_connector", "calls", "docker", "identity")

    def __init__(self, settings: DockerSettings, identity: Identity) -> None:
        seconds = settings.docker_connect_timeout
        limits = aiohttp.ClientTimeout(total=settings.docker_call_timeout, sock_connect=seconds)
        url = daemon_url(settings)
        self._connector = _Connector(ssl=identity.context, resolver=_Resolver(seconds))
        self.docker = aiodocker.Docker(url=url, connector=self._connector, timeout=limits)
        self.identity, self.calls = identity, 0

    async def close(self) -> None:
        await self.docker.close()
        await self._connector.close()  # aiodocker leaves what it was given


class Clients:
    """The clients of one daemon."""

    def __init__(self, settings: DockerSettings, credentials: Credentials) -> None:
        self._settings, self._credentials = settings, credentials
        self._current: _Client | None = None
        self._former: set[_Client] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._beginning = asyncio.Semaphore(BEGINNINGS)

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
        async with self._beginning:
            await asyncio.sleep(0)
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
            await client.close()
        await asyncio.gather(*self._closing)

    def _now(self) -> _Client:
        identity = self._credentials.identity()
        if self._current is None or self._current.identity is not identity:
            former, self._current = self._current, _Client(self._settings, identity)
            if former is not None:
                self._former.add(former)
                self._close_unused(former)
        return self._current

    def _close_unused(self, client: _Client) -> None:
        """In a task of its own: whose conversation was the last may have been cancelled, and waits for nothing."""
        if client.calls == 0 and client in self._former:
            self._former.remove(client)
            task = asyncio.create_task(client.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
