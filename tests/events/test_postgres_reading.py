"""Reading the log on Postgres: what a later release's database and the text of a caller ask of it."""

import pytest

from events.store import Appended
from tests.event_fixtures import LogDatabase, connection, open_store
from tests.factories import new_stream, write

pytestmark = pytest.mark.postgres


async def test_columns_of_a_later_release_are_passed_over(empty_log: LogDatabase) -> None:
    """A release may add some to the log, and the former one still reads it."""
    async with connection(empty_log.admin_dsn) as admin, open_store(empty_log.app_dsn) as store:
        await admin.execute("alter table log.events add column mood text default 'bright'")
        stream = new_stream()
        outcome = await store.append(write(stream))
        assert isinstance(outcome, Appended)
        [read] = await store.read_log(stream_id=stream)
        assert read.position == outcome.position
        assert [read] == await store.read_log() == await store.read_stream(stream)
        assert read == await store.find(read.event_id)
