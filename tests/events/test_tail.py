"""The tail: pages in order from a position, an empty page at the head, and no gap passed over."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from events.envelope import RecordedEvent
from events.errors import LogForked, StoreClosed, StoreUnavailable
from events.mark import Marks
from events.memory import MemoryEventStore
from events.tail import follow
from tests.factories import events, new_stream, recorded, write
from tests.forks import Swapped, restored


class Gappy(MemoryEventStore):
    """A log whose reader is shown ``shown`` instead of what is there."""

    shown: Sequence[RecordedEvent] = ()

    async def read_log(self, **how: Any) -> list[RecordedEvent]:
        return [one for one in self.shown if one.position > how["after"]]


async def test_pages_follow_each_other() -> None:
    store = MemoryEventStore()
    await store.append(write(new_stream(), *events(7)))
    pages = follow(store, 1, page=3, poll_seconds=0)
    assert [[one.position for one in await anext(pages)] for _ in range(3)] == [[2, 3, 4], [5, 6, 7], []]


async def test_empty_page_comes_once_a_poll() -> None:
    """A reader looks at its own end between pages; without them it would wait for an event that never comes."""
    pages = follow(MemoryEventStore(), 0, poll_seconds=0.001)
    assert [await anext(pages) for _ in range(5)] == [[]] * 5


async def test_event_that_comes_ends_the_wait() -> None:
    store = MemoryEventStore()
    pages = follow(store, 0, poll_seconds=60)
    assert await anext(pages) == []
    waiting = asyncio.ensure_future(anext(pages))
    await asyncio.sleep(0)
    await store.append(write(new_stream()))
    assert [one.position for one in await asyncio.wait_for(waiting, 5)] == [1]


async def test_full_page_is_followed_without_waiting() -> None:
    """Whoever is behind does not wait for a poll to read on."""
    store = MemoryEventStore()
    await store.append(write(new_stream(), *events(4)))
    pages = follow(store, 0, page=2, poll_seconds=60)
    async with asyncio.timeout(5):
        assert [len(await anext(pages)) for _ in range(3)] == [2, 2, 0]


@pytest.mark.parametrize(("positions", "missing"), [((2,), 1), ((1, 3), 2), ((1, 2, 4), 3)])
async def test_gap_is_a_fork(positions: tuple[int, ...], missing: int) -> None:
    """Positions are gapless: a hole means that this is not the log the reader began with."""
    store = Gappy()
    store.shown = [recorded(position=position) for position in positions]
    with pytest.raises(LogForked, match=f"position {missing} "):
        async for _ in follow(store, 0, poll_seconds=0):
            pass


async def test_reader_comes_back_to_its_place() -> None:
    """Its marks move with each page, and what it met before is not told again."""
    store = MemoryEventStore()
    await store.append(write(new_stream(), *events(3)))
    marks = Marks(store.log_id)
    assert len(await anext(follow(store, marks, page=2))) == 2
    assert [one.position for one in await anext(follow(store, marks, page=2))] == [3]
    assert await anext(follow(store, marks)) == []


@pytest.mark.parametrize("grown", [0, 1, 2, 5])
async def test_fork_is_not_passed_over(grown: int) -> None:
    """A backup was restored, or a fail-over lost the end; the reader met no error, and others have written since."""
    store = MemoryEventStore()
    await store.append(write(new_stream(), *events(4)))
    swapped = Swapped(store)
    pages = follow(swapped.store, 0, poll_seconds=0)
    assert len(await anext(pages)) == 4
    swapped.behind = now = restored(store, 2)
    for _ in range(grown):
        await now.append(write(new_stream()))
    with pytest.raises(LogForked, match="forked at position 3:") as caught:
        await anext(pages)
    assert (caught.value.same_until, caught.value.differs_from, caught.value.known_until) == (2, 3, 4)


async def test_log_that_is_the_same_again_is_followed() -> None:
    """A fail-over that lost nothing."""
    store = MemoryEventStore()
    await store.append(write(new_stream(), *events(4)))
    swapped = Swapped(store)
    pages = follow(swapped.store, 0, poll_seconds=0)
    await anext(pages)
    swapped.behind = now = restored(store, 4)
    await now.append(write(new_stream()))
    assert [one.position for one in await anext(pages)] == [5]


async def test_closed_log_ends_the_tail() -> None:
    store = MemoryEventStore()
    pages = follow(store, 0, poll_seconds=60)
    await anext(pages)
    waiting = asyncio.ensure_future(anext(pages))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreClosed):
        await asyncio.wait_for(waiting, 5)


async def test_log_that_is_away_is_told_to_the_reader() -> None:
    """Who decides how long to try is the reader."""

    class Away(MemoryEventStore):
        async def read_log(self, **how: Any) -> list[RecordedEvent]:
            raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await anext(follow(Away(), 0))
