"""A turn: one is served, few wait in order, the next is told to come again; who leaves makes room."""

import asyncio

import pytest

from gateway.api.turn import WAITING, of_why
from gateway.errors import Refused


class Served:
    """Callers of one turn who stay until they are let go."""

    def __init__(self) -> None:
        self.turn = of_why()
        self.let_go = asyncio.Event()
        self.order: list[int] = []
        self.within = self.most = 0

    async def ask(self, number: int) -> None:
        async with self.turn.taken():
            self.order.append(number)
            self.within += 1
            self.most = max(self.most, self.within)
            await self.let_go.wait()
            self.within -= 1

    async def begin(self, count: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.ask(number)) for number in range(count)]
        await asyncio.sleep(0)
        return tasks


async def test_one_at_a_time_in_order_and_beyond_the_queue_is_refused_at_once() -> None:
    served = Served()
    tasks = await served.begin(WAITING + 1)
    with pytest.raises(Refused) as refused:
        await served.ask(99)
    assert (refused.value.slug, refused.value.status) == ("why-busy", 503)
    assert refused.value.detail == f"{WAITING + 1} others ask why: ask again." and refused.value.retry_after
    served.let_go.set()
    await asyncio.gather(*tasks)
    assert (served.order, served.most) == (list(range(WAITING + 1)), 1)
    await served.ask(6)


async def test_who_leaves_or_fails_makes_room() -> None:
    served = Served()
    first, *others = await served.begin(WAITING + 1)
    others[-1].cancel()
    first.cancel()
    await asyncio.gather(first, others[-1], return_exceptions=True)
    again = [asyncio.create_task(served.ask(number)) for number in (7, 8)]
    await asyncio.sleep(0)
    served.let_go.set()
    await asyncio.gather(*others[:-1], *again)
    assert served.order == [0, 1, 2, 3, 7, 8]
