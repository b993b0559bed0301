"""Beside: rows of a table elsewhere, in a transaction of whoever asks for it."""

import pytest

from events.catalogue import ApiKeyCreated
from events.envelope import KEYS, Fence
from events.postgres import PostgresEventStore
from projections.beside import Beside
from projections.checkpoint import Checkpoint
from projections.follower import Follower
from projections.tables import API_KEYS
from tests.event_fixtures import LogDatabase, connection, open_store
from tests.factories import MOMENT, write

pytestmark = pytest.mark.postgres


async def test_rows_go_where_they_are_sent_and_with_the_transaction(empty_log: LogDatabase) -> None:
    async with open_store(empty_log.app_dsn) as store:
        await store.append(write(KEYS, ApiKeyCreated))
        rows = Beside(store.pool, "pg_temp", "elsewhere")
        async with connection(empty_log.app_dsn) as app:
            begun = app.transaction()
            await begun.start()
            await app.execute("create temporary table elsewhere (like view.api_keys including all)")
            with rows.within(app):
                await Follower(store, rows, [API_KEYS], [beginning(store)]).step(Fence("", 0))
                (key_id,) = await rows.load(API_KEYS, ["k1"])
            assert await app.fetchval("select array_agg(key_id) from elsewhere") == [key_id]
            await begun.rollback()
            assert await app.fetchval("select to_regclass('pg_temp.elsewhere')") is None
            assert await app.fetchval("select count(*) from view.api_keys") == 0


def beginning(store: PostgresEventStore) -> Checkpoint:
    return Checkpoint(
        name="api_keys",
        version=API_KEYS.projection.version,
        log_id=store.log_id,
        position=0,
        event_id=None,
        recorded_at=None,
        epoch=0,
        updated_at=MOMENT,
    )
