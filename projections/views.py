"""Views: the projections in memory, in every process, following the tail.

Requests read them without waiting. Who must see its own write calls ``catch_up(position)``; before a refusal that newer
events could lift, ``catch_up_to_head`` looks once (single flight, at most 20 looks a second, however many ask).
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from events import codec
from events.catalogue import Payload
from events.envelope import RecordedEvent
from events.errors import StoreUnavailable
from events.store import EventStore
from events.tail import POLL_SECONDS, follow
from projections.admission import KEY, Admission, Seats
from projections.api_keys import ApiKey, ApiKeys
from projections.erasures import KEY as ERASED
from projections.erasures import Erased, Erasures
from projections.errors import ProjectionBehind
from projections.gateways import Gateways, GatewayState
from projections.projection import Projection, apply
from projections.session_state import Sessions, SessionState

HEAD_LOOKS_PER_SECOND: Final = 20
LISTENER_QUEUE: Final = 1000

Told = tuple[RecordedEvent, Payload | codec.Unknown]


class Listener:
    """Events as the views fold them, for one reader. ``overrun`` when the reader was too slow and must start again."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Told] = asyncio.Queue(LISTENER_QUEUE)
        self.overrun = False

    def tell(self, told: Told) -> None:
        try:
            self._queue.put_nowait(told)
        except asyncio.QueueFull:
            self.overrun = True

    async def next(self, timeout: float) -> Told | None:
        """The next event, or None after ``timeout`` seconds without one."""
        try:
            # Not wait_for: before Python 3.12 it loses the cancellation that comes together with an event.
            async with asyncio.timeout(timeout):
                return await self._queue.get()
        except TimeoutError:
            return None


class Views:
    """All in-memory projections of a process at one position."""

    def __init__(self, store: EventStore, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._store = store
        self._poll_seconds = poll_seconds
        self._sessions: dict[str, SessionState] = {}
        self._seats: dict[str, Seats] = {}
        self._api_keys: dict[str, ApiKey] = {}
        self._gateways: dict[str, GatewayState] = {}
        self._erased: dict[str, Erased] = {}
        self._folds: tuple[tuple[Projection[Any], dict[str, Any]], ...] = (
            (Sessions(), self._sessions),
            (Admission(), self._seats),
            (ApiKeys(), self._api_keys),
            (Gateways(), self._gateways),
            (Erasures(), self._erased),
        )
        self._listeners: set[Listener] = set()
        self._hooks: list[Callable[[RecordedEvent, Payload], None]] = []
        self._moved = asyncio.Condition()
        self._next_look: asyncio.Task[int] | None = None
        self._last_look = float("-inf")
        self.head_looks = 0
        self.position = 0

    @property
    def sessions(self) -> Mapping[str, SessionState]:
        return self._sessions

    @property
    def api_keys(self) -> Mapping[str, ApiKey]:
        return self._api_keys

    @property
    def gateways(self) -> Mapping[str, GatewayState]:
        return self._gateways

    @property
    def seats(self) -> Seats:
        return self._seats.get(KEY) or Seats()

    @property
    def erased(self) -> Mapping[str, UUID]:
        """Key ids of erased subjects, each with the event that told its erasure."""
        return (self._erased.get(ERASED) or Erased()).key_ids

    @property
    def folds(self) -> tuple[tuple[Projection[Any], dict[str, Any]], ...]:
        """Every projection with its states, for those who show or compare them."""
        return self._folds

    def on_event(self, hook: Callable[[RecordedEvent, Payload], None]) -> None:
        """Call ``hook`` with every event after it is folded; it must not wait and not raise."""
        self._hooks.append(hook)

    async def run(self) -> None:
        """Follow the tail until cancelled; while the store is away, keep what is known and try again."""
        while True:
            try:
                async for page in follow(self._store, self.position, poll_seconds=self._poll_seconds):
                    await self._fold(page)
            except StoreUnavailable:
                await asyncio.sleep(self._poll_seconds)

    async def load(self) -> None:
        """Fold everything up to the head once, before serving."""
        head = (await self._store.head()).position
        while self.position < head:
            await self._fold(await self._store.read_log(after=self.position, limit=2000))

    async def catch_up(self, position: int, timeout: float = 5.0) -> None:
        """Wait until the views hold ``position``. Raises ProjectionBehind."""
        if self.position >= position:
            return
        if not await self.wait_for(lambda: self.position >= position, timeout):
            raise ProjectionBehind(position, self.position)

    async def wait_for(self, true: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``true`` is, looking after every page of events; False after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(true)
        except TimeoutError:
            return False
        return True

    async def catch_up_to_head(self) -> bool:
        """Hold whatever was in the log when this was called. True when that was news; cheap under a flood."""
        before = self.position
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look(), name="head-look")
            # All who asked may have left when the log closes: then nobody takes the error, and nobody needs it.
            self._next_look.add_done_callback(lambda look: look.cancelled() or look.exception())
        await self.catch_up(await asyncio.shield(self._next_look))
        return self.position > before

    async def _look(self) -> int:
        """One look for all who asked before it began; who asks later gets the next one."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._last_look + 1 / HEAD_LOOKS_PER_SECOND - loop.time()))
        self._last_look = loop.time()
        self._next_look = None
        self.head_looks += 1
        return (await self._store.head()).position

    @contextlib.contextmanager
    def listen(self) -> Iterator[Listener]:
        """Events from now on, as they are folded."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def _fold(self, page: list[RecordedEvent]) -> None:
        for event in page:
            self._fold_one(event)
        if page:
            async with self._moved:
                self._moved.notify_all()

    def _fold_one(self, event: RecordedEvent) -> None:
        if event.position <= self.position:
            return
        payload = codec.decode(event)
        if not isinstance(payload, codec.Unknown):
            for projection, states in self._folds:
                apply(projection, states, event, payload)
            for hook in self._hooks:
                hook(event, payload)
        self.position = event.position
        for listener in self._listeners:
            listener.tell((event, payload))
