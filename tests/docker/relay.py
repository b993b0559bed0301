"""A TCP relay on loopback that can be cut or frozen: a daemon that goes away while others use the real one."""

import asyncio
from types import TracebackType
from typing import Self


class Relay:
    """Passes bytes to ``host:port`` unseen. ``port`` is its own, kept over ``cut`` and ``mend``."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._left: int | None = None  # pieces that still go to the target before it freezes
        self.frozen = asyncio.Event()  # something was kept back
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._tasks)

    async def mend(self) -> None:
        """Listen (again) and pass bytes on."""
        self._left = None
        self.frozen.clear()
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def freeze(self, *, after: int = 0) -> None:
        """Keep every connection and pass nothing on: a machine that hangs; ``after`` so many pieces of ours."""
        self._left = after
        if not after:
            self._flowing.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, there_writer, ours=True))
                    group.create_task(self._pump(there_reader, writer, ours=False))
            finally:
                there_writer.transport.abort()
        except (OSError, ExceptionGroup):
            pass  # either side left
        except asyncio.CancelledError:
            pass  # cut: an asyncio server logs a handler that is cancelled as an error
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, ours: bool) -> None:
        while piece := await reader.read(65536):
            if not self._flowing.is_set():
                self.frozen.set()
            await self._flowing.wait()
            if ours and self._left:
                self._left -= 1
                if not self._left:
                    self._flowing.clear()
            writer.write(piece)
            await writer.drain()
        raise ConnectionResetError("the other side ended")
