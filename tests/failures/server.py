"""A Postgres that a test may kill, freeze and start again; nobody else is on it meanwhile."""

import fcntl
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, Self
from unittest.mock import patch

import msgspec
import psutil

from events import embedded, embedded_place, postgres
from events.embedded import EmbeddedPostgres
from tests.event_fixtures import LogDatabase, connection, log_database, until
from tests.failures import small_disk

_SEVERITY: Final = re.compile(r"\b(ERROR|FATAL|PANIC): ")
WRITERS: Final = """
select pid from pg_stat_activity where application_name = 'session-gateway writer' and datname = current_database()
"""


class OwnServer:
    """The server of ``data_dir``. Made by ``started``."""

    def __init__(self, data_dir: Path, system_dir: Path) -> None:
        self._data_dir = data_dir
        self._system_dir = system_dir
        self._users: list[EmbeddedPostgres] = []
        self._database: LogDatabase | None = None

    @property
    def database(self) -> LogDatabase:
        """The log of ``with_log``."""
        assert self._database is not None
        return self._database

    @asynccontextmanager
    async def with_log(self, *, partition_size: int | None = None) -> AsyncIterator[Self]:
        """An empty log on a server that answers, and does again afterwards, whatever the test did to it."""
        await self.revive()
        async with log_database(self._users[-1], partition_size=partition_size) as self._database:
            try:
                yield self
            finally:
                await self.revive()

    @property
    def cluster(self) -> Path:
        with self._placed():
            place = embedded_place.find(self._data_dir)
        assert place is not None
        return place.data

    @property
    def postmaster(self) -> psutil.Process:
        process = psutil.Process(int((self.cluster / "postmaster.pid").read_text().split()[0]))
        if process.name() != "postgres":
            raise psutil.NoSuchProcess(process.pid, msg="another process has its pid now")
        return process

    def kill(self) -> None:
        """kill -9 of the postmaster; its children end when they see that it is gone."""
        self.postmaster.kill()

    async def restart(self) -> None:
        """As another gateway would start it: by ``embedded``, which waits for the last of the former server."""
        assert await self.revive() == "started"

    async def revive(self) -> embedded.How:
        """Start it if it is gone; either way it answers afterwards."""
        with self._placed():
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

    async def writers(self) -> list[int]:
        """The pids of the backends that append to this log."""
        async with connection(self.database.admin_dsn) as admin:
            return [row["pid"] for row in await admin.fetch(WRITERS)]

    async def _kill_writers(self) -> int:
        try:
            pids = await self.writers()
        except postgres.UNSURE:
            return 0
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP of every process, the postmaster first so that it forks no other; SIGCONT afterwards."""
        try:
            self._signal(signal.SIGSTOP)
            yield
        finally:
            self._signal(signal.SIGCONT)

    def thaw(self) -> None:
        """For a server whose freezer was killed; nothing where none runs."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            self._signal(signal.SIGCONT)

    def _signal(self, order: signal.Signals) -> None:
        postmaster = self.postmaster
        postmaster.send_signal(order)
        for process in postmaster.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a session that was just ending
                process.send_signal(order)

    async def remove(self) -> None:
        """Stop it and delete its files."""
        for user in self._users:
            await user.stop()
        with self._placed():
            await embedded.remove(self._data_dir)

    def _placed(self) -> AbstractContextManager[object]:
        """For root, who has no say in it, the launcher keeps clusters in one directory of the machine."""
        return patch.object(embedded_place, "SYSTEM_DIR", self._system_dir)


@asynccontextmanager
async def started(data_dir: Path, *, disk: Path | None = None) -> AsyncIterator[OwnServer]:
    """A new server, gone with its files afterwards. ``disk``: where root's lie, if not in the usual place."""
    server = OwnServer(data_dir, embedded_place.SYSTEM_DIR if disk is None else disk / "postgres")
    try:
        await server.revive()
        yield server
    finally:
        await server.remove()


async def bury(data_dir: Path) -> None:
    """Remove what a killed test session left in ``data_dir`` and in memory; not what is in use."""
    pointer = embedded_place.read(data_dir / "postgres.json")
    users = embedded_place.try_lock(data_dir / "postgres.users", fcntl.LOCK_EX) if pointer else None
    if users is None:
        return
    os.close(users)
    cluster = Path(msgspec.json.decode(pointer, type=embedded_place.Pointer).cluster)
    former = OwnServer(data_dir, cluster.parent)
    former.thaw()
    await former.remove()
    small_disk.unmount(cluster.parents[1])
