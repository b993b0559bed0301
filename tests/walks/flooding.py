"""A flood of guesses at a gateway: sessions, tokens and keys of the right shape that nobody has ever heard of.

As a process of its own it leaves the loop of a test that measures something beside it alone. Arguments: URL, the key
of an honest caller, a session that exists, seconds. Prints how often each status was answered, as JSON.
"""

import asyncio
import itertools
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

import httpx
import msgspec

from events.ids import short
from gateway.access.keys import new_key
from gateway.access.roles import Role

FLOODERS: Final = 32
Guess = tuple[str, dict[str, str]]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


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


async def flood_beside(url: str, key: str, session_id: str, seconds: float) -> Counter[int]:
    """The same from a process of its own."""
    command = (sys.executable, "-m", "tests.walks.flooding", url, key, session_id, str(seconds))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Counter(msgspec.json.decode(out, type=dict[int, int]))


if __name__ == "__main__":
    url, key, session_id, seconds = sys.argv[1:]
    seen = asyncio.run(flood(url, guesses(bearer(key), session_id), float(seconds)))
    print(msgspec.json.encode(seen).decode())
