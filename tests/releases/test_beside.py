"""Two releases write to one database at once, and the former goes on alone: nothing is lost, nothing is there twice."""

import hashlib
import json
from pathlib import Path
from uuid import UUID

import pytest

from events import codec, schema
from events.embedded import EmbeddedPostgres
from events.envelope import RecordedEvent
from tests.event_fixtures import APP_USER, as_user, connection, ensure_role, open_store
from tests.releases.inside import whole
from tests.releases.products import CURRENT, RELEASED, Inside, inside, number_of, released, to_come

pytestmark = [pytest.mark.postgres, pytest.mark.patient]
UNITS = 150  # of each writer in each part


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pair", [*RELEASED[-1:], "to come"])
async def test_former_release_serves_beside_the_later_one_and_after_it(
    database: str, postgres_server: EmbeddedPostgres, tmp_path: Path, pair: str
) -> None:
    """N-1, then N beside it, then N-1 alone and started anew; clients write all the time."""
    await ensure_role(postgres_server.admin_dsn, APP_USER)
    former, later = (CURRENT, to_come(tmp_path)) if pair == "to come" else (released(pair, tmp_path), CURRENT)
    async with inside(former, "write", database, "former") as first:
        await first.printed(1 + UNITS)
        async with inside(later, "write", database, "later") as second:
            await second.printed(1 + UNITS)
            await first.prints(UNITS)
            made = await _functions(database)
            assert (await schema.status(database, APP_USER, directory=later.sql)).verdict == "up to date"
            await second.stop()
        await first.prints(UNITS)
        async with inside(former, "write", database, "again") as third:
            await third.printed(1 + UNITS)
            await first.stop()
            await third.prints(UNITS)
            await third.stop()
    assert await _functions(database) == made, "the former release brought nothing back"
    async with open_store(as_user(database, APP_USER)) as store:
        log = await whole(store)
    _check(log, [first, second, third])
    assert third.lines[-1] == _digest(log), "the former release reads what the later one wrote as it is"
    print(f"{number_of(former)} -> {number_of(later)} -> {number_of(former)}: {len(log)} events, none lost, none twice")


def _check(log: list[RecordedEvent], writers: list[Inside]) -> None:
    """The writers' ledgers and the log say the same."""
    at = {event.event_id: event.position for event in log}
    told: dict[UUID, int] = {}
    for writer in writers:
        for mine, shared, position in map(json.loads, writer.lines[1:-1]):
            told |= {UUID(mine): position, UUID(shared): position + 1}
    assert [event.position for event in log] == list(range(1, len(log) + 1)), "no gap"
    assert len(at) == len(log), "none twice"
    assert told == at, "none lost, none that nobody wrote, each where its writer was told"
    heads: dict[str, int] = {}
    for event in log:
        heads[event.stream_id] = heads.get(event.stream_id, 0) + 1
        assert event.version == heads[event.stream_id]


def _digest(log: list[RecordedEvent]) -> str:
    return hashlib.sha256(b"".join(map(codec.leaf_bytes, log))).hexdigest()


async def _functions(dsn: str) -> list[str]:
    """The text of every function."""
    query = (
        "select pg_get_functiondef(oid) as made from pg_proc where pronamespace in ($1::regnamespace, $2::regnamespace)"
    )
    async with connection(dsn) as admin:
        return sorted(row["made"] for row in await admin.fetch(query, "log", "view"))
