"""Followers beside a view that stands still, and a keyring that does: what no timing of a whole gateway would show."""

import asyncio
import contextlib
from collections.abc import Iterable

from events.envelope import SYSTEM
from events.filter import EventFilter
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from events.sealing import SubjectKey
from gateway.api import sse
from gateway.api.followers import Followers
from projections.views import Views
from tests.factories import event, write
from tests.gateway.world import eventually


class SlowKeyring(MemoryKeyring):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        found = await super().keys(ids)
        self.asked.set()
        await self.may_answer.wait()
        return found


async def log(count: int) -> MemoryEventStore:
    store = MemoryEventStore()
    for _ in range(count):
        await store.append(write(SYSTEM, event()))
    return store


async def test_who_comes_from_a_process_that_was_ahead_gets_nothing_twice() -> None:
    """Its last id is beyond what this process has seen: what the view still has to fold, the reader has."""
    store = await log(5)
    views = Views(store)
    shared = Followers(store, views, MemoryKeyring())
    async with contextlib.aclosing(shared.follow(EventFilter(), 5, allowed=lambda: True)) as pieces:
        assert await anext(pieces) == sse.place(5)
        coming = asyncio.ensure_future(anext(pieces))
        await eventually(lambda: bool(views._listeners))
        await views.load()
        await store.append(write(SYSTEM, event()))
        await views.load()
        assert (await coming).startswith(b"id: 6\nevent: ")


async def test_what_is_opened_while_its_subject_is_erased_is_not_kept() -> None:
    """The key was fetched before, the erasure came, and then the clear text."""
    store, keyring = await log(1), SlowKeyring()
    shared = Followers(store, Views(store), keyring)
    (recorded,) = await store.read_log()
    opening = asyncio.create_task(shared.frames([recorded]))
    await keyring.asked.wait()
    shared.forget()
    keyring.may_answer.set()
    assert len(await opening) == 1
    assert shared._frames == {}
    await shared.frames([recorded])
    assert (list(shared._frames), shared.rendered) == ([1], 2)
