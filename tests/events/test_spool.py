"""The disk queue by itself: what it holds, how it is numbered, and what it refuses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from events.envelope import ANY, NEW, Fence, StreamWrite
from events.errors import BadEvent, StoreUnavailable
from events.journal import Journal
from events.journal_lines import decode_unit
from events.memory import MemoryEventStore
from events.spool import BATCH_EVENTS, Spool, Unit, first_batch, replay, spoolable
from events.store import Appended, Outcome
from tests.factories import events, new_stream, write

LOG = UUID(int=7)


@pytest_asyncio.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    made = Spool(tmp_path / "spool", "gw-1", LOG, 2**20)
    yield made
    await made.close()


def unit(*sizes: int) -> Unit:
    return tuple(write(new_stream(), *events(size)) for size in sizes or (1,))


def test_facts_can_be_spooled_and_nothing_else() -> None:
    assert spoolable((write("session-a"), write("system")), None)
    for expected in (NEW, 0, 3):
        assert not spoolable((write("session-a"), write("session-b", expected=expected)), None)
    assert not spoolable((write("session-a", expected=ANY),), Fence("job", 1))


async def test_units_are_on_the_disk_in_order_and_whole(spool: Spool) -> None:
    """Read back by what would read it after a crash: the journal, by itself."""
    units = [unit(1, 2), unit(), unit(3)]
    for one in units:
        await spool.append(one)
    size = spool.size
    await spool.close()
    assert spool.path.stat().st_size == size
    opened = await Journal.open(spool.path, header={})
    assert opened.journal.header == {"log_id": str(LOG)}
    assert [decode_unit(line.entry)[0] for line in opened.lines] == units
    await opened.journal.close()


async def test_units_of_many_tasks_share_a_write(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write is one fdatasync: 5,400 a second here, however many units it holds."""
    writes: list[int] = []
    write_lines = Journal.write

    async def counted(journal: Journal, entries: list[object]) -> int:
        writes.append(len(entries))
        return await write_lines(journal, entries)

    monkeypatch.setattr(Journal, "write", counted)
    units = [unit() for _ in range(200)]
    await asyncio.gather(*(spool.append(one) for one in units))
    assert sum(writes) == 200 and len(writes) <= 3
    assert spool.pending() == tuple(one for each in units for one in each)


async def test_pending_leaves_out_what_a_reader_has_seen(spool: Spool) -> None:
    units = [unit(1, 1) for _ in range(5)]
    for one in units:
        await spool.append(one)
    writes = tuple(one for each in units for one in each)
    assert [spool.pending(after) for after in range(12)] == [writes[after:] for after in range(12)]
    spool.drop(2)
    assert (spool.units, spool.dropped) == (3, 4)
    assert [spool.pending(after) for after in range(12)] == [writes[max(after, 4) :] for after in range(12)]


async def test_who_watches_is_told_after_each_change(spool: Spool) -> None:
    told: list[int] = []
    spool.changed = lambda: told.append(len(spool.pending()))
    await spool.append(unit(1, 1))
    await spool.append(unit())
    spool.drop(2)
    assert told == [2, 3, 0]


async def test_an_empty_spool_leaves_no_file_and_begins_anew(spool: Spool) -> None:
    assert names(spool.path.parent.parent) == [] and spool.size == 0
    await spool.append(unit())
    spool.drop(1)
    assert spool.path.exists()
    await spool.empty()
    assert names(spool.path.parent) == [] and spool.size == 0
    await spool.append(again := unit())
    assert spool.pending(after=1) == again


async def test_the_size_is_held_though_many_come_at_once(tmp_path: Path) -> None:
    """What waits to be written counts too."""
    spool = Spool(tmp_path, "gw-1", LOG, 20_000)
    outcomes = await asyncio.gather(*(spool.append(unit()) for _ in range(100)), return_exceptions=True)
    taken = [one for one in outcomes if one is None]
    assert len(taken) == spool.units and 10 < len(taken) < 60
    assert all(isinstance(one, StoreUnavailable) for one in outcomes if one is not None)
    assert spool.size <= 20_000
    await spool.close()


async def test_what_a_former_process_of_the_name_left_is_not_written_into(spool: Spool, tmp_path: Path) -> None:
    """It may be another log's, and its units come before ours: it is taken over first."""
    await spool.append(former := unit())
    await spool.close()
    second = Spool(tmp_path / "spool", "gw-1", LOG, 2**20)
    with pytest.raises(StoreUnavailable, match="former process"):
        await second.append(unit())
    spool.path.unlink()
    await second.append(unit())
    await second.close()
    assert str(former[0].events[0].event_id) not in spool.path.read_text()


async def test_a_file_in_use_is_named(spool: Spool, tmp_path: Path) -> None:
    await spool.append(unit())
    with pytest.raises(StoreUnavailable, match=r"in use by process \d+"):
        await Spool(tmp_path / "spool", "gw-1", LOG, 2**20).append(unit())


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [([], 0), ([BATCH_EVENTS], 1), ([100, 28, 1], 2), ([100, 29], 1), ([1] * 200, BATCH_EVENTS)],
)
def test_a_batch_is_as_much_as_the_log_takes_at_once(sizes: list[int], taken: int) -> None:
    units = [unit(size) for size in sizes]
    assert first_batch(units) == units[:taken]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Aside:
    """Units that were refused, with their reasons."""

    def __init__(self) -> None:
        self.kept: list[tuple[Unit, str]] = []

    async def __call__(self, refused: Unit, reason: str) -> None:
        self.kept.append((refused, reason))


class Faulty(MemoryEventStore):
    """Raises what ``fault`` says for a unit."""

    def __init__(self, fault: Callable[[Unit], BaseException | None]) -> None:
        super().__init__()
        self._fault = fault

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        if (error := self._fault(writes)) is not None:
            raise error
        return await super().append(*writes, fence=fence)


async def test_a_replay_twice_writes_once() -> None:
    log, units, aside = MemoryEventStore(), [unit(2, 1), unit()], Aside()
    for _ in range(2):
        replayed = await replay(log, units, aside)
        assert (replayed.units, replayed.rejected, replayed.error) == (2, 0, None)
    assert len(await log.read_log()) == 4 and aside.kept == []


async def test_a_replay_ends_at_the_first_unit_that_is_not_taken() -> None:
    """Whatever became of those behind it: they are sent again, and known by their ids."""
    units, aside = [unit() for _ in range(4)], Aside()
    log = Faulty(lambda one: StoreUnavailable("away") if one == units[2] else None)
    replayed = await replay(log, units, aside)
    assert replayed.units == 2 and isinstance(replayed.error, StoreUnavailable)


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), asyncio.CancelledError()])
async def test_a_fault_that_says_nothing_of_the_unit_puts_nothing_aside(error: BaseException) -> None:
    units, aside = [unit()], Aside()
    replayed = await replay(Faulty(lambda one: error), units, aside)
    assert replayed.units == 0 and replayed.error is not None and aside.kept == []


async def test_a_unit_that_the_log_refuses_is_put_aside_with_the_reason() -> None:
    """Refused as data or by an exception: what stands behind it is replayed all the same."""
    known, poison, good, aside = unit(), unit(), unit(), Aside()
    log = Faulty(lambda one: BadEvent("poison") if one == poison else None)
    assert isinstance(await log.append(*known), Appended)
    mixed = (write(new_stream(), *known[0].events, *events(1)),)
    replayed = await replay(log, [mixed, poison, good], aside)
    assert (replayed.units, replayed.rejected, replayed.error) == (3, 2, None)
    assert [one for one, _ in aside.kept] == [mixed, poison]
    assert "Mismatch" in aside.kept[0][1] and aside.kept[1][1] == "BadEvent: poison"
    assert len(await log.read_log()) == 2
