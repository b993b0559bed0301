"""A load in a process of its own, as a gateway is: its notes go to stdout, a line each, until stdin ends.

``python -m tests.failures.load_process NAME DSN CONTESTED``
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

import msgspec

from tests.event_fixtures import open_store
from tests.failures.ledger import SECONDS, Note, Watched
from tests.failures.load import Load

_REPOSITORY: Final = Path(__file__).parents[2]


class LoadProcess(Watched):
    """The parent's end. Made by ``started``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process

    async def read(self) -> None:
        """All notes, to the end. The last line of a process that was killed may be torn."""
        assert self._process.stdout is not None
        while (line := await self._process.stdout.readline()).endswith(b"\n"):
            await self.note(msgspec.json.decode(line, type=cast("type[Note]", Note)))

    async def end(self) -> None:
        """Have what was begun acknowledged; AssertionError unless the process ends well."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert await asyncio.wait_for(self._process.wait(), SECONDS) == 0

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def started(name: str, dsn: str, contested: str = "") -> AsyncIterator[LoadProcess]:
    """A load that runs; killed afterwards unless it was ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.failures.load_process", name, dsn, contested),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_REPOSITORY,
    )
    load = LoadProcess(process)
    reading = asyncio.create_task(load.read())
    try:
        yield load
    finally:
        await load.kill()
        await reading


class _ToldLoad(Load):
    async def note(self, note: Note) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(note) + b"\n")
        sys.stdout.buffer.flush()
        await super().note(note)


async def _main(name: str, dsn: str, contested: str) -> None:
    async with open_store(dsn) as store:
        load = _ToldLoad(store, name=name, contested=contested or None)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            await asyncio.to_thread(sys.stdin.read)
            load.end()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
