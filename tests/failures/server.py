"""A Postgres that one test has for itself, and may kill, freeze and start again."""

import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import psutil

from events import embedded, embedded_place, postgres, schema
from events.embedded import EmbeddedPostgres
from tests.event_fixtures import APP_USER, LogDatabase, as_user, connection, ensure_role, until

_SEVERITY: Final = re.compile(r"\b(ERROR|FATAL|PANIC): ")
WRITERS: Final = "select pid from pg_stat_activity where application_name = 'session-gateway writer'"


class OwnServer:
    """The server of ``data_dir`` with a log in it. Made by ``started``."""

    def __init__(self, data_dir: Path, users: list[EmbeddedPostgres]) -> None:
        self.database = LogDatabase(users[0].admin_dsn, as_user(users[0].admin_dsn, APP_USER))
        self._data_dir = data_dir
        self._users = users

    @property
    def cluster(self) -> Path:
        place = embedded_place.find(self._data_dir)
        assert place is not None
        return place.data

    @property
    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.cluster / "postmaster.pid").read_text().split()[0]))

    def kill(self) -> None:
        """kill -9 of the postmaster; its children end when they see that it is gone."""
        self.postmaster.kill()

    async def restart(self) -> None:
        """As another gateway would start it: by ``embedded``, which waits for the last of the former server."""
        assert await self.revive() == "started"

    async def revive(self) -> embedded.How:
        """Start it if it is gone; either way it answers afterwards."""
        self._users.append(await embedded.start(self._data_dir))
        return self._users[-1].how

    def said(self, what: str) -> Counter[str]:
        """How often its own log has lines with ``what``, by their severity."""
        lines = [line for file in (self.cluster / "log").iterdir() for line in file.read_text().splitlines()]
        return Counter(match[1] for line in lines if what in line and (match := _SEVERITY.search(line)))

    async def kill_writers(self) -> int:
        """kill -9 of the backends that append; waits while there is none, or while the server recovers."""
        killed = 0

        async def some() -> int:
            nonlocal killed
            killed = await self._kill_writers()
            return killed

        await until(some)
        return killed

    async def _kill_writers(self) -> int:
        try:
            async with connection(self.database.admin_dsn) as admin:
                pids = [row["pid"] for row in await admin.fetch(WRITERS)]
        except postgres.UNSURE:
            return 0
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP of every process, the postmaster first so that it forks no other; SIGCONT afterwards."""
        postmaster = self.postmaster
        postmaster.suspend()
        stopped = [postmaster, *postmaster.children(recursive=True)]
        try:
            for process in stopped[1:]:
                process.suspend()
            yield
        finally:
            for process in stopped:
                process.resume()

    async def stop(self) -> None:
        for user in self._users:
            await user.stop()


@asynccontextmanager
async def started(data_dir: Path, *, partition_size: int | None = None) -> AsyncIterator[OwnServer]:
    """A new server; whatever the test did to it, no process and no file of it is left."""
    first = await embedded.start(data_dir)
    server = OwnServer(data_dir, [first])
    try:
        await ensure_role(first.admin_dsn, APP_USER)
        await schema.apply(first.admin_dsn, APP_USER, partition_size=partition_size)
        yield server
    finally:
        await server.stop()
        await embedded.remove(data_dir)
