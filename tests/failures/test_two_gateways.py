"""Two processes, each with a writer of its own, on one log: on streams of their own and on one that both decide about.

Shown under kill -9 of the postmaster and of both writers' backends: each decision has a version for itself, and what
either was told is what the log holds.
"""

import asyncio

import pytest

from tests.counts import Tell
from tests.factories import new_stream
from tests.failures import load_process
from tests.failures.server import OwnServer
from tests.failures.verdict import judge, read_whole

pytestmark = pytest.mark.postgres


async def test_two_gateways_on_one_stream_survive_kills(own_server: OwnServer, tell: Tell) -> None:
    """The version decides who of both was first, also when the answer to it was lost."""
    database, contested = own_server.database, new_stream()
    async with (
        load_process.started("a", database.app_dsn, contested=contested) as one,
        load_process.started("b", database.app_dsn, contested=contested) as other,
    ):
        await asyncio.gather(one.progress(60), other.progress(60))
        own_server.kill()
        await own_server.restart()
        await asyncio.gather(one.progress(60), other.progress(60))
        killed = await own_server.kill_writers()
        await asyncio.gather(one.progress(60), other.progress(60))
        await asyncio.gather(one.end(), other.end())
    counts = await judge(database, one.ledger, other.ledger)
    writers = [{event_id for unit in each.ledger.sent.values() for _, event_id in unit.events} for each in (one, other)]
    decided = [event.event_id for event in await read_whole(database) if event.stream_id == contested]
    shares = [sum(event_id in ids for event_id in decided) for ids in writers]
    tell(f"two gateways, postmaster and {killed} backends killed: {counts}; {shares} decisions on one stream")
    assert counts.conflicts > 0 and min(shares) > 0
