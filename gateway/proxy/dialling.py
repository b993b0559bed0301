"""Dialling a container that refuses: again for a moment, since nothing was sent yet.

A Docker daemon that restarts under running containers makes the rules of their published ports anew: connections that
are open go on, new ones are refused for 0.3 seconds (measured, dockerd 20.10 with live-restore).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

REFUSED_SECONDS: Final = 1.5
PAUSE: Final = 0.05
T = TypeVar("T")


async def dialled(dial: Callable[[], Awaitable[T]], *, seconds: float = REFUSED_SECONDS) -> T:
    """What ``dial`` gives, tried again while the container refuses; its last error after ``seconds``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            return await dial()
        except OSError as error:
            if not _refused(error) or loop.time() >= deadline:
                raise
        await asyncio.sleep(PAUSE)


def _refused(error: OSError) -> bool:
    """An HTTP client may wrap what the socket said (aiohttp's ``ClientConnectorError``)."""
    return isinstance(getattr(error, "os_error", error), ConnectionRefusedError)
