"""Whether a running gateway lets nobody in without the right key or token. Each refusal is an event in its log."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.control import GatewayClient, GatewayRefused
from gateway.doctor.row import Finding, Row, failed, passed
from gateway.doctor.surroundings import Surroundings
from gateway.routes import ROUTES

WRONG: Final = "gwk_doctor.0123456789abcdef0123456789abcdef"
REMEDY: Final = "Stop the gateway and look at what stands before it: this must not be."
SESSIONS: Final = 3


async def _look(here: Surroundings) -> Finding:
    async with here.gateway() as client:
        listed = msgspec.json.decode(await client.call("GET", "/sessions", query=[("limit", SESSIONS)]))
        paths = [*guarded(), *_proxied(listed)]
        open_to_all = [path for path in paths if not await _refused(client, path)]
    if open_to_all:
        return failed(f"Without a key that it knows the gateway answers {', '.join(open_to_all)}.", REMEDY)
    return passed(f"{len(paths)} routes refuse a key or token that they do not know, and one takes ours.", routes=paths)


def guarded() -> Iterator[str]:
    """Every route that reads something and asks for a key, but those of one thing."""
    for route in ROUTES:
        if route.method == "GET" and route.roles and "{" not in route.path:
            yield route.path


def _proxied(listed: dict[str, Any]) -> Iterator[str]:
    for session in listed["sessions"]:
        if session["status"] == "running":
            yield f"/s/{session['session_id']}/"


async def _refused(client: GatewayClient, path: str) -> bool:
    try:
        await client.call("GET", path, bearer=WRONG)
    except GatewayRefused as error:
        return error.problem.status in (401, 403)
    return False


ROW: Final = Row(name="session-auth", look=_look, seconds=20)
