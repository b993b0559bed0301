"""An auditor with psql: reads what he announced, and cannot read a row of which no committed event says so."""

from collections.abc import AsyncIterator
from typing import TypeAlias
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from events import batch, codec
from events.catalogue import LogRead
from events.embedded import EmbeddedPostgres
from events.envelope import SYSTEM, Actor, ActorKind
from events.postgres import PostgresEventStore
from events.schema_roles import AUDITOR_ROLE
from events.store import Appended
from events.writer import Unit
from tests.debian_fixtures import DebianLog
from tests.event_fixtures import LogDatabase, as_user, connection, ensure_role, log_database, open_store
from tests.events.test_schema_rights import tables
from tests.factories import event, events, new_stream, write

pytestmark = pytest.mark.postgres
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
AUDITOR, OTHER = 'au"dit\\or', "second_auditor"


class Written(msgspec.Struct, frozen=True):
    """A log with two streams of five events and the logins of two auditors."""

    database: LogDatabase
    stream: str

    def dsn(self, user: str) -> str:
        return as_user(self.database.admin_dsn, user.replace("\\", "%5C").replace('"', "%22"))


@pytest_asyncio.fixture
async def written(postgres_server: EmbeddedPostgres) -> AsyncIterator[Written]:
    async with log_database(postgres_server, partition_size=4) as database:
        async with connection(database.admin_dsn) as admin:
            for login in (AUDITOR, OTHER):
                quoted = await admin.fetchval("select quote_ident($1)", login)
                if not await admin.fetchval("select true from pg_roles where rolname = $1", login):
                    await admin.execute(f"create role {quoted} login")
                await admin.execute(f"grant {AUDITOR_ROLE} to {quoted}")
        stream = new_stream()
        async with open_store(database.app_dsn) as store:
            for name in (stream, new_stream()):
                assert isinstance(await store.append(write(name, event(), *events(4))), Appended)
        yield Written(database, stream)


@pytest_asyncio.fixture
async def auditor(written: Written) -> AsyncIterator[Connection]:
    async with connection(written.dsn(AUDITOR)) as opened:
        yield opened


@pytest_asyncio.fixture
async def store(written: Written) -> AsyncIterator[PostgresEventStore]:
    async with open_store(written.database.app_dsn) as opened:
        yield opened


async def announce(auditor: Connection, arguments: str = "") -> UUID:
    ticket = await auditor.fetchval(f"select log.announce_read({arguments})")
    return UUID(str(ticket))


async def positions(auditor: Connection, ticket: UUID) -> list[int]:
    return [row["position"] for row in await auditor.fetch("select * from log.read_announced($1)", ticket)]


async def test_a_reading_is_told_before_it_is_made(
    written: Written, auditor: Connection, store: PostgresEventStore
) -> None:
    """Whole log: what he gets is what the event says he may have got; the event reads as one of the gateway's own."""
    ticket = await announce(auditor)
    assert await positions(auditor, ticket) == list(range(1, 11))
    told = await store.find(ticket)
    assert told is not None and told.stream_id == SYSTEM and told.event_id.version == 7
    assert codec.decode(told) == LogRead(what="sql", after=0, until=10)
    assert codec.canonical(codec.decode(told)) == told.payload
    actor = Actor(kind=ActorKind.OPERATOR, id=f"postgres:{AUDITOR}")
    assert codec.decode_actor(told) == actor and codec.canonical(actor) == told.actor


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("p_after := 3, p_until := 6", [4, 5, 6]),
        ("p_stream := '{stream}', p_purpose := 'a case'", [1, 2, 3, 4, 5]),
        ("p_stream := '{stream}', p_purpose := 'a case', p_after := 2, p_until := 4", [3, 4]),
        ("p_types := array['session.*']", list(range(1, 11))),
        ("p_types := array['session.requested', 'nothing.of_it']", []),
    ],
)
async def test_ranges_streams_and_types(
    written: Written, auditor: Connection, store: PostgresEventStore, arguments: str, expected: list[int]
) -> None:
    ticket = await announce(auditor, arguments.format(stream=written.stream))
    assert await positions(auditor, ticket) == expected
    told = await store.find(ticket)
    assert told is not None and codec.canonical(codec.decode(told)) == told.payload


async def test_the_session_of_a_stream_is_named(
    written: Written, auditor: Connection, store: PostgresEventStore
) -> None:
    told = await store.find(await announce(auditor, f"p_stream := '{written.stream}', p_purpose := 'a case'"))
    assert told is not None
    read = codec.decode(told)
    assert isinstance(read, LogRead) and read.session_id == written.stream.removeprefix("session-")


@pytest.mark.parametrize(
    "purpose",
    ["Case 7", "".join(map(chr, range(32, 127))), '\\u0000 \\" {"what":"events"}', "\u00e9\u00a0\U0001f600", "x" * 500],
)
async def test_a_purpose_is_told_as_it_was_given(auditor: Connection, store: PostgresEventStore, purpose: str) -> None:
    """Whatever characters it has: the bytes are those that the gateway would have written, and the ticket opens."""
    ticket = await auditor.fetchval("select log.announce_read(p_until := 10, p_purpose := $1)", purpose)
    told = await store.find(ticket)
    assert told is not None and told.schema_version == 2
    assert codec.decode(told) == LogRead(what="sql", after=0, until=10, purpose=purpose)
    assert codec.canonical(codec.decode(told)) == told.payload
    assert await positions(auditor, ticket) == list(range(1, 11))


@pytest.mark.parametrize("stream", ["session-ses_1", "container-gw-1"])
async def test_one_session_is_read_for_a_purpose(auditor: Connection, stream: str) -> None:
    """As over HTTP. What is many's needs none, and the call of the release before goes on."""
    with pytest.raises(asyncpg.PostgresError, match="say in p_purpose why") as refused:
        await announce(auditor, f"p_stream := '{stream}'")
    assert refused.value.sqlstate == "GW002"
    await announce(auditor, f"p_stream := '{stream}', p_purpose := 'a case'")
    await announce(auditor, "0, 10, 'system', array['log.read']")


@pytest.mark.parametrize("purpose", ["a\nb", "\t", "a\x7f", "a\u0085b", "a\u2028b", "\u202egnp", "", "  ", "x" * 501])
async def test_a_purpose_is_one_line_of_words(auditor: Connection, purpose: str) -> None:
    """It is shown in lines, to people."""
    for arguments in ("p_until := 10", "p_stream := 'session-ses_1'"):
        with pytest.raises(asyncpg.PostgresError, match="one line of words") as refused:
            await auditor.fetchval(f"select log.announce_read({arguments}, p_purpose := $1)", purpose)
        assert refused.value.sqlstate == "GW002"


async def test_an_announcement_that_could_be_taken_back_opens_nothing(auditor: Connection) -> None:
    """Begin, announce, read, roll back: the rows would be out and nothing would tell of it."""
    async with auditor.transaction():
        ticket = await announce(auditor)
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with auditor.transaction():  # a savepoint does not change that
                await positions(auditor, ticket)
        assert refused.value.sqlstate == "GW004"
    assert await positions(auditor, ticket) == list(range(1, 11))


async def test_an_announcement_in_a_savepoint_opens_nothing_either(auditor: Connection) -> None:
    async with auditor.transaction():
        async with auditor.transaction():
            ticket = await announce(auditor)
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with auditor.transaction():
                await positions(auditor, ticket)
        assert refused.value.sqlstate == "GW004"


async def test_an_announcement_that_was_taken_back_is_none(auditor: Connection) -> None:
    transaction = auditor.transaction()
    await transaction.start()
    ticket = await announce(auditor)
    await transaction.rollback()
    with pytest.raises(asyncpg.PostgresError) as refused:
        await positions(auditor, ticket)
    assert refused.value.sqlstate == "GW003"


async def test_a_ticket_is_of_whoever_logged_in(written: Written, auditor: Connection) -> None:
    """Nobody reads on another's name; becoming another role after the login changes nothing."""
    ticket = await announce(auditor)
    async with connection(written.dsn(OTHER)) as other:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await positions(other, ticket)
        assert refused.value.sqlstate == "GW003"
    await auditor.execute(f"set role {AUDITOR_ROLE}")
    assert await positions(auditor, ticket)


async def test_another_event_is_no_ticket(auditor: Connection, store: PostgresEventStore) -> None:
    [first] = await store.read_log(limit=1)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await positions(auditor, first.event_id)
    assert refused.value.sqlstate == "GW003"


async def test_a_ticket_grows_old(written: Written, auditor: Connection) -> None:
    """The owner turns the clock of the event back, as nobody else can: the triggers are put aside for that."""
    ticket = await announce(auditor)
    async with connection(written.database.admin_dsn) as admin:
        await admin.execute("set session_replication_role = replica")
        moved = "update log.events set recorded_at = recorded_at - interval '16 minutes' where event_id = $1"
        await admin.execute(moved, ticket)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await positions(auditor, ticket)
    assert refused.value.sqlstate == "GW003"


async def test_what_cannot_be_meant_is_refused(auditor: Connection) -> None:
    for arguments in (
        "p_after := 10",
        "p_after := -1",
        "p_after := 5, p_until := 5",
        "p_after := null",
        "p_stream := 'session-\"x'",
        "p_stream := ''",
        "p_types := array['session.%']",
        "p_types := array[null]",
        "p_types := null",
        "p_purpose := ''",
        "p_purpose := e' \\t\\n'",
        "p_purpose := repeat('x', 501)",
    ):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await announce(auditor, arguments)
        assert refused.value.sqlstate == "GW002", arguments


async def test_an_auditor_can_do_nothing_else(written: Written, auditor: Connection) -> None:
    """Every table, view and function of the log but his two; not even reading around the record."""
    async with connection(written.database.admin_dsn) as admin:
        names = await tables(admin)
        functions = [
            str(row["call"])
            for row in await admin.fetch(
                "select p.oid::regproc || '(' || array_to_string(array(select 'null::' || format_type(t, null)"
                " from unnest(p.proargtypes) t), ',') || ')' as call from pg_proc p"
                " where p.pronamespace in ('log'::regnamespace, 'view'::regnamespace)"
                " and p.prorettype <> 'trigger'::regtype and p.proname not in ('announce_read', 'read_announced')"
            )
        ]
    assert len(functions) >= 10
    for statement in (
        *(f"select * from {name}" for name in (*names, "log.event_json", "view.lease", "view.subject_key")),
        *(f"select {call}" for call in functions),
        "create table log.mine (x int)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await auditor.execute(statement)


async def test_the_public_can_do_nothing_at_all(written: Written, postgres_server: EmbeddedPostgres) -> None:
    await ensure_role(written.database.admin_dsn, "onlooker")
    async with connection(as_user(written.database.admin_dsn, "onlooker")) as onlooker:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await announce(onlooker)


async def test_reading_is_on_the_disk_of_an_older_postgres_too(debian_log: DebianLog) -> None:
    """Before 17 no function of Postgres waits for the disk: the function waits for the WAL writer."""
    async with connection(debian_log.admin_url) as auditor:
        await auditor.execute("set synchronous_commit = off")
        log_id = await auditor.fetchval("select log_id from log.identity")
        for _ in range(5):
            await auditor.execute("begin")
            await auditor.fetch(batch.APPEND, *batch.columns([Unit((write(new_stream()),), None)]), log_id)
            ticket = await auditor.fetchval("select log.announce_read()")
            await auditor.execute("set local synchronous_commit = off")
            await auditor.execute("commit")
            told_until = await auditor.fetchval("select pg_current_wal_insert_lsn()::text")
            assert await auditor.fetch("select * from log.read_announced($1)", ticket)
            assert await auditor.fetchval("select pg_current_wal_flush_lsn() >= $1::text::pg_lsn", told_until)
