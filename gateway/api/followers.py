"""Followers: many readers of the growing log, who share the work.

The tail is read once, by the views, whose listeners hold references to the same events; an event is opened and turned
into bytes once, for all who follow. A follower that is behind reads the log by itself until it is at the head again,
so nobody waits for another, and what is held for one is a queue of references and the piece that it is being sent.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from events.envelope import RecordedEvent
from events.filter import EventFilter
from events.keyring import Keyring
from events.store import EventStore
from gateway.api import shapes, sse
from projections.views import Views

PAGE: Final = 500
KEPT_BYTES: Final = 8 * 1024 * 1024  # of frames, for those who come to the same events a little later


class Followers:
    """What the followers of one process share."""

    def __init__(self, store: EventStore, views: Views, keyring: Keyring) -> None:
        self.store = store
        self.views = views
        self._keyring = keyring
        self._frames: dict[int, bytes] = {}  # by position, the oldest first
        self._kept = 0
        self._rendering = asyncio.Lock()
        self._forgotten = 0
        self.rendered = 0  # events that were turned into bytes

    def follow(
        self,
        wanted: EventFilter,
        after: int,
        *,
        allowed: Callable[[], bool],
        reach: Callable[[int], object] = lambda position: None,
    ) -> AsyncGenerator[bytes, None]:
        """Every event beyond ``after`` that ``wanted`` matches, once and in order; goes on for ever.

        ``reach`` is told up to where everything was looked at, before it is sent. Ends when the log has forked, or the
        reader is not ``allowed`` any more. Raises StoreUnavailable.
        """
        return _Follower(self, wanted, after, allowed, reach).pieces()

    async def frames(self, events: Sequence[RecordedEvent]) -> list[bytes]:
        """The frames of ``events``, each made once for all who want it at about the same time."""
        found = {event.position: self._frames.get(event.position) for event in events}
        if None in found.values():
            async with self._rendering:
                found = {event.position: self._frames.get(event.position) for event in events}
                found |= await self._render([event for event in events if found[event.position] is None])
        return [frame for frame in found.values() if frame is not None]

    async def _render(self, events: Sequence[RecordedEvent]) -> dict[int, bytes]:
        before = self._forgotten
        views = await shapes.events(events, self._keyring)
        made = {view.position: sse.frame(view.position, view.type, view) for view in views}
        self.rendered += len(made)
        if before == self._forgotten:
            self._frames |= made
            self._kept += sum(map(len, made.values()))
        while self._kept > KEPT_BYTES:
            self._kept -= len(self._frames.pop(next(iter(self._frames))))
        return made

    def forget(self) -> None:
        """A subject was erased: what was opened for it is not kept."""
        self._frames.clear()
        self._kept = 0
        self._forgotten += 1


class _Follower:
    """One reader at its place."""

    def __init__(
        self,
        shared: Followers,
        wanted: EventFilter,
        after: int,
        allowed: Callable[[], bool],
        reach: Callable[[int], object],
    ) -> None:
        self._shared = shared
        self._wanted = wanted
        self._after = after
        self._allowed = allowed
        self._reach = reach
        self._said = asyncio.get_running_loop().time()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        yield sse.place(self._after)
        while self._goes_on():
            with self._shared.views.listen() as listener:
                until = self._shared.views.position  # whatever comes beyond it, the listener is told
                while self._after < until and not listener.overrun and self._goes_on():
                    found = await self._shared.store.search(self._wanted, after=self._after, until=until, limit=PAGE)
                    async for piece in self._send(found.events, found.reached):
                        yield piece
                while not listener.overrun and self._goes_on():
                    batch = [event for event, _ in await listener.batch(max(0.0, self._quiet_left()))]
                    new = [event for event in batch if event.position > self._after and self._wanted.matches(event)]
                    async for piece in self._send(new, batch[-1].position if batch else 0):
                        yield piece

    def _goes_on(self) -> bool:
        return self._allowed() and self._shared.views.forked is None

    def _quiet_left(self) -> float:
        return self._said + sse.HEARTBEAT_SECONDS - asyncio.get_running_loop().time()

    async def _send(self, events: Sequence[RecordedEvent], reached: int) -> AsyncGenerator[bytes, None]:
        """What is sent for ``events``, behind which all up to ``reached`` was looked at."""
        frames = await self._shared.frames(events)
        self._reach(reached)
        for piece in sse.pieces(frames):
            self._said = asyncio.get_running_loop().time()
            yield piece
        self._after = max(self._after, reached)
        if self._quiet_left() <= 0:
            self._said = asyncio.get_running_loop().time()
            yield sse.place(self._after)
