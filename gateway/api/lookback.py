"""Lookback: all sessions as they were at a position, for few at a time. Folding a whole log is the dearest question.

Requests that need no such fold never wait for one: it lets the loop turn every few milliseconds, one runs in a process
at a time, and beyond a short queue who asks is refused at once, to come again.
"""

import asyncio
from typing import Final

from events.store import EventStore
from gateway.api import shapes
from gateway.api.turn import RETRY_SECONDS, Turn
from gateway.errors import Refused
from projections import asof
from projections.session_state import Sessions, SessionState

KEPT: Final = 2  # lists: what was true at a position stays so, and the next page of a list is of the same position
KEEP_SECONDS: Final = 60.0  # since one was last asked for: a list of 100,000 sessions may hold some 300 MB


class Lookbacks:
    """One process's."""

    def __init__(self, store: EventStore, *, keep_seconds: float = KEEP_SECONDS) -> None:
        self._store = store
        self._keep_seconds = keep_seconds
        self._turn = Turn(_busy)
        self._kept: dict[int, list[SessionState]] = {}  # in the order of their last use
        self._ends: dict[int, asyncio.TimerHandle] = {}
        self.folds = 0

    async def sessions(self, position: int) -> list[SessionState]:
        """Every session at ``position``, in the order of creation. Raises Refused (503), StoreUnavailable.

        Whoever asks for a position that is being folded already waits for it and gets the same list.
        """
        if (known := self._known(position)) is not None:
            return known
        async with self._turn.taken():
            if (known := self._known(position)) is None:
                self.folds += 1
                states = await asof.as_of(self._store, Sessions(), position)
                known = shapes.in_order(states.values())
                self._keep(position, known)
            return known

    def _keep(self, position: int, sessions: list[SessionState]) -> None:
        """Have these at hand for a while; of those that are, the one that was used first goes."""
        self._drop(position)
        while len(self._kept) >= KEPT:
            self._drop(next(iter(self._kept)))
        self._kept[position] = sessions
        loop = asyncio.get_running_loop()
        self._ends[position] = loop.call_later(self._keep_seconds, self._drop, position)

    def _known(self, position: int) -> list[SessionState] | None:
        known = self._kept.get(position)
        if known is not None:
            self._keep(position, known)
        return known

    def _drop(self, position: int) -> None:
        self._kept.pop(position, None)
        if (end := self._ends.pop(position, None)) is not None:
            end.cancel()


def _busy(others: int) -> Refused:
    detail = f"{others} others look back at the whole log: ask again, or for one session."
    return Refused("lookback-busy", detail, retry_after=RETRY_SECONDS)
