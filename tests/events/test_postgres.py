"""The Postgres store against a real server that kills, refuses, hangs and comes back."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from events import embedded, postgres, writer
from events.embedded import EmbeddedPostgres
from events.envelope import NEW, StreamWrite
from events.errors import BadEvent, SchemaMissing, StoreClosed, StoreUnavailable
from events.postgres import PostgresEventStore
from events.store import Appended, EventStore, Outcome
from events.writer import CAP, Unit
from tests.event_fixtures import (
    SMALL,
    LogDatabase,
    as_user,
    connection,
    ensure_role,
    log_database,
    open_store,
    until,
)
from tests.factories import event, events, new_stream, raw, write

pytestmark = pytest.mark.postgres
SOCKET = ".s.PGSQL.5432"

WRITING = """
select pid from pg_stat_activity where application_name = 'session-gateway writer' and datname = current_database()
"""
OURS = """
select pid from pg_stat_activity where application_name like 'session-gateway%' and datname = current_database()
"""
LISTENING = """
select pid from pg_stat_activity
 where application_name = 'session-gateway listener' and datname = current_database()
   and query ilike 'listen%' and state = 'idle'
"""


@asynccontextmanager
async def poisoned(database: LogDatabase) -> AsyncIterator[None]:
    """The database refuses events whose type begins with ``poison``: what no check of ours foresees."""
    async with connection(database.admin_dsn) as admin:
        await admin.execute("alter table log.events add constraint no_poison check (type not like 'poison%')")
        yield
        await admin.execute("alter table log.events drop constraint no_poison")


async def test_unit_that_breaks_its_batch_fails_alone(empty_log: LogDatabase) -> None:
    """One bad unit among 255 good ones, each by a caller of its own."""
    streams = [new_stream() for _ in range(256)]
    units = [write(name, raw(type="poison.taken") if nth == 77 else event()) for nth, name in enumerate(streams)]
    async with open_store(empty_log.app_dsn) as store, poisoned(empty_log):
        outcomes = await asyncio.gather(*(store.append(unit) for unit in units), return_exceptions=True)
        bad = outcomes.pop(77)
        assert {type(one) for one in outcomes} == {Appended}
        assert [one.position for one in await store.read_log()] == list(range(1, 256))
    assert isinstance(bad, BadEvent)
    assert "no_poison" in str(bad)


async def test_refusal_does_not_quote_what_was_written(empty_log: LogDatabase) -> None:
    """Postgres tells the failing row in its details; errors end in logs and answers."""
    async with open_store(empty_log.app_dsn) as store, poisoned(empty_log):
        with pytest.raises(BadEvent) as refused:
            await store.append(write(new_stream(), raw(type="poison.taken", actor=b'"somebody"')))
    assert "somebody" not in str(refused.value)


async def test_repeats_within_a_batch_do_not_break_it(empty_log: LogDatabase) -> None:
    """Refused, accepted, repeated: one statement answers all three, without a second try."""
    stream, fact = new_stream(), event()
    units = [Unit((write(stream, fact, expected=expected),), None) for expected in (9, NEW, NEW, 1)]
    async with connection(empty_log.app_dsn) as app:
        rows = await app.fetch(postgres._APPEND, *postgres._columns(units))
    assert [(row["outcome"], row["at_position"], row["at_version"]) for row in rows] == [
        ("c", None, 0),
        ("a", 1, 1),
        ("d", 1, 1),
        ("d", 1, 1),
    ]


async def test_partition_that_is_missing_is_made(postgres_server: EmbeddedPostgres) -> None:
    """The keeper may be late: without a partition for the next position every append would fail."""
    async with log_database(postgres_server, partition_size=150) as database, open_store(database.app_dsn) as store:
        for _ in range(20):
            outcome = await store.append(write(new_stream(), *events(CAP)))
            assert isinstance(outcome, Appended)
        log = await store.read_log(limit=5000)
        assert [one.position for one in log] == list(range(1, 20 * CAP + 1))
        async with connection(database.admin_dsn) as admin:
            made = await admin.fetch("select * from log.partitions order by first_position")
    assert [(row["first_position"], row["last_position"]) for row in made] == [
        (1 + 150 * nth, 150 * (nth + 1)) for nth in range(len(made))
    ]
    assert made[-1]["last_position"] >= 20 * CAP


async def test_units_cross_many_small_partitions(postgres_server: EmbeddedPostgres) -> None:
    """Streams, ids and times run on from one partition to the next as if there were one table."""
    async with log_database(postgres_server, partition_size=7) as database, open_store(database.app_dsn) as store:
        streams, written = [new_stream() for _ in range(3)], list[UUID]()
        for _ in range(15):
            unit = [write(name, *events(2)) for name in streams]
            assert isinstance(await store.append(*unit), Appended)
            written += [one.event_id for each in unit for one in each.events]
            async with connection(database.app_dsn) as app:
                await app.execute("select log.ensure_partitions()")
        assert [one.event_id for one in await store.read_log()] == written
        for name in streams:
            assert [one.version for one in await store.read_stream(name)] == list(range(1, 31))
            assert [one.version for one in await store.read_stream(name, after=20, backwards=True, limit=3)] == [
                30,
                29,
                28,
            ]
            assert len(await store.read_log(stream_id=name, after=40)) == len(
                [one for one in await store.read_log(after=40) if one.stream_id == name]
            )
        for nth in (0, 44, 89):
            found = await store.find(written[nth])
            assert found is not None and found.position == nth + 1
            repeated = await store.append(write(streams[0], event(event_id=written[nth])))
            assert not isinstance(repeated, Appended)


async def test_clock_that_goes_back_does_not_take_the_log_with_it(empty_log: LogDatabase) -> None:
    """ "As of 14:02" stays a prefix: events get the time of their forerunner until the clock has caught up."""
    async with open_store(empty_log.app_dsn) as store:
        await store.append(write(new_stream()))
        async with connection(empty_log.admin_dsn) as admin:
            ahead = await admin.fetchval(
                "update log.tip set recorded_at = recorded_at + interval '1 hour' returning recorded_at"
            )
        await store.append(write(new_stream()))
        await store.append(write(new_stream()))
        assert [one.recorded_at for one in await store.read_log(after=1)] == [ahead, ahead]
        assert await store.position_at(ahead) == 3
        assert await store.position_at(ahead - timedelta(microseconds=1)) == 1


async def test_stale_snapshot_is_refused(empty_log: LogDatabase) -> None:
    """Its heads would be older than the lock: two units could get one position."""
    units = [Unit((write(new_stream()),), None)]
    async with connection(empty_log.app_dsn) as app:
        for isolation in ("repeatable read", "serializable"):
            await app.execute(f"begin isolation level {isolation}")
            with pytest.raises(asyncpg.PostgresError) as refused:
                await app.fetch(postgres._APPEND, *postgres._columns(units))
            await app.execute("rollback")
            assert refused.value.sqlstate == "GW001"


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
        load = asyncio.create_task(_load(store, producers=20, each=60))
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


async def test_log_that_grows_elsewhere_wakes_who_waits(empty_log: LogDatabase) -> None:
    """One NOTIFY a batch reaches every process: a tail needs no waiting for its poll."""
    async with open_store(empty_log.app_dsn) as here, open_store(empty_log.app_dsn) as there:
        async with connection(empty_log.admin_dsn) as admin:
            await until(lambda: _count(admin, LISTENING, 2))
        waiting = asyncio.create_task(here.wait_beyond(0, 60))
        await there.append(write(new_stream(), *events(3)))
        async with asyncio.timeout(10):
            await waiting
            await here.wait_beyond(2, 60)


async def test_listener_that_is_cut_off_comes_back(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as here, open_store(empty_log.app_dsn) as there:
        async with connection(empty_log.admin_dsn) as admin:
            await until(lambda: _count(admin, LISTENING, 2))
            former = await admin.fetch(f"select pid, pg_terminate_backend(pid) from ({LISTENING}) l")
            others = (
                f"select pid from ({LISTENING}) l where pid <> all ('{{{','.join(str(r['pid']) for r in former)}}}')"
            )
            await until(lambda: _count(admin, others, 2))
        waiting = asyncio.create_task(here.wait_beyond(0, 60))
        await there.append(write(new_stream()))
        await asyncio.wait_for(waiting, 10)


async def _count(admin: "asyncpg.Connection[asyncpg.Record]", query: str, wanted: int) -> bool:
    return len(await admin.fetch(query)) == wanted


async def test_frozen_append_is_given_up_in_time(empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncpg alone would wait for ever; what the frozen backend did after all is found by the ids."""
    monkeypatch.setattr(postgres, "COMMAND_SECONDS", 0.3)
    unit = write(new_stream())
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.app_dsn) as blocking:
        async with blocking.transaction():
            await blocking.execute("select pg_advisory_xact_lock(7201, 1)")
            monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", 0.0)
            with pytest.raises(StoreUnavailable):
                await store.append(unit)
        outcome = await store.append(unit)
        assert isinstance(outcome, Appended) and outcome.versions == (1,)
        assert len(await store.read_log()) == 1


async def test_database_without_a_log_says_what_to_do(database: str) -> None:
    with pytest.raises(SchemaMissing, match="DB_ADMIN_URL"):
        await PostgresEventStore.connect(database, SMALL)
    async with connection(database) as admin:
        await until(lambda: _count(admin, OURS, 0))


async def test_role_without_rights_is_told_apart_from_an_absent_server(empty_log: LogDatabase) -> None:
    await ensure_role(empty_log.admin_dsn, "stranger")
    with pytest.raises(StoreUnavailable, match="permission denied"):
        await PostgresEventStore.connect(as_user(empty_log.admin_dsn, "stranger"), SMALL)


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


async def test_reads_are_the_stores_fault_when_the_server_refuses(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        async with connection(empty_log.admin_dsn) as admin:
            await admin.execute("drop function log.find_event(uuid)")
        with pytest.raises(StoreUnavailable):
            await store.find(event().event_id)


async def test_column_of_a_later_release_is_not_read(empty_log: LogDatabase) -> None:
    """The former release serves beside the newer one during an upgrade."""
    async with open_store(empty_log.app_dsn) as store:
        await store.append(write(new_stream()))
        async with connection(empty_log.admin_dsn) as admin:
            await admin.execute("alter table log.events add column mood text default 'good'")
        assert len(await store.read_log()) == 1
        assert isinstance(await store.append(write(new_stream())), Appended)


async def test_close_flushes_and_leaves_no_connection(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        appending = [asyncio.create_task(store.append(write(new_stream()))) for _ in range(300)]
        await until(lambda: _is_true(store.queued > 0))
        await store.close()
        assert {type(one) for one in await asyncio.gather(*appending)} == {Appended}
    async with connection(empty_log.admin_dsn) as admin:
        await until(lambda: _count(admin, OURS, 0))
        assert await admin.fetchval("select position from log.tip") == 300


async def test_close_that_is_cut_short_leaves_no_connection(empty_log: LogDatabase) -> None:
    """A drain has a deadline: what is under way then is not acknowledged, and everything ends."""
    async with connection(empty_log.admin_dsn) as admin, connection(empty_log.app_dsn) as blocking:
        async with open_store(empty_log.app_dsn) as store, blocking.transaction():
            await blocking.execute("select pg_advisory_xact_lock(7201, 1)")
            appending = asyncio.create_task(store.append(write(new_stream())))
            await until(lambda: _count(admin, f"select from ({WRITING}) w", 1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.close(), 0.05)
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(appending, 5)
            with pytest.raises(StoreClosed):
                await store.head()
        await until(lambda: _count(admin, OURS, 0))


async def _is_true(value: bool) -> bool:
    return value
