"""Rows and checkpoint together or not at all, by whoever holds the lease, also behind a pooler."""

from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from events.envelope import Fence
from events.errors import StoreUnavailable
from events.lease import PostgresLeases
from events.mark import Mark
from projections import table_sql
from projections.errors import Superseded
from projections.gateways import GatewayState
from projections.projector import LEASE
from projections.table_store import COPIED, Changes, TableStore
from projections.tables import GATEWAYS, SESSIONS, TABLES
from tests.event_fixtures import LogDatabase, open_store
from tests.factories import LOG_ID, MOMENT
from tests.projections.projecting import projecting

pytestmark = pytest.mark.postgres
STATE = GatewayState(instance="g1", started_at=MOMENT)


def to(position: int) -> Mark:
    return Mark(position, uuid4(), datetime.now(UTC))


async def test_write_moves_what_was_seen_and_nothing_else(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        rows, leases = TableStore(store.pool), PostgresLeases(store.pool)
        assert await rows.reached() == 0
        fence = Fence(LEASE, await leases.claim(LEASE, "one", 600) or 0)
        begun = await rows.begin(GATEWAYS, LOG_ID, fence)
        change = Changes(GATEWAYS, {"g1": STATE})
        seen = await rows.write([change], {"gateways": begun.updated_at}, to(3), fence)
        assert await rows.load(GATEWAYS, ["g1", "g2"]) == {"g1": STATE}
        for late, held in (
            ({"gateways": begun.updated_at}, fence),
            (seen, Fence(LEASE, fence.epoch + 1)),
            (seen, Fence("another", fence.epoch)),
            (seen | {"sessions": begun.updated_at}, fence),
        ):
            with pytest.raises(Superseded):
                await rows.write([Changes(GATEWAYS, {"g1": None})], late, to(9), held)
        with pytest.raises(Superseded):
            await rows.begin(SESSIONS, LOG_ID, Fence(LEASE, fence.epoch + 1))
        assert await rows.load(GATEWAYS, ["g1"]) == {"g1": STATE}
        assert (await rows.checkpoints())["gateways"].position == 3


async def test_new_holder_shuts_the_former_one_out(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        rows, leases = TableStore(store.pool), PostgresLeases(store.pool)
        fence = Fence(LEASE, await leases.claim(LEASE, "one", 600) or 0)
        begun = await rows.begin(GATEWAYS, LOG_ID, fence)
        await rows.claim(fence.epoch + 1)
        with pytest.raises(Superseded):
            await rows.write([], {"gateways": begun.updated_at}, to(3), fence)


async def test_tables_of_a_later_release_are_not_begun_anew(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        rows, leases = TableStore(store.pool), PostgresLeases(store.pool)
        fence = Fence(LEASE, await leases.claim(LEASE, "one", 600) or 0)
        await rows.begin(GATEWAYS, LOG_ID, fence)
        await store.pool.execute("update view.projection_checkpoint set version = version + 1")
        with pytest.raises(Superseded):
            await rows.begin(GATEWAYS, LOG_ID, fence)


async def test_database_that_does_not_answer_is_away(empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_sql, "BOUNDED", table_sql.BOUNDED.replace("4s", "50ms"))
    async with open_store(empty_log.app_dsn) as store:
        rows = TableStore(store.pool)
        async with store.pool.acquire() as other, other.transaction():
            await other.execute("lock table view.projection_checkpoint in access exclusive mode")
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                await rows.claim(1)
        await rows.claim(1)


async def test_gateway_has_the_rights_that_it_needs_and_no_more(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        for table in TABLES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await store.pool.execute(f"drop table view.{table.name}")


@pytest.mark.slow
async def test_tables_are_carried_on_behind_a_pooler(pooled_empty_log: LogDatabase) -> None:
    """Each transaction gets another session: nothing may live in one."""
    async with projecting(pooled_empty_log) as world:
        projector = world.projector("one")
        for name in ("a", "b", "c"):
            head = await world.live(name)
            await projector.run_once()
        assert await world.agrees() == head
        setting = await world.store.pool.fetchval("show synchronous_commit")
        assert setting == "on", "what a transaction set is gone with it"


async def test_many_new_rows_are_the_same_as_few(empty_log: LogDatabase) -> None:
    """They are copied, which is quicker, beside those that change and those that go, and with every odd value."""
    states = {f"g{number}": msgspec.structs.replace(STATE, instance=f"g\0{number}") for number in range(COPIED + 2)}
    async with open_store(empty_log.app_dsn) as store:
        rows, leases = TableStore(store.pool), PostgresLeases(store.pool)
        fence = Fence(LEASE, await leases.claim(LEASE, "one", 600) or 0)
        begun = await rows.begin(GATEWAYS, LOG_ID, fence)
        seen = await rows.write(
            [Changes(GATEWAYS, {"g0": STATE, "g1": STATE})], {"gateways": begun.updated_at}, to(1), fence
        )
        changes = Changes(GATEWAYS, states | {"g1": None}, frozenset(states) - {"g0", "g1"})
        await rows.write([changes], seen, to(2), fence)
        assert await rows.load(GATEWAYS, list(states)) == {key: states[key] for key in states if key != "g1"}
