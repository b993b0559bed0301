"""kill -9 of a gateway while Postgres is away: what it had spooled is brought into the log by the one that lives.

Its last line may be torn. Nobody was told that it was written, so it is cut and nothing is missed.
"""

import asyncio
from pathlib import Path

import pytest

from tests.counts import Tell
from tests.event_fixtures import until
from tests.failures import load_process
from tests.failures.server import OwnServer
from tests.failures.spooling import spools
from tests.failures.verdict import judge

pytestmark = pytest.mark.postgres


async def test_spool_of_a_killed_gateway_is_taken_over(own_server: OwnServer, tmp_path: Path, tell: Tell) -> None:
    """By another one that spools itself, beside it in the same directory. A file whose process lives is let alone."""
    database, spool = own_server.database, tmp_path / "spool"
    async with (
        load_process.started("dead", database.app_dsn, spool=spool, retry_for=0.5) as dead,
        load_process.started("alive", database.app_dsn, spool=spool, retry_for=0.5) as alive,
    ):
        await asyncio.gather(dead.progress(60), alive.progress(60))
        own_server.kill()
        await asyncio.gather(dead.progress(60, "spooled"), alive.progress(60, "spooled"))
        await dead.kill()
        [_, left] = spools(spool)
        assert left.name == "dead.spool.jsonl"
        _tear(left)
        await alive.progress(30, "spooled")
        assert left in spools(spool)
        await own_server.restart()
        await alive.progress(60, "appended", "duplicate")
        await until(lambda: _gone(left))
        await alive.end()
    assert list(spool.iterdir()) == []
    counts = await judge(database, dead.ledger, alive.ledger)
    tell(f"a gateway of two killed while Postgres was away, its spool torn and taken over: {counts}")
    assert len(dead.ledger.outcomes("spooled")) >= 60


def _tear(spool: Path) -> None:
    """As a process leaves it that dies in a write: the first half of another line."""
    content = spool.read_bytes()
    whole = content[: content.rindex(b"\n") + 1]  # the kill itself may have torn one
    line = whole.splitlines()[-1]
    spool.write_bytes(whole + line[: len(line) // 2])


async def _gone(path: Path) -> bool:
    return path not in spools(path.parent)
