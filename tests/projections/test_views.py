"""The views: they see what was written, look rarely under a flood, and outlive a log that is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from events.catalogue import GatewayStarted, Payload, SessionRequested
from events.envelope import RecordedEvent, gateway_stream, session_stream
from events.errors import LogForked, StoreUnavailable
from events.ids import short
from events.memory import MemoryEventStore
from events.store import Appended, EventStore, Head
from projections.errors import ProjectionBehind
from projections.lifecycle import Phase
from projections.listener import LISTENER_QUEUE
from projections.projection import fold
from projections.views import HEAD_LOOKS_PER_SECOND, Views
from tests.event_fixtures import LogDatabase, open_store, until
from tests.factories import event, payload, write
from tests.forks import Swapped, restored
from tests.projections.histories import one_of_each
from tests.projections.spooled import Spooled

SOON = 0.01  # seconds between polls, where a test waits for one


async def append(store: EventStore, *of: Payload | type[Any]) -> int:
    """One unit in a stream of its own; its position."""
    outcome = await store.append(write(gateway_stream(short()), *of))
    assert isinstance(outcome, Appended)
    return outcome.position


async def create(store: EventStore, session_id: str) -> int:
    requested = payload(SessionRequested, session_id=session_id)
    outcome = await store.append(write(session_stream(session_id), requested))
    assert isinstance(outcome, Appended)
    return outcome.position


@asynccontextmanager
async def following(store: EventStore, *, poll_seconds: float = SOON) -> AsyncIterator[Views]:
    """Views that follow their log, whatever ends the test."""
    views = Views(store, poll_seconds=poll_seconds)
    await views.load()
    task = asyncio.create_task(views.run())
    try:
        yield views
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Flaky:
    """A log that can be away, and counts who looks at its head."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.away = False
        self.refused = 0
        self.heads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def head(self) -> Head:
        self.heads += 1
        self._refuse_when_away()
        return await self._store.head()

    async def read_log(self, **arguments: Any) -> list[RecordedEvent]:
        self._refuse_when_away()
        return await self._store.read_log(**arguments)

    def _refuse_when_away(self) -> None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("the log is away")


async def test_a_write_is_read_by_every_process(log_of_backend: LogDatabase | None) -> None:
    """1,000 sessions created on one, each asked for on another with the position it was answered: never stale."""
    async with contextlib.AsyncExitStack() as stack:
        if log_of_backend is None:
            one: EventStore = MemoryEventStore()
            two = one
        else:
            one, two = [await stack.enter_async_context(open_store(log_of_backend.app_dsn)) for _ in range(2)]
        views = await stack.enter_async_context(following(two, poll_seconds=0.25))

        async def write_and_read() -> bool:
            session_id = short()
            await views.catch_up(await create(one, session_id))
            return views.sessions[session_id].phase is Phase.CREATING

        for _ in range(10):
            assert all(await asyncio.gather(*(write_and_read() for _ in range(100))))


async def test_loading_folds_everything_before_it_serves() -> None:
    store = MemoryEventStore()
    for _ in range(50):
        await create(store, short())
    views = Views(store)
    await views.load()
    assert (views.position, len(views.sessions)) == (50, 50)
    for projection, states in views.folds:
        assert states == fold(projection, {}, await store.read_log(limit=100))


async def test_catching_up_waits_for_the_position_and_no_longer_than_told() -> None:
    async with following(MemoryEventStore()) as views:
        with pytest.raises(ProjectionBehind) as caught:
            await views.catch_up(1, timeout=0.05)
        assert (caught.value.wanted, caught.value.reached) == (1, 0)
        waiting = asyncio.create_task(views.catch_up(2))
        await append(views._store, GatewayStarted, GatewayStarted)
        await waiting
        assert views.position == 2


async def test_waiting_for_what_does_not_come_is_told() -> None:
    async with following(MemoryEventStore()) as views:
        assert not await views.wait_for(lambda: False, 0.02)
        assert await views.wait_for(lambda: True, 0.02)


async def test_the_head_is_held_when_it_is_asked_for() -> None:
    """What was in the log when the call was made is seen when it returns; nothing new is told as such."""
    store = MemoryEventStore()
    async with following(store, poll_seconds=5) as views:
        for _ in range(5):
            position = await append(store, GatewayStarted)
            await views.catch_up_to_head()
            assert views.position >= position
        assert not await views.catch_up_to_head()


async def test_a_flood_shares_a_look_at_the_head() -> None:
    """1,000 callers at once, and callers without end: one flight, at most 20 looks a second."""
    store = Flaky(MemoryEventStore())
    async with following(cast(EventStore, store)) as views:
        looks = store.heads
        await asyncio.gather(*(views.catch_up_to_head() for _ in range(1000)))
        assert store.heads - looks == 1

        async def insist() -> None:
            while True:
                await views.catch_up_to_head()

        loop = asyncio.get_running_loop()
        looks, began = store.heads, loop.time()
        crowd = [asyncio.create_task(insist()) for _ in range(1000)]
        assert not await views.wait_for(lambda: False, 0.5)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        allowed = (loop.time() - began) * HEAD_LOOKS_PER_SECOND + 1
        assert 2 <= store.heads - looks <= allowed
        assert views.head_looks == store.heads - 1  # the first was for loading


async def test_a_caller_that_leaves_takes_nobodys_look_away() -> None:
    store = MemoryEventStore()
    async with following(store) as views:
        await views.catch_up_to_head()  # the next look has to wait for its turn
        position = await append(store, GatewayStarted)
        leaving, staying = [asyncio.create_task(views.catch_up_to_head()) for _ in range(2)]
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
        assert leaving.cancelled() and views.position >= position


async def test_views_outlive_a_log_that_is_away() -> None:
    """What is known stays; a look at the head says that the log is away; when it is back, they go on."""
    memory = MemoryEventStore()
    store = Flaky(memory)
    async with following(cast(EventStore, store)) as views:
        await views.catch_up(await create(memory, "before"))
        store.away = True
        await create(memory, "meanwhile")
        with pytest.raises(StoreUnavailable):
            await views.catch_up_to_head()

        async def refused() -> bool:
            return store.refused >= 4

        await until(refused)
        assert set(views.sessions) == {"before"}
        store.away = False
        await views.catch_up_to_head()
        assert set(views.sessions) == {"before", "meanwhile"}


async def test_a_log_with_a_gap_is_not_followed() -> None:
    """It is not the log that was read before: restored, or written around the gateway."""
    store = MemoryEventStore()
    await create(store, "a")
    store.ledger.log[0] = msgspec.structs.replace(store.ledger.log[0], position=2)
    views = Views(store, poll_seconds=SOON)
    await asyncio.wait_for(views.run(), 5)
    assert views.forked is not None and views.forked.differs_from == 1


async def test_a_fork_ends_the_folding_and_refuses_who_waits() -> None:
    """Never a view that the log no longer supports: not later either, when the log has grown past it."""
    store = MemoryEventStore()
    for name in "abc":
        await create(store, name)
    swapped, told = Swapped(store), list[str]()
    async with following(swapped.store) as views:
        views.on_fork(lambda: told.append(str(views.forked)))
        with views.listen() as listener:
            waiting = asyncio.create_task(views.catch_up(9))
            watching = asyncio.create_task(views.until_forked())
            await asyncio.sleep(0)
            swapped.behind = now = restored(store, 1)
            for _ in range(4):
                await create(now, short())
            with pytest.raises(LogForked, match="at position 2:"):
                await asyncio.wait_for(waiting, 5)
            assert await watching is views.forked and listener.overrun
        assert told == [str(views.forked)] and (views.position, set(views.sessions)) == (3, {"a", "b", "c"})
        for refused in (views.catch_up(1), views.wait_for(lambda: True, 1), views.catch_up_to_head()):
            with pytest.raises(LogForked):
                await refused
        assert views.position == 3 and views.marks.position == 3


async def test_a_new_process_loads_the_log_as_it_is() -> None:
    store = MemoryEventStore()
    for name in "abc":
        await create(store, name)
    views = Views(restored(store, 2))
    await views.load()
    assert set(views.sessions) == {"a", "b"} and views.forked is None


async def test_a_log_that_shrinks_while_it_is_loaded_is_a_fork() -> None:
    """Loading towards a head that is gone would never end."""

    class Shrinks(MemoryEventStore):
        async def head(self) -> Head:
            head = await super().head()
            del self.ledger.log[1:]
            return head

    store = Shrinks()
    for name in "abc":
        await create(store, name)
    with pytest.raises(LogForked, match="ended at position 3 and now ends at 1"):
        await asyncio.wait_for(Views(store).load(), 5)


async def test_what_is_known_of_the_present_has_an_age() -> None:
    """``seen_at``: nothing that was in the log by then is missing. It stands still while the log is away."""
    now = 100.0
    memory = MemoryEventStore()
    store = Flaky(memory)
    views = Views(cast(EventStore, store), poll_seconds=SOON, clock=lambda: now)
    assert views.seen_at == float("-inf")
    await views.load()
    assert views.seen_at == 100.0
    task = asyncio.create_task(views.run())
    try:
        now = 200.0

        async def reaches_200() -> bool:
            return views.seen_at == 200.0

        await until(reaches_200)
        store.away = True

        async def refused_again() -> bool:
            return store.refused >= 2

        await until(refused_again)
        now, refused = 300.0, store.refused
        await until(lambda: _more(store, refused))
        assert views.seen_at == 200.0
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _more(store: Flaky, refused: int) -> bool:
    return store.refused > refused + 1


async def test_what_is_spooled_shows_in_this_process_until_the_log_has_it() -> None:
    """A container died while the log was away. Who waits is woken; hooks are told once, when there is a position."""
    requested, ready, failed, *_ = one_of_each("a", 1)
    store, spool, hooked = MemoryEventStore(), Spooled(), list[str]()
    await store.append(write(session_stream("a"), requested, ready))
    views = Views(store, spool=spool, poll_seconds=SOON)
    await views.load()
    views.on_event(lambda event, payload: hooked.append(event.type))
    waiting = asyncio.create_task(views.wait_for(lambda: views.sessions["a"].phase is Phase.FAILED, 5))
    await asyncio.sleep(0)
    spool.put(failed)
    assert await waiting
    assert (views.spooled, views.position, views.sessions["a"].version) == (1, 2, 2) and hooked == []
    assert dict(views.folds)[views.folds[0][0]]["a"].phase is Phase.READY
    task = asyncio.create_task(views.run())
    try:
        outcome = await store.append(spool.leave())
        assert isinstance(outcome, Appended)
        await views.catch_up(outcome.position)
        assert (views.spooled, views.sessions["a"].version) == (0, 3)
        assert views.sessions is views._sessions and views.sessions["a"].phase is Phase.FAILED
        assert hooked == ["session.failed"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_spooled_event_that_the_tail_had_brought_before_does_not_stay() -> None:
    """Its answer was lost: the log had it, the tail showed it, then it was spooled."""
    requested, ready, failed, *_ = one_of_each("a", 1)
    store, spool = MemoryEventStore(), Spooled()
    await store.append(write(session_stream("a"), requested, ready))
    views = Views(store, spool=spool, poll_seconds=SOON)
    await views.load()
    task = asyncio.create_task(views.run())
    try:
        spool.put(failed)
        assert views.spooled == 1
        spool.leave()  # a duplicate: nothing new comes
        assert await views.wait_for(lambda: views.spooled == 0, 5)
        assert views.sessions["a"].phase is Phase.READY
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_listener_hears_every_event_after_it_is_folded() -> None:
    store = MemoryEventStore()
    async with following(store) as views:
        await views.catch_up(await create(store, "before"))
        with views.listen() as listener:
            assert await listener.next(0.02) is None
            await create(store, "a")
            told = await listener.next(5)
            assert told is not None and isinstance(told[1], SessionRequested)
            assert told[1].session_id == "a" and "a" in views.sessions
        await views.catch_up(await create(store, "b"))
        assert await listener.next(0) is None  # it left


async def test_a_slow_listener_is_told_that_it_missed_something() -> None:
    """Its queue is bounded: it must start again from a position, not read a stream with a hole."""
    store = MemoryEventStore()
    async with following(store) as views:
        with views.listen() as slow, views.listen() as quick:
            for _ in range(LISTENER_QUEUE // 100):
                await views.catch_up(await append(store, *([GatewayStarted] * 100)))
                for _ in range(100):
                    assert await quick.next(1) is not None
            assert [each.overrun for each in (slow, quick)] == [False, False]
            await views.catch_up(await append(store, GatewayStarted))
            assert [each.overrun for each in (slow, quick)] == [True, False]


async def test_a_hook_sees_what_is_folded_already() -> None:
    store = MemoryEventStore()
    seen: list[tuple[int, bool]] = []

    async with following(store) as views:

        def hook(event: RecordedEvent, payload: Payload) -> None:
            if isinstance(payload, SessionRequested):
                seen.append((event.position, payload.session_id in views.sessions))

        views.on_event(hook)
        await views.catch_up(await create(store, "a"))
    assert seen == [(1, True)]


async def test_an_event_of_a_later_release_is_passed_over() -> None:
    """It moves the position, is told to listeners, and reaches no fold and no hook."""
    store = MemoryEventStore()
    hooked: list[int] = []
    async with following(store) as views:
        views.on_event(lambda event, payload: hooked.append(event.position))
        later = msgspec.structs.replace(event(GatewayStarted), type="session.teleported", schema_version=9)
        with views.listen() as listener:
            outcome = await store.append(write(session_stream("a"), later))
            assert isinstance(outcome, Appended)
            await views.catch_up(outcome.position)
            told = await listener.next(1)
        assert told is not None and told[0].type == "session.teleported"
        assert (dict(views.sessions), hooked) == ({}, [])
