"""A page of the log into tables: rows that go, events that cannot be read, places that are shared."""

import random
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from events.catalogue import GatewayStopped, Payload
from events.envelope import Fence, RecordedEvent, session_stream
from events.errors import StoreUnavailable
from events.lease import PostgresLeases
from projections.follower import Follower
from projections.gateways import Gateways, GatewayState
from projections.projector import LEASE
from projections.tables import GATEWAYS, SESSIONS, TABLES, TOKENS
from tests.event_fixtures import LogDatabase
from tests.factories import payload, raw, write
from tests.projections.histories import one_of_each
from tests.projections.projecting import Projecting, projecting

pytestmark = pytest.mark.postgres


class Running(Gateways):
    """Gateways that run: one that ended has no state any more."""

    def evolve(self, state: GatewayState | None, event: RecordedEvent, payload: Payload) -> GatewayState | None:
        after = super().evolve(state, event, payload)
        return None if after is not None and after.ended_at is not None else after


@pytest_asyncio.fixture
async def world(empty_log: LogDatabase) -> AsyncIterator[Projecting]:
    async with projecting(empty_log) as opened:
        yield opened


@pytest_asyncio.fixture
async def fence(world: Projecting) -> Fence:
    epoch = await PostgresLeases(world.store.pool).claim(LEASE, "one", 600)
    assert epoch is not None
    return Fence(LEASE, epoch)


async def test_row_goes_with_its_state(world: Projecting, fence: Fence) -> None:
    """Also one that came and went within a page, and one that comes again."""
    table = msgspec.structs.replace(GATEWAYS, projection=Running())
    await world.live("a", sessions=0)
    await world.live("b", sessions=0)
    await world.rows.begin(table, world.store.log_id, fence)
    follower = await world.follower([table])
    await follower.step(fence)
    assert set((await world.held([table]))["gateways"]) == {"gw-a", "gw-b"}
    await world.store.append(write("gateway-gw-a", payload(GatewayStopped, instance="gw-a")))
    await world.live("c", sessions=0)
    await world.store.append(write("gateway-gw-c", payload(GatewayStopped, instance="gw-c")))
    await follower.step(fence)
    assert set((await world.held([table]))["gateways"]) == {"gw-b"}
    await world.live("a", sessions=0)
    await follower.step(fence)
    assert set((await world.held([table]))["gateways"]) == {"gw-a", "gw-b"}


async def test_event_that_cannot_be_read_is_told_of_and_passed_over(world: Projecting, fence: Fence) -> None:
    """Nobody may pass over it in silence: as long as it cannot be told, nothing moves. Types of no table count too."""
    await world.rows.begin(SESSIONS, world.store.log_id, fence)
    head = await world.live("a", sessions=1)
    for tag in ("session.failed", "log.read"):
        await world.store.append(write("session-a-0", raw(type=tag, payload=b"{}")))
    before, told, away = await world.rows.checkpoints(), list[int](), True

    async def tell(event: RecordedEvent) -> None:
        if away:
            raise StoreUnavailable("for now")
        told.append(event.position)

    with pytest.raises(StoreUnavailable, match="for now"):
        await Follower(world.store, world.rows, [SESSIONS], [before["sessions"]], tell=tell).step(fence)
    assert await world.rows.checkpoints() == before and not told
    away = False
    await Follower(world.store, world.rows, [SESSIONS], [before["sessions"]], tell=tell).step(fence)
    assert told == [head + 1, head + 2] and await world.agrees([SESSIONS]) == head + 2


async def test_tables_that_meet_go_on_as_one(world: Projecting, fence: Fence) -> None:
    for table in (SESSIONS, TOKENS):
        await world.rows.begin(table, world.store.log_id, fence)
    await world.live("a")
    one, other = await world.follower([SESSIONS]), await world.follower([TOKENS])
    await one.step(fence)
    await other.step(fence)
    assert one.position == other.position
    one.join(other)
    head = await world.live("b")
    await one.step(fence)
    assert one.position == head and set(one.tables) == {SESSIONS, TOKENS}
    assert await world.agrees([SESSIONS, TOKENS]) == head


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_boundaries_of_pages_make_the_same_rows(
    world: Projecting, fence: Fence, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Of a history in any order, legal or not, folded one event at a time and all at once."""
    told = [(each, one) for each in ("s1", "s2") for generation in (1, 2) for one in one_of_each(each, generation)]
    random.Random(seed).shuffle(told)
    for session_id, one in told:
        await world.store.append(write(session_stream(session_id), one))
    for page in (1, 2, 7, 1000):
        monkeypatch.setattr("projections.follower.PAGE", page)
        monkeypatch.setattr("projections.follower.MOST", page)
        for table in TABLES:
            await world.rows.begin(table, world.store.log_id, fence)
        follower = await world.follower()
        while await follower.step(fence):
            pass
        assert await world.agrees() == len(told)
    assert any((await world.held()).values())
