"""Holding: a lease is kept while the work lasts, and given back at its end, whatever the end is."""

import asyncio

import pytest

from events.errors import StoreUnavailable
from events.lease import MemoryLeases
from events.memory import MemoryEventStore
from projections.holding import holding


class Counted(MemoryLeases):
    """Says how often it was claimed; ``away`` raises."""

    def __init__(self) -> None:
        super().__init__(MemoryEventStore())
        self.claims, self.away, self.renewed = 0, False, asyncio.Event()

    async def claim(self, name: str, holder: str, ttl_seconds: float = 5.0) -> int | None:
        self.claims += 1
        if self.claims >= 4:
            self.renewed.set()
        if self.away:
            raise StoreUnavailable("away")
        return await super().claim(name, holder, ttl_seconds)

    async def release(self, name: str, holder: str) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().release(name, holder)


async def test_it_is_renewed_while_the_work_lasts_also_after_a_while_without_a_database() -> None:
    leases = Counted()
    async with holding(leases, "job", "one", ttl_seconds=0.01) as fence:
        assert fence is not None and (fence.lease, fence.epoch) == ("job", 1)
        leases.away = True
        await asyncio.wait_for(leases.renewed.wait(), 10)
        leases.away = False
    claims = leases.claims
    async with holding(leases, "job", "two") as fence:
        assert fence is not None and fence.epoch == 2
    assert leases.claims == claims + 1


async def test_while_another_has_it_there_is_none() -> None:
    leases = Counted()
    async with holding(leases, "job", "one"), holding(leases, "job", "two") as second:
        assert second is None
    assert await leases.alive("job") == frozenset()


async def test_it_is_given_back_when_the_work_fails() -> None:
    leases = Counted()
    with pytest.raises(ValueError, match="broken"):
        async with holding(leases, "job", "one"):
            raise ValueError("broken")
    assert await leases.alive("job") == frozenset()


async def test_a_lease_that_cannot_be_given_back_is_no_failure_of_the_work() -> None:
    leases = Counted()
    async with holding(leases, "job", "one"):
        leases.away = True
