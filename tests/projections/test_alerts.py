"""Alerts: what is noted of an alert is changed by the holder of the lease alone, and by none whose alert it is not."""

from datetime import UTC, datetime

import msgspec
import pytest

from events.envelope import Fence
from events.errors import StoreUnavailable
from events.ids import uuid7
from projections.alerts import Alert, Alerts
from projections.errors import Superseded
from tests.event_fixtures import LogDatabase, open_store
from tests.projections.rebuilding import Ground
from tests.projections.rebuilding import database as database
from tests.projections.rebuilding import on as on

pytestmark = pytest.mark.postgres


def alert() -> Alert:
    since = datetime(2026, 3, 2, 3, tzinfo=UTC)
    return Alert(name="sessions", alert_id=uuid7(), instance="gw-1", since=since, detail="It differs.", cause=uuid7())


async def test_an_alert_stands_until_its_end_is_told(on: Ground) -> None:
    alerts, one, cleared_id = Alerts(on.store.pool), alert(), uuid7()
    fence = Fence("prove", await on.leases.claim("prove", "gw-1") or 0)
    await alerts.open(one, fence)
    assert await alerts.standing() == {"sessions": one}
    await alerts.told(one, fence)
    await alerts.end(one, cleared_id, fence)
    assert await alerts.standing() == {"sessions": msgspec.structs.replace(one, told=True, cleared_id=cleared_id)}
    await alerts.forget(one, fence)
    assert await alerts.standing() == {}


async def test_a_former_holder_and_a_former_alert_change_nothing(on: Ground) -> None:
    alerts, one, other = Alerts(on.store.pool), alert(), alert()
    former = Fence("prove", await on.leases.claim("prove", "gw-1") or 0)
    await on.leases.release("prove", "gw-1")
    fence = Fence("prove", await on.leases.claim("prove", "gw-2") or 0)
    with pytest.raises(Superseded):
        await alerts.open(one, former)
    assert await alerts.standing() == {}
    await alerts.open(one, fence)
    for held, named in ((former, one), (fence, other)):
        for change in (alerts.told, alerts.forget):
            with pytest.raises(Superseded):
                await change(named, held)
        with pytest.raises(Superseded):
            await alerts.end(named, uuid7(), held)
    with pytest.raises(Superseded):
        await alerts.open(other, fence)
    assert await alerts.standing() == {"sessions": one}


async def test_a_database_that_is_away_is_said_to_be(database: LogDatabase) -> None:
    async with open_store(database.app_dsn) as store:
        alerts = Alerts(store.pool)
    for work in (alerts.standing(), alerts.told(alert(), Fence("prove", 1))):
        with pytest.raises(StoreUnavailable):
            await work
