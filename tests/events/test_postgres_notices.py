"""Who is told that the log of a database has grown, by which batch: heard as another process hears it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from events import batch
from events.postgres import PostgresEventStore
from events.store import Appended
from tests.event_fixtures import LogDatabase, connection, open_store
from tests.factories import new_stream, raw, write

pytestmark = pytest.mark.postgres


@asynccontextmanager
async def hearing(log: LogDatabase) -> AsyncIterator[tuple[PostgresEventStore, asyncio.Queue[int]]]:
    """A store, and what another process hears of it."""
    heard = asyncio.Queue[int]()
    async with connection(log.app_dsn) as other, open_store(log.app_dsn) as store:
        await other.add_listener("gateway_log", lambda *told: heard.put_nowait(int(str(told[3]))))
        yield store, heard


async def test_a_batch_that_nothing_follows_tells_at_once(
    empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However soon it comes after another: nobody waits for a notice that is owed."""
    monkeypatch.setattr("events.notices.QUIET_SECONDS", 3600.0)
    monkeypatch.setattr("events.notices.PATIENCE_SECONDS", 3600.0)
    async with hearing(empty_log) as (store, heard):
        for position in (1, 2, 3):
            await store.append(write(new_stream()))
            assert await asyncio.wait_for(heard.get(), 10) == position


@pytest.mark.parametrize("last", ["duplicate", "conflict", "refused", "nothing"])
async def test_a_silent_batch_is_told_of_whatever_follows(
    empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """What follows it may append nothing, fail, or never come: readers would wait for their poll."""
    monkeypatch.setattr("events.notices.QUIET_SECONDS", 3600.0)
    known = write(new_stream())
    ends = {
        "duplicate": [known],
        "conflict": [write(new_stream(), expected=7)],
        "refused": [write(new_stream(), raw(type="poison.one"))],
        "nothing": [],
    }
    async with connection(empty_log.admin_dsn) as admin, hearing(empty_log) as (store, heard):
        await admin.execute("alter table log.events add constraint no_poison check (type not like 'poison%')")
        await store.append(known)
        assert await asyncio.wait_for(heard.get(), 10) == 1
        monkeypatch.setattr(type(store._writer), "depth", property(lambda writer: 1))  # as if more were waiting
        await store.append(write(new_stream()))
        monkeypatch.undo()
        await asyncio.gather(*(store.append(one) for one in ends[last]), return_exceptions=True)
        assert await asyncio.wait_for(heard.get(), 10) == 2


async def test_a_silent_batch_whose_answer_was_lost_is_told_of(
    empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again it is a duplicate, which tells nobody by itself."""
    monkeypatch.setattr("events.notices.QUIET_SECONDS", 3600.0)
    fetch, lost = asyncpg.Connection.fetch, list[str]()

    async def cut(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        rows = await fetch(self, query, *arguments, **options)
        if query == batch.APPEND and not lost and arguments[-2] is False:
            lost.append(query)
            raise ConnectionResetError("after the commit")
        return rows

    monkeypatch.setattr(asyncpg.Connection, "fetch", cut)
    async with hearing(empty_log) as (store, heard):
        await store.append(write(new_stream()))
        assert await asyncio.wait_for(heard.get(), 10) == 1
        monkeypatch.setattr(type(store._writer), "depth", property(lambda writer: 1))
        assert isinstance(await store.append(write(new_stream())), Appended)
        assert lost and await asyncio.wait_for(heard.get(), 10) == 2


async def test_what_is_owed_is_told_at_the_end(empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.notices.QUIET_SECONDS", 3600.0)
    monkeypatch.setattr("events.notices.PATIENCE_SECONDS", 3600.0)
    async with hearing(empty_log) as (store, heard):
        await store.append(write(new_stream()))
        monkeypatch.setattr(type(store._writer), "depth", property(lambda writer: 1))
        await store.append(write(new_stream()))
        monkeypatch.undo()
        await store.close()
        assert [await asyncio.wait_for(heard.get(), 10) for _ in range(2)] == [1, 2]
