"""Looks: health may be asked by anybody as often as he likes, and the log neither notices nor holds it up."""

import asyncio
import time
from pathlib import Path

import pytest

from events.errors import StoreUnavailable
from gateway.look import WAIT_SECONDS, Look, size_text
from tests.gateway.faulty import FaultyStore, spooled
from tests.gateway.world import eventually


class Asked:
    """What a look asks: answers when ``open``; counts."""

    def __init__(self) -> None:
        self.times, self.under_way, self.most = 0, 0, 0
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def __call__(self) -> int:
        self.times += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
            if self.away:
                raise StoreUnavailable("no answer")
            return self.times
        finally:
            self.under_way -= 1


async def test_a_crowd_shares_one_question() -> None:
    asked = Asked()
    look = Look(FaultyStore(), asked, 60.0)
    assert set(await asyncio.gather(*(look.now() for _ in range(200)))) == {1}
    assert await look.now() == 1
    assert (asked.times, look.last) == (1, 1)


async def test_a_figure_is_asked_for_again_when_it_is_old() -> None:
    asked = Asked()
    look = Look(FaultyStore(), asked, 0.0)
    assert [await look.now() for _ in range(3)] == [1, 2, 3]


async def test_nobody_waits_for_a_log_that_hangs() -> None:
    """Neither the one who asks first nor those who come while he waits; and they add no question to it."""
    asked = Asked()
    asked.open.clear()
    look = Look(FaultyStore(), asked, 60.0)
    for _ in range(3):
        began = time.monotonic()
        assert set(await asyncio.gather(*(look.now() for _ in range(20)))) == {None}
        assert time.monotonic() - began < WAIT_SECONDS * 10
    assert (asked.times, asked.most) == (1, 1)
    asked.open.set()
    await eventually(lambda: look.last == 1)
    assert await look.now() == 1


async def test_a_log_that_does_not_answer_is_not_asked_again_at_once() -> None:
    asked = Asked()
    asked.away = True
    look = Look(FaultyStore(), asked, 60.0)
    assert [await look.now() for _ in range(3)] == [None] * 3
    assert (asked.times, look.last) == (1, None)


async def test_a_log_that_is_away_is_not_asked(tmp_path: Path) -> None:
    """The breaker knows: the last figure is still there for those who want it."""
    asked, inner = Asked(), FaultyStore()
    async with spooled(inner, tmp_path) as store:
        look = Look(store, asked, 0.0)
        assert await look.now() == 1
        inner.away = True
        with pytest.raises(StoreUnavailable):
            await store.head()
        await eventually(lambda: not store.status.available)
        assert await look.now() is None
        assert (asked.times, look.last) == (1, 1)
        inner.away = False
        await eventually(lambda: store.status.available)
        assert await look.now() == 2


async def test_a_fault_of_ours_is_no_figure() -> None:
    async def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Look(FaultyStore(), broken, 60.0).now()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (10_239, "10239 bytes"),
        (10_240, "10 kB"),
        (8_192 * 1024, "8192 kB"),
        (25 * 1024**2, "25 MB"),
        (3 * 10**12, "2794 GB"),
        (10**17, "90949 TB"),
    ],
)
def test_a_size_is_told_as_postgres_tells_it(size: int, text: str) -> None:
    assert size_text(size) == text
