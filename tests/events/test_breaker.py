"""Whether the log is away, and the way back: replayed in order, once, and before anything newer."""

import asyncio
import logging
import shutil
import stat
from pathlib import Path

import pytest

from events import breaker
from events.envelope import NEW
from events.errors import StoreUnavailable
from events.fallback import FallbackEventStore
from events.journal import Journal
from events.rejected import REJECTED
from events.store import Appended, Spooled
from tests.event_fixtures import until
from tests.events.wavering import (
    AT_ONCE,
    Changes,
    WaveringStore,
    files,
    go_away,
    gone,
    order_of,
    refused,
    spooling,
    stay_open,
)
from tests.factories import event, events, new_stream, write


async def test_an_append_whose_answer_was_lost_is_in_the_log_once(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """Of 387 calls cut after sending, 387 had been committed: the replay learns that by the ids."""
    inner.lost_answers = 1
    unit = write(new_stream())
    assert await spooling_store.append(unit) == Spooled()
    await changes.until(True)
    assert order_of(await spooling_store.read_log(), unit.stream_id) == [str(unit.events[0].event_id)]


async def test_a_log_that_takes_nothing_is_still_read(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """A full disk, a standby: the views go on seeing what others revoked before, and facts go on being spooled."""
    await spooling_store.append(before := write(new_stream()))
    inner.full = True
    assert await spooling_store.append(write(new_stream())) == Spooled()
    probes = inner.reads
    await until(lambda: probed(inner, probes + 3))
    assert await spooling_store.append(write(new_stream())) == Spooled()
    assert len(await spooling_store.read_stream(before.stream_id)) == 1
    assert spooling_store.status.spooled_units == 2 and [one.available for one in changes.told] == [False]
    inner.full = False
    await changes.until(True)


async def test_a_log_that_reads_and_is_slow_to_refuse_holds_nobody_up(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """Postgres with a full disk: each replay takes the writer's six seconds to fail; appends do not wait for that."""
    inner.full = True
    assert await spooling_store.append(write(new_stream())) == Spooled()
    inner.takes.clear()
    before = inner.appends
    await until(lambda: tried(inner, before + 1))
    async with asyncio.timeout(AT_ONCE):
        assert await spooling_store.append(write(new_stream())) == Spooled()
    inner.full = False
    inner.takes.set()
    await changes.until(True)


async def test_a_failed_read_calls_for_a_probe_that_decides(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """A query can be too slow for a log that is well: commands are not refused for that."""
    await spooling_store.append(write(new_stream()))
    inner.away = True
    with pytest.raises(StoreUnavailable):
        await spooling_store.read_stream("session-a")
    assert spooling_store.status.available  # nobody but this reader has said so
    await changes.until(False)
    inner.away = False
    await changes.until(True)

    async def slow(*_: object, **__: object) -> list[object]:
        raise StoreUnavailable("this query took too long")

    inner.read_log = slow  # type: ignore[method-assign, assignment]  # one query, while all else is well
    reads = inner.reads
    with pytest.raises(StoreUnavailable):
        await spooling_store.read_log()
    await until(lambda: probed(inner, reads + 1))
    assert isinstance(await spooling_store.append(write(new_stream(), expected=NEW)), Appended)
    assert [one.available for one in changes.told] == [False, True]


async def test_what_was_spooled_is_replayed_in_order_before_anything_newer(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    """Also what comes while the replay is under way; then the file is gone, and the log is told to be back."""
    first = await go_away(spooling_store, inner)
    units = [write(new_stream(), *events(nth % 5 + 1)) for nth in range(100)]
    for unit in units:
        await spooling_store.append(unit)
    inner.open.clear()
    inner.away = False
    newer = [asyncio.create_task(spooling_store.append(write(new_stream()))) for _ in range(20)]
    inner.open.set()
    last = write(new_stream(), expected=NEW)
    back = await changes.until(True)
    assert isinstance(await spooling_store.append(last), Appended)
    assert all(isinstance(one, Spooled | Appended) for one in await asyncio.gather(*newer))
    log = await spooling_store.read_log(limit=10_000)
    expected = [one.event_id for unit in (first, *units) for one in unit.events]
    assert [one.event_id for one in log[: len(expected)]] == expected
    assert log[-1].event_id == last.events[0].event_id and len(log) == len(expected) + 21
    assert (back.spooled_units, back.spooled_bytes, back.away_since) == (0, 0, None)
    assert files(tmp_path, "") == []


async def test_outages_under_load_lose_double_and_disorder_nothing(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """Each writer goes on when it was answered, so its own order is what the log must show; every switch is passed."""
    written: dict[str, list[str]] = {}
    going = True

    async def produce(stream: str) -> None:
        while going:
            fact = event()
            assert isinstance(await spooling_store.append(write(stream, fact)), Appended | Spooled)
            written.setdefault(stream, []).append(str(fact.event_id))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(produce(new_stream()))
        for outage in range(8):
            inner.lost_answers = 3 * (outage % 2)
            inner.away = True
            await changes.until(False)
            await until(lambda: grown(spooling_store, 20))
            inner.away = False
            await changes.until(True)
        going = False
    await changes.until(True)
    log = await inner.read_log(limit=1_000_000)
    assert {stream: order_of(log, stream) for stream in written} == written
    assert len(log) == sum(map(len, written.values()))


async def test_appends_that_come_as_fast_as_the_replay_end_it_all_the_same(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy process would spool for ever: from the third round on, the writers wait for the last units."""
    monkeypatch.setattr(breaker, "LAST_UNITS", 0)
    await go_away(spooling_store, inner)
    going = True

    async def produce() -> None:
        while going:
            await spooling_store.append(write(new_stream()))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(produce())
        await until(lambda: grown(spooling_store, 200))
        inner.away = False
        await changes.until(True)
        going = False


async def test_a_unit_that_the_log_refuses_is_kept_beside_and_told(
    spooling_store: FallbackEventStore,
    inner: WaveringStore,
    changes: Changes,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was acknowledged: a person must be able to find it. What stands behind it is not held up."""
    known = event()
    await spooling_store.append(write(new_stream(), known))
    await go_away(spooling_store, inner)
    mismatch, poison, good = write(new_stream(), known, event()), write(new_stream()), write(new_stream())
    inner.poison = {poison.stream_id}
    for unit in (mismatch, poison, good):
        assert await spooling_store.append(unit) == Spooled()
    inner.away = False
    assert (await changes.until(True)).rejected_units == 2
    assert len(await spooling_store.read_stream(good.stream_id)) == 1
    [kept] = files(tmp_path, REJECTED)
    text = kept.read_text()
    assert all(str(unit.events[0].event_id) in text for unit in (mismatch, poison))
    assert "Mismatch" in text and "poison" in text and stat.S_IMODE(kept.stat().st_mode) == 0o600
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len([line for line in said if str(kept) in line]) == 2
    assert files(tmp_path) == []


async def test_a_refused_unit_is_kept_once_though_its_replay_begins_anew(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    await go_away(spooling_store, inner)
    poison = write(new_stream())
    inner.poison = {poison.stream_id}
    await spooling_store.append(poison)
    [file] = files(tmp_path)
    shutil.copy(file, tmp_path / "copy")
    inner.away = False
    await changes.until(True)
    (tmp_path / "copy").rename(file)  # as after a crash before the file was deleted
    await until(lambda: gone(file))
    [kept] = files(tmp_path, REJECTED)
    assert kept.read_text().count(str(poison.events[0].event_id)) == 1


async def test_looks_have_a_pause_between_them_whatever_calls_for_one(
    spooling_store: FallbackEventStore, inner: WaveringStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads that fail by the thousand call for one probe each: a pool that is exhausted must not be asked as often."""
    monkeypatch.setattr(breaker, "PROBE_SECONDS", 60.0)
    asked = 0

    async def slow(*_: object, **__: object) -> list[object]:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("this query took too long")

    inner.read_log = slow  # type: ignore[method-assign, assignment]  # one query, while all else is well
    probes, began = inner.reads, asyncio.get_running_loop().time()
    async with asyncio.timeout(20):
        while asked < 1000 or inner.reads < probes + 3:
            with pytest.raises(StoreUnavailable):
                await spooling_store.read_log()
            await asyncio.sleep(0)
    assert inner.reads - probes <= 3 + (asyncio.get_running_loop().time() - began) / breaker.REST_SECONDS


async def test_a_replay_that_is_cut_off_goes_on_where_it_was(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """In the middle of a batch, with the answer lost: what had arrived is known by its ids."""
    first = await go_away(spooling_store, inner)
    units = [write(first.stream_id, *events(20)) for _ in range(40)]
    for unit in units:
        await spooling_store.append(unit)
    inner.lost_answers = 5
    inner.away = False
    await changes.until(True)
    expected = [str(one.event_id) for unit in (first, *units) for one in unit.events]
    assert order_of(await spooling_store.read_log(limit=10_000), first.stream_id) == expected


async def test_a_unit_whose_caller_left_is_not_left_behind(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on its way to the disk and nobody waits for it: the breaker does, or it would lie there unseen."""
    first = await go_away(spooling_store, inner)
    disk, write_lines = asyncio.Event(), Journal.write

    async def slow(journal: Journal, entries: list[object]) -> int:
        await disk.wait()
        return await write_lines(journal, entries)

    monkeypatch.setattr(Journal, "write", slow)
    try:
        left = asyncio.create_task(spooling_store.append(write(first.stream_id)))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        probes = inner.reads
        inner.away = False
        await until(lambda: probed(inner, probes + 1))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not spooling_store.status.available
    finally:
        disk.set()
    await changes.until(True)
    assert len(await spooling_store.read_stream(first.stream_id)) == 2 and spooling_store.pending() == ()


async def test_a_hook_that_fails_costs_no_unit(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of the hook")

    spooling_store.on_spooled(fail)
    spooling_store.on_change(fail)
    first = await go_away(spooling_store, inner)
    inner.away = False
    await changes.until(True)
    assert len(await spooling_store.read_stream(first.stream_id)) == 1
    assert "a fault of the hook" in caplog.text


async def test_close_brings_what_is_spooled_into_a_log_that_is_back(inner: WaveringStore, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(breaker, "PROBE_SECONDS", 60.0)  # nobody but close looks
        async with spooling(inner, tmp_path) as store:
            first = await go_away(store, inner)
            await until(lambda: refused(store))
            inner.away = False
            inner.close = stay_open  # type: ignore[method-assign]  # it is read below
    assert len(await inner.read_stream(first.stream_id)) == 1
    assert files(tmp_path, "") == []


async def test_close_is_bounded_though_the_log_hangs(inner: WaveringStore, tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        async with spooling(inner, tmp_path) as store:
            await go_away(store, inner)
            inner.open.clear()
    assert len(files(tmp_path)) == 1


async def tried(inner: WaveringStore, appends: int) -> bool:
    return inner.appends >= appends


async def probed(inner: WaveringStore, reads: int) -> bool:
    """Whether so many reads have reached the log."""
    return inner.reads >= reads


async def grown(store: FallbackEventStore, units: int) -> bool:
    """Whether so many units wait."""
    return store.status.spooled_units >= units
