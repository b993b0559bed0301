"""The figures of a running gateway's ``/health``, which an operator's key shows."""

from typing import Any, Final

import msgspec

from gateway.doctor.row import Ended, failed
from gateway.doctor.surroundings import Surroundings

SECONDS: Final = 10.0


async def figures(here: Surroundings) -> dict[str, Any]:
    """Raises Ended when the key is none of an operator's; else as the client does."""
    async with here.gateway() as client:
        told: dict[str, Any] = msgspec.json.decode(await client.call("GET", "/health", seconds=SECONDS))
    if "http_connection_pool" not in told:
        raise Ended(failed("The key shows no figures: it is not an operator's.", "Give one (--key-file, GATEWAY_KEY)."))
    return told
