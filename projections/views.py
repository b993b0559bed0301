"""Views: the projections in memory, in every process, following the tail.

Requests read them without waiting. Who must see its own write calls ``catch_up(position)``; before a refusal that newer
events could lift, ``catch_up_to_head`` looks once (single flight, at most 20 looks a second, however many ask).

A process that starts takes the states from their tables where there are some that fit the log (``snapshot``), and folds
what came after; else it folds the log from its first event.

What this process has spooled lies on top of the states until the tail passes it (``overlay``). Hooks and listeners are
told of an event once, when the log has it: only then has it a position.

When the log is no longer the one that was read, nothing more is folded, ``forked`` says where, and whoever waits, now
or later, gets LogForked. Only a new process reads the log as it is now.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from events import codec
from events.catalogue import Payload
from events.envelope import RecordedEvent
from events.errors import LogForked, StoreUnavailable
from events.mark import Marks
from events.store import EventStore
from events.tail import PAGE, POLL_SECONDS, follow, read_on
from projections.admission import KEY, Admission, Seats
from projections.api_keys import ApiKey, ApiKeys
from projections.erasures import KEY as ERASED
from projections.erasures import Erased, Erasures
from projections.errors import ProjectionBehind
from projections.gateways import Gateways, GatewayState
from projections.listener import Listener
from projections.overlay import Overlay, Spool
from projections.projection import Projection, apply
from projections.session_state import Sessions, SessionState
from projections.snapshot import Snapshot, take
from projections.table_store import TableStore
from projections.tables import VIEWED

HEAD_LOOKS_PER_SECOND: Final = 20
LOAD_PAGE: Final = 2000


class Views:
    """All in-memory projections of a process at one position."""

    def __init__(
        self,
        store: EventStore,
        *,
        spool: Spool | None = None,
        rows: TableStore | None = None,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``spool``: what of this process waits for the log (``events.fallback``), when the store has such a thing.

        ``rows``: where the tables are, when the log has some.
        """
        self._store = store
        self._rows = rows
        self._spool = spool
        self._poll_seconds = poll_seconds
        self._clock = clock
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
        self._overlay = Overlay(self._folds, store.log_id)
        self._marks = Marks(store.log_id)
        self._listeners: set[Listener] = set()
        self._hooks: list[Callable[[RecordedEvent, Payload], None]] = []
        self._fork_hooks: list[Callable[[], None]] = []
        self._unreadable_hooks: list[Callable[[RecordedEvent], None]] = []
        self._moved = asyncio.Event()
        self._next_look: asyncio.Task[int] | None = None
        self._last_look = float("-inf")
        self.head_looks = 0
        self.position = 0
        self.seen_at = float("-inf")  # of ``clock``: no event that was in the log by then is missing here
        self.forked: LogForked | None = None
        if spool is not None:
            spool.on_spooled(self._take_spooled)
            self._take_spooled()

    @property
    def sessions(self) -> Mapping[str, SessionState]:
        return self._overlay.shown(self._sessions) if self._overlay else self._sessions

    @property
    def api_keys(self) -> Mapping[str, ApiKey]:
        return self._overlay.shown(self._api_keys) if self._overlay else self._api_keys

    @property
    def gateways(self) -> Mapping[str, GatewayState]:
        return self._overlay.shown(self._gateways) if self._overlay else self._gateways

    @property
    def seats(self) -> Seats:
        return self._overlay.shown(self._seats).get(KEY) or Seats()

    @property
    def erased(self) -> Mapping[str, UUID]:
        """Key ids of erased subjects, each with the event that told its erasure."""
        return (self._overlay.shown(self._erased).get(ERASED) or Erased()).key_ids

    @property
    def folds(self) -> tuple[tuple[Projection[Any], dict[str, Any]], ...]:
        """Every projection with its states as the log alone makes them, for those who show or compare them."""
        return self._folds

    @property
    def marks(self) -> Marks:
        """What is remembered of the log that was folded."""
        return self._marks

    @property
    def spooled(self) -> int:
        """Events that are shown and that the log has not yet."""
        return len(self._overlay)

    def on_event(self, hook: Callable[[RecordedEvent, Payload], None]) -> None:
        """Call ``hook`` with every event after it is folded; it must not wait and not raise."""
        self._hooks.append(hook)

    def on_fork(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` once when ``forked`` is known; it must not wait and not raise."""
        self._fork_hooks.append(hook)

    def on_unreadable(self, hook: Callable[[RecordedEvent], None]) -> None:
        """Call ``hook`` with every event that is passed over as unreadable; it must not wait and not raise."""
        self._unreadable_hooks.append(hook)

    async def run(self) -> None:
        """Follow the tail until cancelled, or until the log forks; while the store is away, keep what is known."""
        while self.forked is None:
            try:
                await self._follow()
            except StoreUnavailable:
                await asyncio.sleep(self._poll_seconds)
            except LogForked as forked:
                self._refuse(forked)

    async def load(self) -> None:
        """Fold everything up to the head once, before serving. Raises StoreUnavailable, LogForked."""
        began, head = self._clock(), (await self._store.head()).position
        if head and self.position == 0 and self._rows is not None:
            self._begin_from(await take(self._store, self._rows, VIEWED))
        while self.position < head:
            page = await read_on(self._store, self._marks, LOAD_PAGE)
            if not page:
                raise LogForked(
                    f"the log ended at position {head} and now ends at {self.position}",
                    same_until=self.position,
                    differs_from=self.position + 1,
                    known_until=head,
                )
            self._fold(page)
        self.seen_at = began

    async def catch_up(self, position: int, timeout: float = 5.0) -> None:
        """Wait until the views hold ``position``. Raises ProjectionBehind, LogForked."""
        if self.position >= position and self.forked is None:
            return
        if not await self.wait_for(lambda: self.position >= position, timeout):
            raise ProjectionBehind(position, self.position)

    async def wait_for(self, true: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``true`` is, looking after every page of events; False after ``timeout`` seconds.

        Raises LogForked.
        """
        try:
            async with asyncio.timeout(timeout):
                while self.forked is None and not true():
                    await self._moved.wait()
        except TimeoutError:
            return False
        if self.forked is not None:
            raise self.forked
        return True

    async def until_forked(self) -> LogForked:
        """Wait for what should not happen."""
        while self.forked is None:
            await self._moved.wait()
        return self.forked

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

    async def _follow(self) -> None:
        began, left = self._clock(), self._left_spool()
        async for page in follow(self._store, self._marks, poll_seconds=self._poll_seconds):
            self._fold(page)
            if len(page) < PAGE:  # all that was in the log when it was read
                self.seen_at = began
                self._settle(left)
            began, left = self._clock(), self._left_spool()

    def _begin_from(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        for projection, states in self._folds:
            states |= snapshot.states[projection.name]
        self._marks, self.position = snapshot.marks, snapshot.marks.position

    def _refuse(self, forked: LogForked) -> None:
        self.forked = forked
        for listener in self._listeners:
            listener.overrun = True
        for hook in self._fork_hooks:
            hook()
        self._tell_moved()

    def _take_spooled(self) -> None:
        assert self._spool is not None
        self._overlay.take(self._spool)
        self._tell_moved()

    def _left_spool(self) -> int:
        return self._spool.replayed if self._spool is not None else 0

    def _settle(self, left: int) -> None:
        if self._overlay:
            self._overlay.settle(left)
            self._tell_moved()

    def _tell_moved(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _fold(self, page: list[RecordedEvent]) -> None:
        for event in page:
            self._fold_one(event)
        if page:
            self._tell_moved()

    def _fold_one(self, event: RecordedEvent) -> None:
        if event.position <= self.position:
            return
        payload = codec.decode(event)
        if not isinstance(payload, codec.Unknown):
            for projection, states in self._folds:
                apply(projection, states, event, payload)
            if self._overlay:
                self._overlay.passed(event, payload)
            for hook in self._hooks:
                hook(event, payload)
        elif isinstance(payload, codec.Unreadable):
            for tell in self._unreadable_hooks:
                tell(event)
        self.position = event.position
        for listener in self._listeners:
            listener.tell((event, payload))
