"""Leases: one holder, lost by silence, and the epoch that shuts out the former one."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from events.envelope import Fence
from events.errors import StoreUnavailable
from events.ids import short
from events.lease import Leases, MemoryLeases, PostgresLeases
from events.memory import MemoryEventStore
from events.postgres import PostgresEventStore
from events.store import Appended, Fenced
from tests.event_fixtures import LogDatabase, connection, open_store, until
from tests.factories import new_stream, write


@pytest_asyncio.fixture
async def leases(log_of_backend: LogDatabase | None) -> AsyncIterator[Leases]:
    if log_of_backend is None:
        yield MemoryLeases(MemoryEventStore())
        return
    async with open_store(log_of_backend.app_dsn) as store:
        yield PostgresLeases(store.pool)


@pytest.fixture
def job() -> str:
    """A job that no other test names."""
    return f"job-{short()}"


async def test_first_holder_keeps_others_out(leases: Leases, job: str) -> None:
    assert await leases.claim(job, "a") == 1
    assert await leases.claim(job, "b") is None
    assert await leases.claim(f"{job}2", "b") == 1


async def test_renewal_keeps_the_epoch(leases: Leases, job: str) -> None:
    assert [await leases.claim(job, "a") for _ in range(3)] == [1, 1, 1]


async def test_released_lease_goes_to_the_next_with_a_higher_epoch(leases: Leases, job: str) -> None:
    """Also to the former holder: what it began before the release must not be taken for what it begins now."""
    await leases.claim(job, "a")
    await leases.release(job, "a")
    assert await leases.claim(job, "b") == 2
    await leases.release(job, "b")
    assert await leases.claim(job, "b") == 3


async def test_only_the_holder_can_release(leases: Leases, job: str) -> None:
    await leases.claim(job, "a")
    await leases.release(job, "b")
    await leases.release(f"{job}-that-nobody-holds", "b")
    assert await leases.claim(job, "b") is None
    assert await leases.claim(job, "a") == 1


async def test_racers_have_one_winner(leases: Leases, job: str) -> None:
    epochs = await asyncio.gather(*(leases.claim(job, str(nth)) for nth in range(20)))
    assert [epoch for epoch in epochs if epoch is not None] == [1]


async def test_alive_tells_holders_by_prefix(leases: Leases, job: str) -> None:
    await leases.claim(f"{job}/a", "g1")
    await leases.claim(f"{job}/b", "g2")
    await leases.claim(f"x{job}/b", "g3")
    assert await leases.alive(f"{job}/") == {"g1", "g2"}
    await leases.release(f"{job}/a", "g1")
    assert await leases.alive(f"{job}/") == {"g2"}
    assert await leases.alive(f"{job}%") == frozenset()


@pytest.mark.postgres
class TestOnTheDatabasesClock:
    async def test_silent_holder_loses_the_lease(self, pg_leases: PostgresLeases, job: str) -> None:
        assert await pg_leases.claim(job, "a", 0.05) == 1
        await until(lambda: pg_leases.claim(job, "b", 5))
        assert await pg_leases.claim(job, "b") == 2
        assert await pg_leases.claim(job, "a") is None

    async def test_holder_that_comes_too_late_gets_a_new_epoch(self, pg_leases: PostgresLeases, job: str) -> None:
        """Between the two somebody else may have held it: the former epoch's writes must not pass."""
        assert await pg_leases.claim(job, "a", 0) == 1
        assert await pg_leases.claim(job, "a") == 2

    async def test_renewal_counts_from_now(self, pg_leases: PostgresLeases, job: str) -> None:
        await pg_leases.claim(job, "a", 1000)
        await pg_leases.claim(job, "a", 0)
        assert await pg_leases.claim(job, "b") == 2

    async def test_expired_holders_are_not_alive(self, pg_leases: PostgresLeases, job: str) -> None:
        await pg_leases.claim(job, "a", 0)
        assert await pg_leases.alive(job) == frozenset()

    async def test_former_holder_is_fenced_after_a_takeover(
        self, pg_store: PostgresEventStore, pg_leases: PostgresLeases, job: str
    ) -> None:
        old = await pg_leases.claim(job, "a", 0)
        assert old is not None
        assert isinstance(await pg_store.append(write(new_stream()), fence=Fence(job, old)), Appended)
        new = await pg_leases.claim(job, "b")
        assert new is not None
        assert await pg_store.append(write(new_stream()), fence=Fence(job, old)) == Fenced(job)
        assert isinstance(await pg_store.append(write(new_stream()), fence=Fence(job, new)), Appended)

    async def test_takeover_waits_for_an_append_that_was_checked(
        self, shared_log: LogDatabase, pg_leases: PostgresLeases, job: str
    ) -> None:
        """Else the former holder's write could commit after its successor began."""
        await pg_leases.claim(job, "a", 0)
        async with connection(shared_log.app_dsn) as appending, appending.transaction():
            await appending.execute("select pg_advisory_xact_lock(7201, 1)")
            takeover = asyncio.create_task(pg_leases.claim(job, "b"))
            await until(lambda: appending.fetchval(WAITS))
            assert not takeover.done()
        assert await takeover == 2

    async def test_renewal_does_not_wait_for_appends(
        self, shared_log: LogDatabase, pg_leases: PostgresLeases, job: str
    ) -> None:
        """A busy log must not cost a holder its lease."""
        await pg_leases.claim(job, "a", 1000)
        async with connection(shared_log.app_dsn) as appending, appending.transaction():
            await appending.execute("select pg_advisory_xact_lock(7201, 1)")
            assert await asyncio.wait_for(pg_leases.claim(job, "a"), 3) == 1

    async def test_who_finds_another_holder_does_not_wait_for_appends(
        self, shared_log: LogDatabase, pg_leases: PostgresLeases, job: str
    ) -> None:
        """Every gateway asks for every job, some of them each second: that must not stand in the way of the log."""
        await pg_leases.claim(job, "a", 1000)
        async with connection(shared_log.app_dsn) as appending, appending.transaction():
            await appending.execute("select pg_advisory_xact_lock(7201, 1)")
            assert await asyncio.wait_for(pg_leases.claim(job, "b"), 3) is None

    async def test_leases_that_cannot_be_reached_are_the_stores_fault(self, shared_log: LogDatabase, job: str) -> None:
        async with open_store(shared_log.app_dsn) as store:
            leases = PostgresLeases(store.pool)
        for call in (leases.claim(job, "a"), leases.release(job, "a"), leases.alive(job)):
            with pytest.raises(StoreUnavailable):
                await call

    async def test_a_time_out_is_told_by_its_name(
        self, shared_log: LogDatabase, pg_leases: PostgresLeases, job: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has no text of its own, and a sentence that ends in a colon says nothing."""
        monkeypatch.setattr("events.lease.COMMAND_SECONDS", 0.3)
        await pg_leases.claim(job, "a", 1000)
        async with connection(shared_log.admin_dsn) as holding, holding.transaction():
            await holding.execute("select from view.lease where name = $1 for update", job)
            with pytest.raises(StoreUnavailable, match=r"^leases cannot be reached: TimeoutError$"):
                await pg_leases.claim(job, "a")


WAITS = "select exists (select from pg_locks where locktype = 'advisory' and classid = 7201 and not granted)"
