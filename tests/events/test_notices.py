"""Notices: what a silent batch owes is told, by the next that tells or by itself. Without a database."""

import asyncio

import pytest

from events.errors import StoreUnavailable
from events.notices import Notices


class Told:
    """Counts notifications that were sent by themselves; ``away``: so many fail first."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.count = 0
        self.sent = asyncio.Event()

    async def __call__(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("for now")
        self.count += 1
        self.sent.set()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.notices.AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("events.notices.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("events.notices.QUIET_SECONDS", 3600.0)


async def test_only_a_batch_behind_a_notice_that_another_follows_is_silent() -> None:
    notices = Notices(Told())
    assert notices.tells(more=True), "nothing was told yet"
    notices.told()
    assert not notices.tells(more=True) and notices.tells(more=False)


async def test_what_is_owed_is_told_once_by_itself() -> None:
    told = Told(away=3)
    notices = Notices(told)
    notices.owe()
    notices.owe()
    await asyncio.wait_for(told.sent.wait(), 10)
    await notices.close()
    assert told.count == 1 and not notices.owed


async def test_the_next_batch_that_tells_pays() -> None:
    told = Told()
    notices = Notices(told)
    notices.owe()
    notices.told()
    await notices.close()
    assert told.count == 0 and not notices.owed


async def test_a_batch_that_comes_while_one_is_told_is_told_too() -> None:
    """The notification may have been made before it was committed."""
    counts, twice = list[int](), asyncio.Event()

    async def tell() -> None:
        counts.append(len(counts))
        if len(counts) == 1:
            notices.owe()
        else:
            twice.set()

    notices = Notices(tell)
    notices.owe()
    await asyncio.wait_for(twice.wait(), 10)
    await notices.close()
    assert len(counts) == 2 and not notices.owed


async def test_the_end_of_a_log_that_is_away_does_not_wait() -> None:
    told = Told(away=1_000_000)
    notices = Notices(told)
    notices.owe()
    await asyncio.wait_for(notices.close(), 10)
    assert notices.owed
    notices.end()
