"""Steps: follows a session's progress until it has settled, for the commands that wait for one."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec

from gateway.cli import printing
from gateway.cli.client import segment
from gateway.control import GatewayClient, ServerEvent

SETTLED: Final = frozenset({"ready", "failed", "stopped"})  # phases that nothing but a command leaves
_ENDS: Final = frozenset({"session.ready", "session.failed", "session.stopped"})
WAITING: Final = "session.waiting"
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth")
Show = Callable[[str], None]


async def settle(client: GatewayClient, session_id: str, seconds: float, show: Show) -> dict[str, Any]:
    """The session once it is ready, failed or stopped, or as it is after ``seconds``; steps are shown as they come."""
    session = await look(client, session_id)
    if session["phase"] in SETTLED or seconds <= 0:
        return session
    try:
        async with asyncio.timeout(seconds):
            reached = await _end_of(client, session_id, session["generation"], show)
    except TimeoutError:
        return await look(client, session_id)
    return await look(client, session_id, min_position=reached)


async def look(client: GatewayClient, session_id: str, min_position: int = 0) -> dict[str, Any]:
    """The session as it is now, or as it was when the log had grown to ``min_position``, or later."""
    query = [("min_position", min_position)] if min_position else []
    found: dict[str, Any] = msgspec.json.decode(
        await client.call("GET", f"/sessions/{segment(session_id)}", query=query)
    )
    return found


async def _end_of(client: GatewayClient, session_id: str, generation: int, show: Show) -> int:
    """The position of the step that ends the opening of a generation."""
    steps = client.follow(f"/sessions/{segment(session_id)}/progress", on_drop=show)
    begun = False
    async with aclosing(steps):
        async for event in steps:
            step = msgspec.json.decode(event.data)
            if event.name == WAITING:
                show(told(event))
                continue
            # Steps of earlier containers come first; those that name none (tokens) belong to what went before them.
            begun = step["facts"].get("generation", generation if begun else None) == generation
            if begun:
                show(told(event))
                if event.name in _ENDS:
                    return int(step["position"])
    raise AssertionError("a stream that is followed does not end")


def ordinal(number: int) -> str:
    """A place in words, where they are short."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def told(event: ServerEvent) -> str:
    """A step on one line."""
    step = msgspec.json.decode(event.data)
    if event.name == WAITING:
        return f"{ordinal(step['place'])} in line, {printing.count(step['booting'], 'other session')} booting"
    return f"{printing.when(step['recorded_at'])}  {step['type']:<22} {printing.facts(step['facts'])}"
