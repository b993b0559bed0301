"""A flood of what nobody has ever heard of: random sessions, tokens and keys of the right shape, at the real routes.

Each could be known to another process since a moment ago, so each is looked for at the head before it is refused. All
share twenty looks a second, and who is known does not wait for any.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest

from events.ids import short
from events.store import Head
from gateway.access.keys import new_key
from gateway.access.roles import Role
from gateway.storage import open_storage
from projections.views import HEAD_LOOKS_PER_SECOND
from tests.counts import Tell
from tests.event_fixtures import LogDatabase
from tests.gateway.cli.conftest import database_variables
from tests.gateway_fixtures import Gateway, Session, start_gateway
from tests.walks.mock_process import two_gateways
from tests.walks.test_two_processes import bearer

__all__ = ["database_variables"]
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
FLOODERS: Final = 32
SECONDS: Final = 2.0
HONEST_SECONDS: Final = 0.1  # 99 of 100 honest reads on a machine of its own; a test allows it five times
Guess = tuple[str, dict[str, str]]


def guesses(key: dict[str, str], session_id: str) -> list[Callable[[], Guess]]:
    """What a flood asks for: paths with headers, never the same twice."""
    return [
        lambda: (f"/sessions/ses_{short()}", key),
        lambda: (f"/s/ses_{short()}/x", bearer(f"gwt_{random.randbytes(16).hex()}")),
        lambda: (f"/s/{session_id}/x", bearer(f"gwt_{random.randbytes(16).hex()}")),
        lambda: ("/sessions", bearer(new_key("guessed", Role.OPERATOR).key)),
    ]


async def flood(url: str, making: list[Callable[[], Guess]], seconds: float) -> Counter[int]:
    """FLOODERS clients for so long, each asking for the next as soon as it was answered; the statuses."""
    seen: Counter[int] = Counter()
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    kinds = itertools.cycle(making)
    limits = httpx.Limits(max_connections=FLOODERS, max_keepalive_connections=FLOODERS)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=limits) as client:

        async def one_after_another() -> None:
            while loop.time() < until:
                path, headers = next(kinds)()
                seen[(await client.get(path, headers=headers)).status_code] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(FLOODERS):
                group.create_task(one_after_another())
    return seen


def count_heads(gateway: Gateway) -> list[float]:
    """The times at which the store itself is asked for its head from now on."""
    store, times = gateway.services.store, list[float]()
    ask = store.head

    async def head() -> Head:
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
        assert busiest <= HEAD_LOOKS_PER_SECOND + 1, "one more: a second may begin and end with one"
        tell(
            f"{seen.total()} guesses in {took:.1f} s cost {len(heads)} looks at the head, {busiest} in a second at most"
        )


async def test_honest_reads_are_hardly_slowed_by_a_flood(tmp_path: Path, empty_log: LogDatabase, tell: Tell) -> None:
    """On a gateway that is a process of its own: reads of a session, and its use, while others guess."""
    async with two_gateways(tmp_path, empty_log) as (gateway, _), gateway.client() as client:
        session = await gateway.open(client)
        calm = await honest_reads(client, session, 1.0)
        making = guesses(gateway.key, session.session_id)
        flooded, seen = await asyncio.gather(
            honest_reads(client, session, SECONDS), flood(gateway.url, making, SECONDS)
        )
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
