"""Prove: every table is compared once a day by one gateway, and a table that differs is an alert until it does not."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from events import codec
from events.catalogue import AlertCleared, AlertRaised
from events.embedded import EmbeddedPostgres
from events.envelope import ActorKind, RecordedEvent
from events.keyring import MemoryKeyring
from gateway.rebuilds import Proofs, rebuilder
from gateway.recorder import Recorder, Who
from gateway.storage import open_storage
from gateway.workers.prove import NEVER, Proving, drifting, due
from projections.table_report import Proved, proofs
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import LogDatabase, log_database, until
from tests.gateway.cli.conftest import database_variables as database_variables
from tests.gateway_fixtures import start_gateway
from tests.projections.rebuilding import Ground, ground

pytestmark = pytest.mark.postgres
NIGHT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
EVENING = NIGHT - timedelta(hours=9)


def proved(at: datetime, differing: int = 0) -> Proved:
    return Proved(version=1, position=9, rows=5, differing=differing, verified_at=at)


@pytest.mark.parametrize(
    ("now", "last", "since", "wanted"),
    [
        (NIGHT - timedelta(seconds=1), EVENING - timedelta(hours=15), EVENING, False),  # not yet
        (NIGHT, EVENING, EVENING, True),
        (NIGHT + timedelta(hours=5), NIGHT + timedelta(minutes=1), EVENING, False),  # done
        (NIGHT + timedelta(hours=5), EVENING, EVENING, True),  # the holder died at three: late is better than never
        (NIGHT + timedelta(hours=5), EVENING, NIGHT + timedelta(hours=4), False),  # started after it: the next night
        (NIGHT + timedelta(hours=24), NIGHT, NIGHT - timedelta(hours=50), True),
        (NIGHT, None, EVENING, True),  # never compared
        (EVENING, None, EVENING, False),
    ],
)
def test_a_table_is_due_once_the_hour_has_come(
    now: datetime, last: datetime | None, since: datetime, wanted: bool
) -> None:
    known = {} if last is None else {"sessions": last}
    assert due(["sessions"], known, hour=3, now=now, since=since) == (("sessions",) if wanted else ())
    assert due(["sessions"], known, hour=NEVER, now=now, since=since) == ()


def test_only_tables_of_this_release_drift() -> None:
    assert drifting(["a", "b"], {"a": proved(NIGHT, 1), "b": proved(NIGHT), "c": proved(NIGHT, 1)}) == {"a"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: EmbeddedPostgres) -> AsyncIterator[LogDatabase]:
    async with log_database(postgres_server) as made:
        yield made


class Night:
    """Gateways beside each other on one log; ``now`` is the clock of all."""

    def __init__(self, on: Ground) -> None:
        self.on, self.now, self.began = on, datetime.now(UTC), 0

    def gateway(self, instance: str, hour: int | None = None) -> Proving:
        recorder = Recorder(self.on.store, MemoryKeyring(), lambda: self.now)
        pool, who = self.on.store.pool, Who(kind=ActorKind.GATEWAY, id=instance)
        return Proving(
            recorder,
            self.on.leases,
            Proofs(recorder, pool, who=who),
            rebuilder(recorder, pool, self.on.leases, who=who, holder=instance),
            instance=instance,
            tables=TABLES,
            hour=self.now.hour if hour is None else hour,
            noted=lambda: proofs(pool),
        )

    def tomorrow(self) -> None:
        self.now += timedelta(days=1)

    async def told(self, *types: str) -> list[RecordedEvent]:
        return await self.on.store.read_log(after=self.began, types=types)


@pytest_asyncio.fixture
async def night(database: LogDatabase) -> AsyncIterator[Night]:
    async with ground(database) as on:
        made = Night(on)
        made.began = (await on.store.head()).position
        yield made


async def test_every_table_is_compared_once_and_by_one(night: Night) -> None:
    one, two = night.gateway("gw-1"), night.gateway("gw-2")
    await one.run_once()
    assert await night.told("projection.*") == []  # they started after this hour had begun
    night.tomorrow()
    for _ in range(2):
        await one.run_once()
        await two.run_once()
    told = await night.told("projection.verified")
    assert [codec.decode_actor(event).id for event in told] == ["gw-1"] * len(TABLES)
    assert set(one.last) == set(two.last) == {table.name for table in TABLES}
    assert await night.told("alert.*") == []


async def test_never_is_never(night: Night) -> None:
    one = night.gateway("gw-1", hour=NEVER)
    night.tomorrow()
    await one.run_once()
    assert await night.told("projection.*") == []


async def test_drift_is_an_alert_until_it_is_gone(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    one, two = night.gateway("gw-1"), night.gateway("gw-2")
    await one.run_once()
    rows = len(await night.on.rows(SESSIONS))
    await night.on.sql("update view.sessions set port = 1 where session_id in ('a-1', 'a-2')")
    await night.on.sql("delete from view.sessions where session_id = 'a-3'")
    night.tomorrow()
    with caplog.at_level(logging.ERROR, "session_gateway.prove"):
        for _ in range(2):  # once, however often it is looked at
            await one.run_once()
            await two.run_once()
    assert [record.getMessage() for record in caplog.records] == [
        "the table sessions is not what the log says: 3 rows differ (1 missing, 2 changed);"
        f" it has {rows - 1}, the log makes {rows}: a-1 (changed), a-2 (changed), a-3 (missing)"
    ]
    (alert,) = await night.told("alert.raised")
    raised = codec.decode(alert)
    assert isinstance(raised, AlertRaised)
    assert (raised.instance, raised.name) == ("gw-1", "projection_drift_sessions")
    assert raised.detail.startswith("The table sessions at position ")
    assert raised.detail.endswith(" is not what the log says: 3 rows differ (1 missing, 2 changed).")
    verified = {event.event_id: codec.decode(event) for event in await night.told("projection.verified")}
    assert alert.causation_id is not None
    assert getattr(verified[alert.causation_id], "projection", None) == "sessions"

    await night.on.rebuild(SESSIONS)
    await one.run_once()
    (event,) = await night.told("alert.cleared")
    cleared = codec.decode(event)
    assert isinstance(cleared, AlertCleared)
    assert (cleared.instance, cleared.name) == ("gw-1", "projection_drift_sessions")
    assert event.causation_id == alert.event_id


async def test_what_another_found_is_raised_by_whoever_is_there(night: Night) -> None:
    """An alert ends with the instance that raised it; the drift does not."""
    one, two = night.gateway("gw-1"), night.gateway("gw-2")
    await one.run_once()
    await night.on.sql("update view.sessions set port = 1")
    night.tomorrow()
    await one.run_once()
    await two.run_once()
    assert len(await night.told("alert.raised")) == 1
    await one.resign()
    await two.run_once()
    assert [event.stream_id for event in await night.told("alert.raised")] == ["gateway-gw-1", "gateway-gw-2"]


async def test_a_table_that_cannot_be_compared_is_told_and_left_for_an_hour(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    one = night.gateway("gw-1")
    await night.on.sql("update view.projection_checkpoint set version = 99 where name = 'sessions'")
    night.tomorrow()
    await one.run_once()
    await one.run_once()
    refused = [record.getMessage() for record in caplog.records if "was not compared" in record.getMessage()]
    assert len(refused) == 1 and "99" in refused[0]
    assert len(await night.told("projection.verified")) == len(TABLES) - 1
    night.now += timedelta(hours=1)
    await one.run_once()
    assert len([record for record in caplog.records if "was not compared" in record.getMessage()]) == 2


async def test_a_rebuild_that_nobody_told_of_is_told(night: Night) -> None:
    await night.on.killed_at(SESSIONS, "swapped")
    await night.gateway("gw-1").run_once()
    (event,) = await night.told("projection.rebuilt")
    assert codec.decode_actor(event).id == "gw-1"


async def test_a_gateway_that_runs_raises_what_is_known(
    tmp_path: Path, empty_log: LogDatabase, database_variables: dict[str, str]
) -> None:
    async with ground(empty_log) as on:
        await on.sql("insert into view.projection_proof values ('sessions', 1, 2, 3, 4)")
        async with start_gateway(tmp_path, database_variables, log_of=open_storage):
            await until(lambda: on.store.read_log(types=("alert.raised",)))
