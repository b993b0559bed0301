"""Spool room: the last part of this process's spool is kept for what must not be refused: ends, and what they take.

Denials and exchanges come as fast as anybody outside likes. While the log is away they may fill the spool up to
``SHARE`` of it; from there on they are refused as if it were full, and a session can still be stopped.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from events.envelope import EventData
from events.errors import StoreUnavailable
from events.store import EventStore

SHARE: Final = 0.95
YIELDING: Final = ("access.", "exchange.", "log.read")
_LINE: Final = 1024  # bytes of an event's line beside its payload and actor, at most


class SpoolRoom:
    """``most`` bytes are what the spool of ``store`` may hold; None: it has none."""

    def __init__(self, store: EventStore, most: int | None) -> None:
        self._store = store
        self._shared = None if most is None else int(most * SHARE)
        self._coming = 0  # bytes that are let in and may not be in the file yet

    @contextlib.contextmanager
    def taken(self, event: EventData) -> Iterator[None]:
        """While the event is appended. Raises StoreUnavailable when it has to yield."""
        if self._shared is None or not event.type.startswith(YIELDING):
            yield
            return
        status, size = self._store.status, _LINE + len(event.payload) + len(event.actor)
        if not status.available and status.spooled_bytes + self._coming + size > self._shared:
            raise StoreUnavailable(f"the log is away, and what is left of its spool is kept for ends: no {event.type}")
        self._coming += size
        try:
            yield
        finally:
            self._coming -= size
