"""The store that spools (``events.fallback``) while Postgres is killed or frozen, and while its own disk is full.

Shown: facts are acknowledged all the while as *spooled*, decisions are refused at once; when Postgres is back, what was
spooled enters the log by itself, once, and before anything that its producer appended later.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from events import writer
from events.store import Spooled
from tests.counts import Tell
from tests.event_fixtures import open_store, until
from tests.factories import new_stream, write
from tests.failures import small_disk
from tests.failures.load import DECIDERS, PRODUCERS, loaded
from tests.failures.server import OwnServer
from tests.failures.small_disk import SmallDisk
from tests.failures.spooling import recovered, spooling, spools
from tests.failures.verdict import judge

pytestmark = pytest.mark.postgres

FROZEN_SECONDS = 10.0
AT_ONCE_SECONDS = 1.0
CLOSE_SECONDS = 12.0  # ten, and a busy machine's patience
SOON_SECONDS = 0.5  # for the writer to give up; the frozen server is met with its own patience


async def test_killed_postmaster_costs_no_fact_that_was_spooled(
    own_server: OwnServer, tmp_path: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: the second outage finds the spool as the first one left it, empty."""
    monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", SOON_SECONDS)
    spool = tmp_path / "spool"
    async with open_store(own_server.database.app_dsn) as postgres, spooling(postgres, spool) as store:
        async with loaded(store) as load:
            for _ in range(2):
                await load.progress(100, "appended", "duplicate")
                own_server.kill()
                await load.progress(60, "spooled")
                await load.refusals(DECIDERS)
                assert spools(spool) and not store.status.available
                await own_server.restart()
                await recovered(store)
            await load.progress(100, "appended", "duplicate")
        assert spools(spool) == []
    counts = await judge(own_server.database, load.ledger)
    tell(f"postmaster killed twice, with a spool: {counts}")
    assert counts.spooled >= 120


async def test_frozen_server_costs_no_fact_that_was_spooled(own_server: OwnServer, tmp_path: Path, tell: Tell) -> None:
    """Only the call that finds out waits; then facts are spooled, all else is refused, at once."""
    async with (
        open_store(own_server.database.app_dsn) as postgres,
        spooling(postgres, tmp_path / "spool") as store,
        loaded(store) as load,
    ):
        await load.progress(100)
        with own_server.frozen():
            thaw = asyncio.create_task(asyncio.sleep(FROZEN_SECONDS))
            await load.progress(60, "spooled")
            begun = time.monotonic()
            await load.refusals(DECIDERS)
            at_once = time.monotonic() - begun
            assert not thaw.done(), "producers waited for the server to move"
            known = store.status
            await thaw
        await recovered(store)
        await load.progress(100, "appended", "duplicate")
    assert not known.available and known.spooled_units >= 60
    assert at_once < AT_ONCE_SECONDS
    counts = await judge(own_server.database, load.ledger)
    tell(f"server frozen {FROZEN_SECONDS:.0f} s, with a spool: {counts}")


async def test_process_that_ends_while_the_server_is_frozen_keeps_its_facts(
    own_server: OwnServer, tmp_path: Path, tell: Tell
) -> None:
    """What was under way was refused, and nobody was left to send it again: it is spooled for the next process."""
    facts = [write(new_stream()) for _ in range(2000)]
    async with open_store(own_server.database.app_dsn) as postgres:
        async with spooling(postgres, tmp_path / "spool") as store:
            await store.append(write(new_stream()))
            with own_server.frozen():
                under_way = [asyncio.create_task(store.append(fact)) for fact in facts]
                await asyncio.sleep(0)
                begun = time.monotonic()
                await store.close()
                seconds = time.monotonic() - begun
        assert {type(task.result()) for task in under_way} == {Spooled} and seconds < CLOSE_SECONDS
    async with open_store(own_server.database.app_dsn) as postgres, spooling(postgres, tmp_path / "spool", "next"):
        await until(lambda: _empty(tmp_path / "spool"))
        there = [one.event_id for one in await postgres.read_log(limit=3000)]
    assert there[1:] == [one.events[0].event_id for one in facts]
    tell(f"closed with 2,000 facts under way and a frozen server: {seconds:.1f} s, all of them spooled")


async def _empty(directory: Path) -> bool:
    return spools(directory) == []


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk.mounted(1) as mounted:
        yield mounted


async def test_full_disk_of_the_spool_refuses_and_loses_nothing(
    own_server: OwnServer, disk: SmallDisk, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was spooled before is safe, and room that is freed is used, also while Postgres is still away."""
    monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", SOON_SECONDS)
    async with (
        open_store(own_server.database.app_dsn) as postgres,
        spooling(postgres, disk.path / "spool") as store,
        loaded(store) as load,
    ):
        await load.progress(60)
        own_server.kill()
        for _ in range(2):
            await load.progress(30, "spooled")
            disk.fill()
            await load.refusals(PRODUCERS)
            disk.free()
        await load.progress(30, "spooled")
        disk.fill()
        await own_server.restart()
        await recovered(store)
        await load.progress(60, "appended", "duplicate")
    counts = await judge(own_server.database, load.ledger)
    tell(f"postmaster killed and the spool's disk full three times: {counts}")
    assert counts.spooled >= 90
