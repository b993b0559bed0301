"""Turn: a dear question is answered to one caller at a time in a process; few wait for it, and others come again.

So the memory of one answer is the memory of all, and requests that ask for less are served between its steps.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from gateway.errors import Refused

WAITING: Final = 4  # who may wait for the one that is served
RETRY_SECONDS: Final = 5


class Turn:
    """One process's, for one kind of question. ``busy``: the refusal of who finds so many who ask."""

    def __init__(self, busy: Callable[[int], Refused]) -> None:
        self._busy = busy
        self._serving = asyncio.Lock()
        self._asking = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait until it is the caller's, in order of coming. Raises Refused (503) at once when too many wait."""
        if self._asking > WAITING:
            raise self._busy(self._asking)
        self._asking += 1
        try:
            async with self._serving:
                yield
        finally:
            self._asking -= 1


def of_why() -> Turn:
    """That of ``why``: one answer is made of up to 10,000 events, many of them opened."""
    return Turn(lambda others: Refused("why-busy", f"{others} others ask why: ask again.", retry_after=RETRY_SECONDS))
