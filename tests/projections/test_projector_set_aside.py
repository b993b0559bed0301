"""One table that cannot be gone on with stops neither the others nor the start of a process; and the lease, deleted."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from events.catalogue import AdmissionGranted, ExchangeCompleted, SessionRequested, TokenIssued
from events.lease import PostgresLeases
from projections.projector import ASIDE_SECONDS
from projections.proof import Prover
from projections.rebuild import Rebuilder
from projections.table import Table
from projections.tables import EXCHANGES, SESSIONS, TABLES, VIEWED
from projections.views import Views
from tests.event_fixtures import LogDatabase, connection, until
from tests.factories import event, write
from tests.projections.lives import used
from tests.projections.projecting import Projecting, projecting

pytestmark = pytest.mark.postgres
BROKEN = {
    "no text": b'{"session_id":"\xff"}',
    "too deep": b'{"session_id":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "another shape": b"{}",
    "nothing": b"",
}
LONG = secrets.token_hex(8_000)


@pytest_asyncio.fixture
async def world(empty_log: LogDatabase) -> AsyncIterator[Projecting]:
    async with projecting(empty_log) as opened:
        yield opened


async def tell(*said: Any) -> None:
    """Nobody listens."""


async def break_a_row(world: Projecting, state: bytes) -> int:
    """Tables at the head, then one state that nobody can read, then an event that touches it. The head."""
    await world.live("a")
    projector = world.projector("one")
    await projector.run_once()
    await projector.close()
    await world.store.pool.execute("update view.sessions set state = $1 where session_id = 'a-0'", state)
    await world.store.append(*used("a-0", 1))
    return (await world.store.head()).position


@pytest.mark.parametrize("state", BROKEN.values(), ids=BROKEN)
async def test_a_row_that_cannot_be_read_costs_its_table_alone(
    world: Projecting, state: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    head = await break_a_row(world, state)
    views = Views(world.store, rows=world.rows)
    await views.load()
    assert {projection.name: states for projection, states in views.folds} == await world.folded(head, VIEWED)
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "sessions cannot be read" in caplog.text
    caplog.clear()
    await world.projector("another").run_once()
    assert await world.agrees() == head
    assert [record.levelname for record in caplog.records] == ["ERROR"] and "it is made anew" in caplog.text


async def test_its_table_is_made_anew_beside_the_others(world: Projecting) -> None:
    head = await break_a_row(world, b"{}")
    leases, going, made = PostgresLeases(world.store.pool), asyncio.Event(), list[str]()
    rebuilder = Rebuilder(world.store, world.store.pool, leases, holder="another", tell=tell)

    async def make(table: Table[Any]) -> bool:
        await going.wait()
        made.append(table.name)
        return await rebuilder.make(table)

    projector = world.projector("another", make=make)
    await projector.run_once()
    others = {name: at for name, at in (await world.positions()).items() if name != "sessions"}
    assert set(others.values()) == {head} and "sessions" not in projector.positions
    going.set()

    async def done() -> bool:
        await projector.run_once()
        return projector.positions.get("sessions") == head

    await until(done)
    assert made == ["sessions"] and await world.agrees() == head
    await projector.close()


async def test_a_table_that_cannot_be_made_keeps_none_that_is_condemned_later(
    world: Projecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The making that knows of the first alone is still at it, without success, when the second is found."""
    monkeypatch.setattr("projections.projector.MAKE_SECONDS", 0.01)
    head = await break_a_row(world, b"{}")
    await world.store.pool.execute("update view.projection_checkpoint set version = 0 where name = 'tokens'")
    tried = list[str]()
    rebuilder = Rebuilder(world.store, world.store.pool, PostgresLeases(world.store.pool), holder="another", tell=tell)

    async def make(table: Table[Any]) -> bool:
        tried.append(table.name)
        return table.name != "tokens" and await rebuilder.make(table)

    projector = world.projector("another", make=make)

    async def done() -> bool:
        await projector.run_once()
        return projector.positions.get("sessions") == head

    await until(done)
    assert tried[0] == "tokens" and "tokens" not in projector.positions
    await projector.close()


async def test_a_row_that_is_refused_sets_its_table_aside(
    world: Projecting, empty_log: LogDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Told once, with the table and the reason; the next holder tries again."""
    before = await world.live("a")
    projector = world.projector("one")
    await projector.run_once()
    async with connection(empty_log.admin_dsn) as admin:
        await admin.execute("alter table view.exchanges add constraint mine check (session_id <> 'b-0')")
    with caplog.at_level(logging.INFO, "session_gateway.projector"):
        head = await world.live("b")
        for _ in range(3):
            await projector.run_once()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1 and "exchanges" in told[0] and "mine" in told[0] and "set aside" in told[0]
    found = await world.positions()
    assert found.pop("exchanges") == before and set(found.values()) == {head}
    assert projector.positions["exchanges"] == before, "its lag is told"
    await projector.close()
    async with connection(empty_log.admin_dsn) as admin:
        await admin.execute("alter table view.exchanges drop constraint mine")
    await world.projector("another").run_once()
    assert await world.agrees() == head


async def test_a_table_that_was_set_aside_is_carried_on_when_it_was_rebuilt(
    world: Projecting, empty_log: LogDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """As the line that told of it advises: mended, then rebuilt by a command, while the projector goes on."""
    now = 0.0
    before = await world.live("a")
    projector = world.projector("one", clock=lambda: now)
    await projector.run_once()
    async with connection(empty_log.admin_dsn) as admin:
        await admin.execute("alter table view.exchanges add constraint mine check (session_id <> 'b-0')")
    await world.live("b")
    await projector.run_once()
    async with connection(empty_log.admin_dsn) as admin:
        await admin.execute("alter table view.exchanges drop constraint mine")
    now += ASIDE_SECONDS
    await projector.run_once()
    assert projector.positions["exchanges"] == before, "nobody has rebuilt it"
    leases = PostgresLeases(world.store.pool)
    await Rebuilder(world.store, world.store.pool, leases, holder="command", tell=tell).rebuild(EXCHANGES)
    head = await world.live("c")
    now += ASIDE_SECONDS
    with caplog.at_level(logging.INFO, "session_gateway.projector"):
        await projector.run_once()
    assert projector.positions == dict.fromkeys(projector.positions, head) and await world.agrees() == head
    assert "the table exchanges was rebuilt: it is carried on again" in caplog.text
    await projector.close()


async def test_odd_names_stop_no_table(world: Projecting) -> None:
    """Texts that no index holds, and a NUL: in keys, in other indexed columns, within JSON. Keys stay apart."""
    seats = [event(AdmissionGranted, session_id=name) for name in ("a\0b", "a\ufffdb", LONG)]
    for seat in seats:
        await world.store.append(write("admission", seat))
    for name in ("n\0", "n\ufffd", LONG, LONG + "x", "n#sha256:" + "0" * 64):
        opened = event(SessionRequested, session_id=name, container=name)
        issued = event(TokenIssued, session_id=name, sha256=name)
        exchanged = event(ExchangeCompleted, exchange_id=name, session_id=name, container=name)
        await world.store.append(write("session-odd", opened, issued, exchanged))
    projector = world.projector("one")
    await projector.run_once()
    await projector.close()
    head = (await world.store.head()).position
    assert set((await world.positions()).values()) == {head}
    assert await world.agrees(VIEWED) == head
    for table in TABLES:
        assert (await Prover(world.store, world.store.pool, tell=tell).prove(table)).differing == 0, table.name
    held = await world.rows.load(SESSIONS, [LONG, "n\0", "nobody"])
    assert set(held) == {LONG, "n\0"} and held[LONG].session_id == LONG
    views = Views(world.store, rows=world.rows)
    await views.load()
    assert {projection.name: states for projection, states in views.folds} == await world.folded(head, VIEWED)
    for name in ("n\0", LONG):
        again = event(ExchangeCompleted, exchange_id=name + "2", session_id=name, container=name)
        await world.store.append(write("session-odd", again))
    await world.projector("another").run_once()
    assert await world.agrees(VIEWED) == head + 2


async def test_a_lease_that_was_deleted_begins_above_the_checkpoints(
    world: Projecting, caplog: pytest.LogCaptureFixture
) -> None:
    """Its epoch begins at 1 again, below that of the tables: nobody could have written them any more."""
    for holder in ("one", "another"):
        await world.live(holder)
        projector = world.projector(holder)
        await projector.run_once()
        await projector.close()
    stale = world.projector("stale", clock=lambda: 0.0)
    await stale.run_once()
    await world.store.pool.execute("delete from view.lease where name = 'projector'")
    head = await world.live("c")
    await world.projector("third").run_once()
    assert await world.agrees() == head
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "epoch 4 instead of 1" in caplog.text
    await world.live("d")
    await stale.run_once()
    assert await world.agrees() == head, "the former holder is shut out all the same"
