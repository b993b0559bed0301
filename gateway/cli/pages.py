"""Pages: walks an answer that comes in parts, by the cursor of each, and says on the side how far it is."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.cli import printing
from gateway.control import GatewayClient

SAY_SECONDS: Final = 2.0
Query = Sequence[tuple[str, str | int]]


async def pages(
    client: GatewayClient,
    path: str,
    query: Query,
    *,
    headers: Mapping[str, str],
    walk: bool,
    say: Callable[[str], None] = printing.note,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[tuple[bytes, dict[str, Any]]]:
    """Each page as it came and as JSON: one, or with ``walk`` all up to the head that the log has by then.

    What the walk itself appends (each page is a reading, and an event) is beyond its first head, and not walked after.
    """
    limit = [pair for pair in query if pair[0] == "limit"]
    said, goal = clock(), None
    while True:
        answer = await client.call("GET", path, query=query, headers=headers)
        page = msgspec.json.decode(answer)
        yield answer, page
        goal = page["head"] if goal is None else goal
        reached = page.get("next", 0)
        if not walk or page["complete"] or reached >= goal:
            return
        if clock() - said >= SAY_SECONDS:
            said = clock()
            say(f"looked at {reached:,} of {goal:,} positions")
        query = [("cursor", page["cursor"]), *limit]


def going_on(page: Mapping[str, Any], what: str, count: int) -> str:
    """The line that says what was found, and how to go on."""
    found = printing.count(count, what)
    if page["complete"]:
        return f"{found}, up to the end of the log at position {page['head']:,}."
    return f"{found}; there may be more: go on with --cursor {page['cursor']}, or take --all."
