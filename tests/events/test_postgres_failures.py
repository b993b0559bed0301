"""Kills, cuts and silence under load: every acknowledged event is in the log once, and every call ends in time."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio

from events import embedded, postgres, writer
from events.embedded import EmbeddedPostgres
from events.envelope import StreamWrite
from events.errors import StoreUnavailable
from events.postgres import PostgresEventStore
from events.store import Appended, EventStore, Outcome
from tests.event_fixtures import (
    SMALL,
    LogDatabase,
    connection,
    log_database,
    open_store,
    until,
)
from tests.factories import new_stream, write

pytestmark = pytest.mark.postgres
SOCKET = ".s.PGSQL.5432"

WRITING = """
select pid from pg_stat_activity where application_name = 'session-gateway writer' and datname = current_database()
"""


class Cutter:
    """A socket before the server's that passes everything on, but cuts the writer off instead of every 17th answer."""

    def __init__(self, dsn: str, folder: Path) -> None:
        [server] = parse_qs(urlsplit(dsn).query)["host"]
        self.dsn = dsn.replace(server, str(folder))
        self.cuts = 0
        self._server = Path(server, SOCKET)
        self._own = folder / SOCKET
        self._answers = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        listener = await asyncio.start_unix_server(self._relay, self._own)
        try:
            yield
        finally:
            listener.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_unix_connection(self._server)
        hello = await reader.read(65536)
        below.write(hello)
        passing = [
            asyncio.create_task(self._pass(reader, below)),
            asyncio.create_task(self._pass(above, writer, cut=b"session-gateway writer" in hello)),
        ]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        for end in (writer, below):
            end.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, cut: bool = False) -> None:
        while chunk := await source.read(65536):
            self._answers += cut
            if cut and self._answers % 17 == 0:
                self.cuts += 1
                return
            target.write(chunk)


async def test_answers_that_are_lost_lose_no_event_and_double_none(empty_log: LogDatabase, tmp_path: Path) -> None:
    """What was committed without the writer learning it is told as a duplicate: the same success."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most 107 bytes
        cutter = Cutter(empty_log.app_dsn, Path(short))
        async with cutter.running(), open_store(cutter.dsn) as store:
            written = await _load(store, producers=3, each=60)
            assert cutter.cuts >= 4
            assert written.duplicates > 0
    async with open_store(empty_log.app_dsn) as store:
        await _holds(store, written)


async def test_terminated_backend_costs_nothing_that_was_acknowledged(empty_log: LogDatabase) -> None:
    """pg_terminate_backend in the middle of the load, ten times: retried by the same ids."""
    kills = 0
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.admin_dsn) as admin:
        load = asyncio.create_task(_load(store, producers=20, each=60))
        while not load.done() and kills < 10:
            kills += len(await admin.fetch(f"select pg_terminate_backend(pid) from ({WRITING}) w"))
            await asyncio.wait([load], timeout=0.03)
        await _holds(store, await load)
    assert kills >= 3


@pytest_asyncio.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server of this test alone, which may crash it."""
    try:
        async with await embedded.start(tmp_path) as server:
            yield server
    finally:
        await embedded.remove(tmp_path)


async def test_killed_backend_costs_nothing_that_was_acknowledged(own_server: EmbeddedPostgres) -> None:
    """kill -9 takes the whole server through recovery; the writer waits, and a reader learns that it has to."""
    async with log_database(own_server) as database, open_store(database.app_dsn) as store:
        load = asyncio.create_task(_load(store, producers=20, each=40))
        for _ in range(2):
            await until(lambda: _kill_writer(database.admin_dsn))
        written = await load
        await until(lambda: _answers(store))
        await _holds(store, written)


async def _kill_writer(admin_dsn: str) -> bool:
    """False while there is none, or while the server recovers from the last kill."""
    try:
        async with connection(admin_dsn) as admin:
            pid = await admin.fetchval(WRITING)
    except postgres.UNSURE:
        return False
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    return pid is not None


async def _answers(store: EventStore) -> bool:
    try:
        return (await store.head()).position > 0
    except StoreUnavailable:
        return False


class Written(msgspec.Struct):
    """Acknowledged events, each producer's in order, and how many were told as duplicates."""

    streams: dict[str, list[UUID]] = msgspec.field(default_factory=dict)
    duplicates: int = 0


async def _load(store: EventStore, *, producers: int, each: int) -> Written:
    """Producers that append to a stream of their own, version checked, and repeat what was not acknowledged."""
    written = Written()

    async def produce(stream: str, done: list[UUID]) -> None:
        while len(done) < each:
            unit = write(stream, expected=len(done))
            outcome = await _acknowledged(store, unit)
            assert isinstance(outcome, Appended) and outcome.versions == (len(done) + 1,), outcome
            written.duplicates += outcome.duplicate
            done.append(unit.events[0].event_id)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(producers):
            stream = new_stream()
            group.create_task(produce(stream, written.streams.setdefault(stream, [])))
    return written


async def _acknowledged(store: EventStore, unit: StreamWrite) -> Outcome:
    while True:
        try:
            return await store.append(unit)
        except StoreUnavailable:
            continue  # the store itself waits before it gives up


async def _holds(store: EventStore, written: Written) -> None:
    """Every acknowledged event is there once, in the order of its producer, and nothing else is."""
    log = await store.read_log(limit=100_000)
    assert [one.position for one in log] == list(range(1, len(log) + 1))
    found: dict[str, list[UUID]] = {}
    for one in log:
        found.setdefault(one.stream_id, []).append(one.event_id)
        assert one.version == len(found[one.stream_id])
    assert found == written.streams


async def test_frozen_append_is_given_up_in_time(empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncpg alone would wait for ever; what the frozen backend did after all is found by the ids."""
    monkeypatch.setattr(postgres, "COMMAND_SECONDS", 0.3)
    unit = write(new_stream())
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.app_dsn) as blocking:
        async with blocking.transaction():
            await blocking.execute("select pg_advisory_xact_lock(7201, 1)")
            monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", -1.0)
            with pytest.raises(StoreUnavailable):
                await store.append(unit)
            async with connection(empty_log.admin_dsn) as admin:
                suspect = {row["pid"] for row in await admin.fetch(WRITING)}
        outcome = await store.append(unit)
        assert isinstance(outcome, Appended) and outcome.versions == (1,)
        assert len(await store.read_log()) == 1
        async with connection(empty_log.admin_dsn) as admin:
            assert not suspect & {row["pid"] for row in await admin.fetch(WRITING)}, "the suspect connection was kept"


async def test_close_behind_a_frozen_server_has_one_bound(
    empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch with a time-out of its own, 4,000 units took 72 seconds; whoever waited is told."""
    monkeypatch.setattr(postgres, "COMMAND_SECONDS", 0.5)
    monkeypatch.setattr(postgres, "CLOSE_SECONDS", 1.0)
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.app_dsn) as blocking:
        async with blocking.transaction():
            await blocking.execute("select pg_advisory_xact_lock(7201, 1)")
            waiting = [asyncio.create_task(store.append(write(new_stream()))) for _ in range(2000)]
            await until(lambda: _writing(empty_log))
            async with asyncio.timeout(3):
                await store.close()
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 3)
    assert {type(one) for one in outcomes} == {StoreUnavailable}


async def _writing(database: LogDatabase) -> bool:
    async with connection(database.admin_dsn) as admin:
        return await admin.fetchval(f"select exists ({WRITING} and state = 'active')") is True


async def test_server_that_is_not_there_is_unavailable_at_once(tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await PostgresEventStore.connect(f"postgresql://u@/n?host={tmp_path}", SMALL)


async def test_server_that_does_not_answer_is_unavailable_in_time() -> None:
    """A listening socket without a server behind it: a frozen machine."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with asyncio.timeout(15):
            with pytest.raises(StoreUnavailable):
                await PostgresEventStore.connect(f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/n", SMALL)
