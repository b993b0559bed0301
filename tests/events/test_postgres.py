"""The Postgres store: what a batch, a partition, a clock, a listener and an end of the store ask of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from events import batch
from events.embedded import EmbeddedPostgres
from events.envelope import NEW
from events.errors import BadEvent, SchemaMissing, StoreClosed, StoreUnavailable
from events.postgres import PostgresEventStore
from events.store import Appended
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
OURS = """
select pid from pg_stat_activity where application_name like 'session-gateway%' and datname = current_database()
"""
LOG_ID = "select log_id from log.identity"
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
        rows = await app.fetch(batch.APPEND, *batch.columns(units), await app.fetchval(LOG_ID))
    assert [(row["outcome"], row["at_position"], row["at_version"]) for row in rows] == [
        ("c", None, 0),
        ("a", 1, 1),
        ("d", 1, 1),
        ("d", 1, 1),
    ]


async def test_partition_that_is_missing_is_made(postgres_server: EmbeddedPostgres) -> None:
    """The keeper may be late: without a partition for the next position every append would fail."""
    async with log_database(postgres_server, partition_size=150) as database, open_store(database.app_dsn) as store:
        for _ in range(8):
            outcome = await store.append(write(new_stream(), *events(CAP)))
            assert isinstance(outcome, Appended)
        log = await store.read_log(limit=5000)
        assert [one.position for one in log] == list(range(1, 8 * CAP + 1))
        async with connection(database.admin_dsn) as admin:
            made = await admin.fetch("select * from log.partitions order by first_position")
    assert [(row["first_position"], row["last_position"]) for row in made] == [
        (1 + 150 * nth, 150 * (nth + 1)) for nth in range(len(made))
    ]
    assert made[-1]["last_position"] >= 8 * CAP


async def test_units_cross_many_small_partitions(postgres_server: EmbeddedPostgres) -> None:
    """Streams, ids and times run on from one partition to the next as if there were one table."""
    async with log_database(postgres_server, partition_size=7) as database, open_store(database.app_dsn) as store:
        streams, written = [new_stream() for _ in range(3)], list[UUID]()
        for _ in range(15):
            unit = [write(name, *events(2)) for name in streams]
            assert isinstance(await store.append(*unit), Appended)
            written += [one.event_id for each in unit for one in each.events]
            await store.maintain()
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
                await app.fetch(batch.APPEND, *batch.columns(units), await app.fetchval(LOG_ID))
            await app.execute("rollback")
            assert refused.value.sqlstate == "GW001"


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_isolation_that_somebody_made_the_default_is_not_ours(empty_log: LogDatabase, isolation: str) -> None:
    """Every append would be refused as one with a stale snapshot, and the log count as away."""
    async with connection(empty_log.admin_dsn) as admin:
        name = await admin.fetchval("select quote_ident(current_database())")
        await admin.execute(f"alter database {name} set default_transaction_isolation = '{isolation}'")
    async with open_store(empty_log.app_dsn) as store:
        assert isinstance(await store.append(write(new_stream())), Appended)


@pytest.mark.parametrize(
    "streams",
    [["session-a", "session-a"], [""], ["Session-a"], ["session-a b"], ["session-"], [None], ["session-" + "x" * 103]],
)
async def test_batch_of_no_stream_or_the_same_one_is_refused(empty_log: LogDatabase, streams: list[str | None]) -> None:
    """Over the edge of a partition two events could be one version of a stream; only the function sees it."""
    columns = batch.columns([Unit((write(new_stream()),), None) for _ in streams])
    names = ",".join("null" if name is None else f'"{name}"' for name in streams)
    units = (f"{{{names}}}", *columns[1:])
    async with connection(empty_log.app_dsn) as app:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await app.fetch(batch.APPEND, *units, await app.fetchval(LOG_ID))
        assert refused.value.sqlstate == "GW005"
        assert await app.fetchval("select count(*) from log.events") == 0


async def test_batches_that_follow_at_once_are_told_with_the_last(empty_log: LogDatabase) -> None:
    """Every reader of every process wakes for each notification; none may wait for what was not told."""
    heard = asyncio.Queue[int]()
    async with open_store(empty_log.app_dsn) as store, connection(empty_log.app_dsn) as other:
        await other.add_listener("gateway_log", lambda *told: heard.put_nowait(int(str(told[3]))))
        await asyncio.gather(*(store.append(write(new_stream())) for _ in range(2000)))
        told = [await heard.get()]
        async with asyncio.timeout(10):
            while told[-1] < 2000:
                told.append(await heard.get())
    assert told == sorted(told)
    assert len(told) < 2000 / 16


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


async def test_database_without_a_log_says_what_to_do(database: str) -> None:
    with pytest.raises(SchemaMissing, match="DB_ADMIN_URL"):
        await PostgresEventStore.connect(database, SMALL)
    async with connection(database) as admin:
        await until(lambda: _count(admin, OURS, 0))


async def test_role_without_rights_is_told_apart_from_an_absent_server(empty_log: LogDatabase) -> None:
    await ensure_role(empty_log.admin_dsn, "stranger")
    with pytest.raises(StoreUnavailable, match="permission denied"):
        await PostgresEventStore.connect(as_user(empty_log.admin_dsn, "stranger"), SMALL)


async def test_reads_are_the_stores_fault_when_the_server_refuses(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        async with connection(empty_log.admin_dsn) as admin:
            await admin.execute("drop function log.find_event(uuid)")
        with pytest.raises(StoreUnavailable):
            await store.find(event().event_id)


async def test_question_that_postgres_cannot_be_asked_is_the_askers_fault(empty_log: LogDatabase) -> None:
    """The log is not away because of it: that would be told to everybody."""
    async with open_store(empty_log.app_dsn) as store:
        async with connection(empty_log.admin_dsn) as admin:
            await admin.execute(
                "create or replace function log.find_event(p_id uuid) returns setof log.events language plpgsql"
                " as $$ begin raise exception 'no such thing' using errcode = '22023'; end $$"
            )
        with pytest.raises(BadEvent, match="no such thing"):
            await store.find(event().event_id)
        assert store.status.available


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
            await until(lambda: _count(admin, f"{OURS} and application_name like '%writer'", 1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.close(), 0.05)
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(appending, 5)
            with pytest.raises(StoreClosed):
                await store.head()
        await until(lambda: _count(admin, OURS, 0))


async def _is_true(value: bool) -> bool:
    return value
