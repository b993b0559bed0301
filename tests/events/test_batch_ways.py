"""A batch that nothing stands against takes a shorter way in SQL, and leaves the same rows as the long one."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest_asyncio

from events import batch
from events.embedded import EmbeddedPostgres
from events.envelope import ANY, NEW, EventData, ExpectedVersion, Fence
from events.store import Appended, Conflict, Outcome
from events.writer import Unit
from tests.event_fixtures import connection, log_database
from tests.factories import CAUSE, event, write

Wanted = tuple[str, ExpectedVersion, EventData]

# Streams that begin, go on, and do both in one batch; with and without an expectation.
BATCHES: Final[list[list[Wanted]]] = [
    [("a", NEW, event(cause=CAUSE)), ("b", ANY, event()), ("a", 1, event()), ("b", 1, event())],
    [("c", ANY, event()), ("a", 2, event(cause=CAUSE)), ("c", ANY, event())],
    [("a", 3, event())],
]
LEFT: Final = (
    "select position, event_id, stream_id, version, type, schema_version, payload, actor, causation_id,"
    " correlation_id, trace_id, span_id, occurred_at from log.events order by position",
    "select event_id, position, nth, size from log.event_key order by position",
    "select stream_id, version, first_position, last_position from log.streams order by 1",
    "select position from log.tip",
    "select count(distinct recorded_at) from log.events",
)
# It is refused, and so every unit of its batch is looked at by itself.
REFUSED: Final = Unit((write("session-z"),), Fence("a lease of nobody", 1))


@pytest_asyncio.fixture
async def two_logs(postgres_server: EmbeddedPostgres) -> AsyncIterator[tuple[Any, Any]]:
    """Connections to two logs with nothing in them."""
    async with (
        log_database(postgres_server) as one,
        log_database(postgres_server) as another,
        connection(one.admin_dsn) as first,
        connection(another.admin_dsn) as second,
    ):
        yield first, second


async def sent(to: Any, units: list[Unit]) -> tuple[str, list[Outcome]]:
    """How the first row was answered, and the outcomes."""
    rows = await to.fetch(batch.APPEND, *batch.columns(units), await to.fetchval("select log_id from log.identity"))
    return rows[0]["outcome"], batch.outcomes(units, rows)


async def test_short_way_leaves_what_the_long_way_leaves(two_logs: tuple[Any, Any]) -> None:
    short, long = two_logs
    for wanted in BATCHES:
        units = [Unit((write(f"session-{name}", one, expected=at),), None) for name, at, one in wanted]
        way, outcomes = await sent(short, units)
        assert way == "A"
        way, [*same, _] = await sent(long, [*units, REFUSED])
        assert way == "a"
        assert outcomes == same
    for query in LEFT:
        assert await short.fetch(query) == await long.fetch(query)


async def test_what_something_stands_against_is_decided_unit_by_unit(two_logs: tuple[Any, Any]) -> None:
    log, _ = two_logs
    first, second = event(), event()
    assert (await sent(log, [Unit((write("session-a", first, expected=NEW),), None)]))[0] == "A"
    way, outcomes = await sent(
        log,
        [
            Unit((write("session-a", first, expected=NEW),), None),  # known
            Unit((write("session-a", second, expected=7),), None),  # not its head
            Unit((write("session-a", second, expected=1),), None),
            Unit((write("session-b", event(), event(), expected=NEW),), None),  # two events
        ],
    )
    assert way == "d"
    assert outcomes == [
        Appended(1, 1, (1,), duplicate=True),
        Conflict("session-a", 1),
        Appended(2, 2, (2,)),
        Appended(3, 4, (1, 2)),
    ]
    assert await log.fetchval("select position from log.tip") == 4
