"""Indexing: what a search of the log goes by is kept near the head, beside the traffic and never in its way.

Any number of gateways do it: the store lets one work at a time. Behind it a search reads, so that late is only slower.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from events.catalogue import Payload
from events.envelope import RecordedEvent
from events.store import EventStore

SECONDS: Final = 60.0  # how late the last events of a quiet log are
EVERY: Final = 1_000  # events after which it is worth a step; so many are read in milliseconds


class Indexing:
    """Steps until the rest is not worth one. After an upgrade that is a whole log, at half a core at most."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._seen = 0

    async def run_once(self) -> None:
        """Raises StoreUnavailable: the next round goes on where this one ended."""
        while True:
            began = time.monotonic()
            if await self._store.index() < EVERY:
                return
            await asyncio.sleep(time.monotonic() - began)

    def follow(self, poke: Callable[[], None]) -> Callable[[RecordedEvent, Payload], None]:
        """A hook of ``views.on_event`` that pokes when enough events have come."""

        def count(event: RecordedEvent, payload: Payload) -> None:
            self._seen += 1
            if self._seen % EVERY == 0:
                poke()

        return count
