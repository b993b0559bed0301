"""Waiting for a boot: who boots next here, and what place a session has in the line of the gateway that carries it.

The place is computed from the log's view, so any process can tell it. No event says that a boot has begun before its
container is made: who that is follows from how many boot at once (SESSION_BOOT_CONCURRENCY). That is each gateway's own
setting; the others are taken to be set as this one is.
"""

import asyncio
import bisect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Self

import msgspec

from events.catalogue import Payload
from events.envelope import RecordedEvent
from projections.lifecycle import Phase
from projections.session_state import SessionState
from projections.views import Views


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """``place`` 1 is next; ``booting``: sessions of the same gateway whose turn has come and that are not yet ready."""

    session_id: str
    place: int
    ahead: int
    booting: int


def places(sessions: Iterable[SessionState], most: int = 1) -> dict[str, Place]:
    """Of everyone who waits: creating, without a container of this generation, while ``most`` others boot. Pure.

    A line is a gateway's, in the order of the intents. Those at its front for whom there is room boot already, though
    their containers are not made: they do not wait, and have no place.
    """
    lines: dict[str, list[SessionState]] = {}
    booting: dict[str, int] = {}
    for state in sessions:
        if state.phase is not Phase.CREATING:
            continue
        if state.container_id is not None:
            booting[state.instance] = booting.get(state.instance, 0) + 1
        else:
            lines.setdefault(state.instance, []).append(state)
    found = {}
    for instance, line in lines.items():
        made = booting.get(instance, 0)
        begun = min(max(most - made, 0), len(line))
        waiting = sorted(line, key=lambda each: each.intent_position)[begun:]
        for ahead, state in enumerate(waiting):
            place = Place(session_id=state.session_id, place=ahead + 1, ahead=ahead, booting=made + begun)
            found[state.session_id] = place
    return found


class Lines:
    """The lines as the views see them, counted anew when one changes and not for each who asks."""

    def __init__(self, views: Views, most: int) -> None:
        self._views = views
        self._most = most  # boots at once
        self._creating: dict[str, SessionState] | None = None  # None until somebody asks
        self._places: dict[str, Place] | None = None
        self.changes = 0  # whoever has seen this number has seen everything
        self.counted = 0
        views.on_event(self._follow)

    @property
    def places(self) -> Mapping[str, Place]:
        """Everyone who waits now."""
        if self._creating is None:
            self._creating = {
                state.session_id: state for state in self._views.sessions.values() if state.phase is Phase.CREATING
            }
        if self._places is None:
            self._places = places(self._creating.values(), self._most)
            self.counted += 1
        return self._places

    def _follow(self, event: RecordedEvent, payload: Payload) -> None:
        session_id = getattr(payload, "session_id", None)
        if self._creating is None or session_id is None:
            return
        before, now = self._creating.get(session_id), self._views.sessions.get(session_id)
        if now is not None and now.phase is not Phase.CREATING:
            now = None
        if _stands(before) == _stands(now):
            return
        if now is None:
            del self._creating[session_id]
        else:
            self._creating[session_id] = now
        self._places = None
        self.changes += 1


def _stands(state: SessionState | None) -> tuple[str, int, bool] | None:
    """All of a session that a line depends on."""
    return None if state is None else (state.instance, state.intent_position, state.container_id is None)


class Turn:
    """A place among those who wait for a boot here; ``async with`` waits until it is this one's turn, and ends it."""

    def __init__(self, position: int, came: int, over: Callable[["Turn"], None]) -> None:
        self.order = (position, came)
        self.came = asyncio.Event()
        self._over = over

    def over(self) -> None:
        """Let the next one boot. Repeated calls are one."""
        self._over(self)

    async def __aenter__(self) -> Self:
        await self.came.wait()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.over()


class Boots:
    """So many boots at once; of those who wait, the one whose intent is the oldest is next, whoever came first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._booting: set[Turn] = set()
        self._waiting: list[Turn] = []  # in order
        self._came = 0

    def turn(self, position: int) -> Turn:
        """Stand in the line for the intent at ``position``."""
        self._came += 1
        turn = Turn(position, self._came, self._end)
        bisect.insort(self._waiting, turn, key=_order)
        # Not at once: of all who come in this turn of the event loop the oldest is first.
        asyncio.get_running_loop().call_soon(self._call_next)
        return turn

    async def in_line(self, position: int, boot: Callable[[Turn], Awaitable[None]]) -> None:
        """Stand in the line from here on, whatever ``boot`` waits for before its turn, and not after its end."""
        turn = self.turn(position)
        try:
            await boot(turn)
        finally:
            turn.over()

    def _end(self, turn: Turn) -> None:
        if turn in self._booting:
            self._booting.remove(turn)
        elif turn in self._waiting:
            self._waiting.remove(turn)
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting and len(self._booting) < self._most:
            first = self._waiting.pop(0)
            self._booting.add(first)
            first.came.set()


def _order(turn: Turn) -> tuple[int, int]:
    return turn.order
