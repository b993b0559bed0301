"""A small Postgres of one test that can be copied, and put back as the copy has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from events import embedded, embedded_place, schema
from events.embedded import EmbeddedPostgres
from tests.event_fixtures import APP_USER, LogDatabase


class Cluster:
    """Started, stopped, backed up and restored; its address stays."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._server: EmbeddedPostgres | None = None

    async def start(self) -> None:
        self._server = await embedded.start(self._data_dir)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    @property
    def log(self) -> LogDatabase:
        assert self._server is not None
        admin = urlunsplit(urlsplit(self._server.admin_dsn)._replace(path="/log"))
        return LogDatabase(admin, self._server.dsn_for(APP_USER, "log"))

    async def make_log(self) -> None:
        assert self._server is not None
        await schema.provision(self._server.admin_dsn, APP_USER, "log")
        await schema.apply(self.log.admin_dsn, APP_USER)

    async def back_up(self) -> None:
        """A cold physical copy beside the cluster."""
        await self.stop()
        await _run("cp", "-a", self._files, self._backup)  # with its owner
        await self.start()

    async def restore(self) -> None:
        await self.stop()
        await _run("rm", "-r", self._files)
        await _run("cp", "-a", self._backup, self._files)
        await self.start()

    @property
    def _files(self) -> Path:
        place = embedded_place.find(self._data_dir.resolve())
        assert place is not None
        return place.data

    @property
    def _backup(self) -> Path:
        return self._files.with_name("backup")


@asynccontextmanager
async def cluster_of(data_dir: Path) -> AsyncIterator[Cluster]:
    """A running one with a log in it; nothing is left of it afterwards."""
    made = Cluster(data_dir)
    try:
        await made.start()
        await made.make_log()
        yield made
    finally:
        await made.stop()
        await embedded.remove(data_dir)


async def _run(*command: object) -> None:
    process = await asyncio.create_subprocess_exec(*map(str, command))
    assert await process.wait() == 0, command
