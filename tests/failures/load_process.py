"""A load in a process of its own, as a gateway is: its notes go to stdout, a line each, until stdin ends.

``python -m tests.failures.load_process NAME DSN [contested=STREAM] [spool=DIRECTORY] [retry_for=SECONDS]``
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast
from unittest.mock import patch

import msgspec

from events import writer
from events.store import EventStore
from tests.event_fixtures import open_store
from tests.failures.ledger import SECONDS, Note, Watched
from tests.failures.load import Load
from tests.failures.spooling import spooling

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
async def started(name: str, dsn: str, **options: object) -> AsyncIterator[LoadProcess]:
    """A load that runs; killed afterwards unless it was ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.failures.load_process", name, dsn),
        *(f"{option}={value}" for option, value in options.items()),
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


@asynccontextmanager
async def _store(name: str, dsn: str, spool: str | None) -> AsyncIterator[EventStore]:
    async with open_store(dsn) as store:
        if spool is None:
            yield store
            return
        async with spooling(store, Path(spool), name) as fallback:
            yield fallback


async def _main(name: str, dsn: str, options: dict[str, str]) -> None:
    patience = float(options.get("retry_for", writer.RETRY_FOR_SECONDS))
    with patch.object(writer, "RETRY_FOR_SECONDS", patience):
        await _load(name, dsn, options)


async def _load(name: str, dsn: str, options: dict[str, str]) -> None:
    async with _store(name, dsn, options.get("spool")) as store, asyncio.TaskGroup() as group:
        load = _ToldLoad(store, name=name, contested=options.get("contested"))
        group.create_task(load.run())
        await asyncio.to_thread(sys.stdin.read)
        load.end()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], dict(option.split("=", 1) for option in sys.argv[3:])))
