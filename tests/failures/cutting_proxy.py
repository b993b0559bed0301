"""A loopback TCP proxy before Postgres that cuts the writer's connection around a command, and sees what came of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit, urlunsplit

SECONDS: Final = 20.0
_PARSE, _BIND, _SYNC = b"P", b"B", b"S\0\0\0\4"  # a command of asyncpg begins with Bind and ends with Sync
_READY: Final = b"Z\0\0\0\5I"  # Postgres is through with it, and in no transaction
_CHUNK: Final = 65_536


class CuttingProxy:
    """Every ``every``-th append is cut: by turns after all its bytes were sent, and in their middle."""

    def __init__(self, dsn: str, *, every: int) -> None:
        self.sent = 0  # cut after all bytes
        self.committed = 0  # of these, how many Postgres carried out
        self.torn = 0  # cut in the middle
        self._dsn = urlsplit(dsn)
        [folder] = parse_qs(self._dsn.query)["host"]
        self._socket = Path(folder, ".s.PGSQL.5432")
        self._every = every
        self._appends = 0
        self._settled = asyncio.Event()  # no cut command is under way
        self._settled.set()
        self._relays: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The DSN through the proxy."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host = f"{self._dsn.username}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield urlunsplit(self._dsn._replace(netloc=host, query="sslmode=disable"))
        finally:
            server.close()
            for relay in self._relays:
                relay.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        relay = asyncio.create_task(self._relay(reader, client))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        above, server = await asyncio.open_unix_connection(self._socket)
        down = asyncio.create_task(_pass(above, client))
        try:
            hello = await reader.read(_CHUNK)
            writes = b"session-gateway writer" in hello
            if writes:  # a retry must not overtake what was cut
                await asyncio.wait_for(self._settled.wait(), SECONDS)
            server.write(hello)
            cut = await self._pass_commands(reader, server)
            if cut:
                down.cancel()
                await asyncio.wait([down])
                await self._cut(cut, client, above, server)
        finally:
            down.cancel()
            for end in (client, server):
                end.transport.abort()

    async def _pass_commands(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> bytes:
        """The append to be cut; nothing when the client leaves before."""
        command, statement = b"", b""
        while chunk := await reader.read(_CHUNK):
            command += chunk
            if command.startswith(_PARSE) and b"log.append_plain" in command:
                statement = command[5:].partition(b"\0")[0]  # after type and length
            if statement and command.startswith(_BIND) and command[5:].startswith(b"\0" + statement + b"\0"):
                if not command.endswith(_SYNC):
                    continue
                self._appends += 1
                if self._appends % self._every == 0:
                    return command
            server.write(command)
            command = b""
        return b""

    async def _cut(
        self, command: bytes, client: asyncio.StreamWriter, above: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        if self._appends // self._every % 2 == 0:
            self.torn += 1
            server.write(command[: len(command) // 2])
            await server.drain()
            return
        self.sent += 1
        self._settled.clear()
        server.write(command)
        client.transport.abort()
        answer = b""
        try:
            async with asyncio.timeout(SECONDS):
                while not answer.endswith(_READY) and (chunk := await above.read(_CHUNK)):
                    answer += chunk
        finally:
            self.committed += answer.endswith(_READY)
            self._settled.set()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK):
        target.write(chunk)
    target.close()
