"""Prove: every table is compared once a day by one gateway, and a table that differs is an alert until it does not."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from events import codec
from events.catalogue import AlertCleared, AlertRaised
from events.embedded import EmbeddedPostgres
from events.envelope import ActorKind, Fence, RecordedEvent
from events.errors import StoreUnavailable
from events.ids import uuid7
from events.keyring import MemoryKeyring
from gateway.rebuilds import Proofs, rebuilder
from gateway.recorder import Recorder, Who
from gateway.storage import open_storage
from gateway.workers.prove import NEVER, Proving, drifting, due
from projections.alerts import Alert, Alerts
from projections.errors import ProjectionBehind, RowRefused, Superseded
from projections.holding import TTL_SECONDS
from projections.proof import Proof, Prover
from projections.table_report import Proved, proofs
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import LogDatabase, log_database, until
from tests.gateway.cli.conftest import database_variables as database_variables
from tests.gateway_fixtures import start_gateway
from tests.projections.rebuilding import Ground, Killed, ground

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
        (NIGHT, NIGHT - timedelta(minutes=9), EVENING, False),  # by a database whose clock is behind
        (NIGHT, NIGHT - timedelta(minutes=11), EVENING, True),
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
        self.gateways: list[Proving] = []

    def gateway(self, instance: str, hour: int | None = None) -> Proving:
        recorder = Recorder(self.on.store, MemoryKeyring(), lambda: self.now)
        pool, who = self.on.store.pool, Who(kind=ActorKind.GATEWAY, id=instance)
        made = Proving(
            recorder,
            self.on.leases,
            Proofs(recorder, pool, who=who),
            rebuilder(recorder, pool, self.on.leases, who=who, holder=instance),
            instance=instance,
            tables=TABLES,
            hour=self.now.hour if hour is None else hour,
            alerts=Alerts(pool),
            noted=lambda: proofs(pool),
        )
        self.gateways.append(made)
        return made

    async def tomorrow(self) -> None:
        """What was is a day older: the database's clock cannot be put forward."""
        await self.on.sql("update view.projection_proof set verified_at = verified_at - interval '1 day'")
        for each in self.gateways:
            each._began -= timedelta(days=1)

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
    await night.tomorrow()
    for _ in range(2):
        await one.run_once()
        await two.run_once()
    told = await night.told("projection.verified")
    assert [codec.decode_actor(event).id for event in told] == ["gw-1"] * len(TABLES)
    assert set(one.last) == set(two.last) == {table.name for table in TABLES}
    assert await night.told("alert.*") == []


async def test_never_is_never(night: Night) -> None:
    one = night.gateway("gw-1", hour=NEVER)
    await night.tomorrow()
    await one.run_once()
    assert await night.told("projection.*") == []


async def test_drift_is_an_alert_until_it_is_gone(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    one, two = night.gateway("gw-1"), night.gateway("gw-2")
    await one.run_once()
    rows = len(await night.on.rows(SESSIONS))
    await night.on.sql("update view.sessions set port = 1 where session_id in ('a-1', 'a-2')")
    await night.on.sql("delete from view.sessions where session_id = 'a-3'")
    await night.tomorrow()
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


async def test_an_alert_is_raised_and_cleared_once_whoever_does_it(night: Night) -> None:
    """A gateway that starts anew knows of the alert of the one before it, and ends it in that one's name."""
    one = night.gateway("gw-1")
    await one.run_once()
    await night.on.sql("update view.sessions set port = 1")
    await night.tomorrow()
    await one.run_once()
    two = night.gateway("gw-2")
    await two.run_once()
    (alert,) = await night.told("alert.raised")
    night.now += timedelta(minutes=5)
    await night.on.rebuild(SESSIONS)
    await two.run_once()
    await night.gateway("gw-3").run_once()
    (end,) = await night.told("alert.cleared")
    cleared = codec.decode(end)
    assert isinstance(cleared, AlertCleared)
    assert (cleared.instance, cleared.lasted_ms) == ("gw-1", 300_000)
    assert (end.stream_id, end.causation_id) == (alert.stream_id, alert.event_id)
    assert codec.decode_actor(end).id == "gw-2"
    await night.on.sql("update view.sessions set port = 1")
    await night.tomorrow()
    await two.run_once()
    assert len(await night.told("alert.raised")) == 2


@pytest.mark.parametrize("step", ["append", "told", "append end", "forget"])
async def test_killed_while_it_tells_the_next_one_tells_it_once(
    night: Night, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = night.gateway("gw-1"), night.gateway("gw-2")
    await one.run_once()
    await night.on.sql("update view.sessions set port = 1")
    await night.tomorrow()

    async def killed(*_: Any, **__: Any) -> None:
        raise Killed

    at_the_end = step in ("append end", "forget")
    if at_the_end:
        await one.run_once()
        await night.on.rebuild(SESSIONS)
    with monkeypatch.context() as patched:
        kind, name = (Proving, "_tell") if "append" in step else (Alerts, step)
        patched.setattr(kind, name, killed)
        with pytest.raises(Killed):
            await one.run_once()
    await two.run_once()
    assert len(await night.told("alert.raised")) == 1
    assert len(await night.told("alert.cleared")) == at_the_end
    assert await night.on.sql("select count(*) from view.projection_alert") == (not at_the_end)
    assert not await night.on.sql("select count(*) from view.projection_alert where not told")


@pytest.mark.parametrize("step", ["append end", "forget"])
async def test_a_difference_after_an_end_that_is_half_told_is_an_alert_of_its_own(
    night: Night, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = night.gateway("gw-1"), night.gateway("gw-2")
    await one.run_once()
    await night.on.sql("update view.sessions set port = 1")
    await night.tomorrow()
    await one.run_once()
    await night.on.rebuild(SESSIONS)

    async def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        kind, name = (Proving, "_tell") if step == "append end" else (Alerts, step)
        patched.setattr(kind, name, killed)
        with pytest.raises(Killed):
            await one.run_once()
    await night.on.sql("update view.sessions set port = 2")
    await night.tomorrow()
    await two.run_once()
    told = await night.told("alert.*")
    assert [event.type for event in told] == ["alert.raised", "alert.cleared", "alert.raised"]
    assert told[1].causation_id == told[0].event_id
    assert await night.on.sql("select alert_id from view.projection_alert where told") == told[2].event_id


async def test_a_proof_keeps_its_lease_for_seconds_and_notes_nothing_when_it_is_lost(
    night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A killed gateway is followed within seconds; one that was frozen does not write over its follower."""
    one, two = night.gateway("gw-1"), night.gateway("gw-2")
    await one.run_once()
    await night.tomorrow()
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(prover: Prover, proof: Proof, fence: Fence | None, of: Any = Prover._note) -> None:
        if not begun.is_set():
            begun.set()
            await go.wait()
        await of(prover, proof, fence)

    monkeypatch.setattr(Prover, "_note", slow)
    first = asyncio.create_task(one.run_once())
    await begun.wait()
    left = await night.on.sql("select extract(epoch from max(expires_at) - now()) from view.lease where name = 'prove'")
    assert 0 < left <= TTL_SECONDS
    await two.run_once()
    assert await night.told("projection.verified") == []
    await night.on.sql("update view.lease set expires_at = now() where name = 'prove'")  # it was frozen so long
    await two.run_once()
    go.set()
    await first
    told = await night.told("projection.verified")
    assert [codec.decode_actor(event).id for event in told] == ["gw-2"] * len(TABLES)
    assert "another gateway has taken the daily proof over" in caplog.text


async def test_who_lost_the_lease_appends_no_alert(night: Night) -> None:
    alert = Alert(name="sessions", alert_id=uuid7(), instance="gw-1", since=NIGHT, detail="d", cause=None)
    await night.on.leases.claim("prove", "gw-2")
    with pytest.raises(Superseded):
        await night.gateway("gw-1")._raise(alert, Fence("prove", 0))
    assert await night.told("alert.*") == []


async def test_a_table_that_cannot_be_compared_is_told_and_left_for_an_hour(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    one = night.gateway("gw-1")
    await night.on.sql("update view.projection_checkpoint set version = 99 where name = 'sessions'")
    await night.tomorrow()
    await one.run_once()
    await one.run_once()
    refused = [record.getMessage() for record in caplog.records if "was not compared" in record.getMessage()]
    assert len(refused) == 1 and "99" in refused[0]
    assert len(await night.told("projection.verified")) == len(TABLES) - 1
    night.now += timedelta(hours=1)
    await one.run_once()
    assert len([record for record in caplog.records if "was not compared" in record.getMessage()]) == 2


@pytest.mark.parametrize(
    "error", [StoreUnavailable("the proof cannot go on"), RowRefused("admission", "why"), ProjectionBehind(9, 8)]
)
async def test_a_proof_that_fails_keeps_none_of_the_others(
    night: Night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    one, tried = night.gateway("gw-1"), list[str]()

    async def prove(prover: Prover, table: Any, of: Any = Prover.prove, **named: Any) -> Proof:
        tried.append(table.name)
        if table is TABLES[0]:
            raise error
        proof: Proof = await of(prover, table, **named)
        return proof

    monkeypatch.setattr(Prover, "prove", prove)
    await night.tomorrow()
    await one.run_once()
    await one.run_once()
    assert tried == [table.name for table in TABLES]
    assert len(await night.told("projection.verified")) == len(TABLES) - 1
    assert [str(error) in record.getMessage() for record in caplog.records].count(True) == 1
    night.now += timedelta(hours=1)
    await one.run_once()
    assert tried.count(TABLES[0].name) == 2


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
