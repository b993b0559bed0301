"""A flood of what nobody has ever heard of: random sessions, tokens and keys of the right shape, at the real routes.

Each could be known to another process since a moment ago, so each is looked for at the head before it is refused. All
share twenty looks a second, and who is known does not wait for any.
"""

import asyncio
from pathlib import Path
from typing import Final

import httpx
import pytest

from events.store import Head
from gateway.storage import open_storage
from projections.views import HEAD_LOOKS_PER_SECOND
from tests.counts import Tell
from tests.event_fixtures import LogDatabase
from tests.gateway.cli.conftest import database_variables
from tests.gateway_fixtures import Gateway, Session, start_gateway
from tests.walks.flooding import flood, flood_beside, guesses
from tests.walks.mock_process import two_gateways

__all__ = ["database_variables"]
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
SECONDS: Final = 2.0
HONEST_SECONDS: Final = 0.1  # 99 of 100 honest reads on a machine of its own; a test allows it five times


def count_heads(gateway: Gateway) -> list[float]:
    """The times at which the store itself is asked for its head from now on, but by jobs that ask at their own pace."""
    store, times = gateway.services.store, list[float]()
    ask = store.head
    jobs = {task.get_name() for task in asyncio.all_tasks()} - {"head-look"}

    async def head() -> Head:
        task = asyncio.current_task()
        if task is None or task.get_name() not in jobs:
            times.append(asyncio.get_running_loop().time())
        return await ask()

    store.head = head  # type: ignore[method-assign]  # at the store, whoever asks it
    return times


async def test_a_flood_costs_twenty_looks_a_second(
    tmp_path: Path, database_variables: dict[str, str], tell: Tell
) -> None:
    """Counted at the store: over the whole flood, and in every second of it."""
    async with start_gateway(tmp_path, database_variables, log_of=open_storage) as gateway:
        session = await gateway.open()
        heads, loop = count_heads(gateway), asyncio.get_running_loop()
        key = dict(gateway.client.headers)
        began = loop.time()
        seen = await flood(gateway.url, guesses({"authorization": key["authorization"]}, session.session_id), SECONDS)
        took = loop.time() - began
        assert set(seen) == {401, 404} and seen.total() > 100, seen
        assert len(heads) <= took * HEAD_LOOKS_PER_SECOND + 1
        busiest = max(sum(at <= other < at + 1 for other in heads) for at in heads)
        assert busiest <= HEAD_LOOKS_PER_SECOND
        tell(
            f"{seen.total()} guesses in {took:.1f} s cost {len(heads)} looks at the head, {busiest} in a second at most"
        )


async def test_honest_reads_are_hardly_slowed_by_a_flood(tmp_path: Path, empty_log: LogDatabase, tell: Tell) -> None:
    """On a gateway that is a process of its own: reads of a session, and its use, while others guess."""
    async with two_gateways(tmp_path, empty_log) as (gateway, _), gateway.client() as client:
        session = await gateway.open(client)
        calm = await honest_reads(client, session, 1.0)
        key = gateway.key["authorization"].removeprefix("Bearer ")
        flooding = asyncio.create_task(flood_beside(gateway.url, key, session.session_id, SECONDS))
        flooded = await honest_reads(client, session, SECONDS + 0.5)  # until it has begun, and to its end
        seen = await flooding
        assert set(seen) == {401, 404} and seen.total() > 100, seen
        assert flooded[1] < HONEST_SECONDS * 5, flooded
        tell(
            f"an honest read beside {seen.total() / SECONDS:.0f} guesses/s: "
            f"p50 {flooded[0] * 1000:.1f} ms, p99 {flooded[1] * 1000:.1f} ms; without: "
            f"{calm[0] * 1000:.1f} and {calm[1] * 1000:.1f} ms"
        )


async def honest_reads(client: httpx.AsyncClient, session: Session, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile, in seconds, of reads by a known key and uses of a known token."""
    loop, took = asyncio.get_running_loop(), list[float]()
    until = loop.time() + seconds
    while loop.time() < until:
        for path, headers in ((f"/sessions/{session.session_id}", {}), (session.path("x"), session.headers)):
            began = loop.time()
            answer = await client.get(path, headers=headers)
            took.append(loop.time() - began)
            assert answer.status_code == 200, answer.text
    took.sort()
    return took[len(took) // 2], took[int(len(took) * 0.99)]
