"""The store that spools, around a log that is away when a test says so: what is answered, and what is in it after."""

import asyncio
import logging
import resource
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from events import breaker
from events.envelope import NEW, Fence, StreamWrite
from events.errors import BadEvent, StoreClosed, StoreUnavailable
from events.fallback import FallbackEventStore
from events.spool import REJECTED, SUFFIX
from events.store import Appended, Spooled
from tests.event_fixtures import until
from tests.events.wavering import MEGABYTE, Changes, WaveringStore, order_of, spooling
from tests.factories import event, events, new_stream, raw, write

AT_ONCE = 0.25  # seconds: far below any time-out of a store


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(breaker, "PROBE_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(breaker, "TAKEOVER_SECONDS", 0.05)


@pytest.fixture
def inner() -> WaveringStore:
    return WaveringStore()


@pytest_asyncio.fixture
async def store(inner: WaveringStore, tmp_path: Path) -> AsyncIterator[FallbackEventStore]:
    async with spooling(inner, tmp_path) as opened:
        yield opened


@pytest.fixture
def changes(store: FallbackEventStore) -> Changes:
    return Changes(store)


def files(directory: Path, suffix: str = SUFFIX) -> list[Path]:
    return sorted(directory.glob(f"*{suffix}"))


async def away(store: FallbackEventStore, inner: WaveringStore) -> StreamWrite:
    """The log is away, and the store knows since it spooled this."""
    inner.away = True
    first = write(new_stream())
    assert await store.append(first) == Spooled()
    assert not store.status.available
    return first


async def test_while_the_log_answers_nothing_is_spooled(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    assert isinstance(await store.append(write(new_stream())), Appended)
    assert store.status.available and store.status.away_since is None
    assert store.pending() == () and changes.told == []
    assert files(tmp_path, "") == []


async def test_the_append_that_finds_out_is_spooled(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    """On the disk when it is answered, for nobody else to read, and shown in the status."""
    first = await away(store, inner)
    [file] = files(tmp_path)
    assert str(first.events[0].event_id) in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    status = store.status
    assert (status.spooled_units, status.spooled_bytes) == (1, file.stat().st_size)
    assert status.away_since is not None and [one.available for one in changes.told] == [False]
    assert store.pending() == (first,)


async def test_an_append_whose_answer_was_lost_is_in_the_log_once(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """Of 387 calls cut after sending, 387 had been committed: the replay learns that by the ids."""
    inner.lost_answers = 1
    unit = write(new_stream())
    assert await store.append(unit) == Spooled()
    await changes.until(True)
    assert order_of(await store.read_log(), unit.stream_id) == [str(unit.events[0].event_id)]


async def test_what_is_not_true_in_any_order_is_refused_at_once(
    store: FallbackEventStore, inner: WaveringStore
) -> None:
    """A version or a lease cannot be checked without the log, and nobody should wait to hear that."""
    await away(store, inner)
    tried = inner.appends
    inner.open.clear()  # whoever asked the log now would hang
    fact, stream = write(new_stream()), new_stream()
    async with asyncio.timeout(AT_ONCE):
        for unit in (write(stream, expected=NEW), write(stream, expected=0), write(stream, expected=3)):
            with pytest.raises(StoreUnavailable, match="only facts"):
                await store.append(unit)
        with pytest.raises(StoreUnavailable, match="only facts"):
            await store.append(write(stream), fence=Fence("job", 1))
        with pytest.raises(StoreUnavailable, match="only facts"):
            await store.append(fact, write(stream, expected=NEW))
    assert inner.appends == tried
    assert store.status.spooled_units == 1


async def test_facts_do_not_wait_for_a_log_that_hangs(store: FallbackEventStore, inner: WaveringStore) -> None:
    await away(store, inner)
    inner.open.clear()
    async with asyncio.timeout(AT_ONCE):
        assert await store.append(write(new_stream()), write(new_stream())) == Spooled()
    assert store.status.spooled_units == 2 and len(store.pending()) == 3


async def test_a_command_that_finds_out_is_refused(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    inner.away = True
    with pytest.raises(StoreUnavailable):
        await store.append(write(new_stream(), expected=NEW))
    assert not store.status.available and store.status.spooled_units == 0
    inner.away = False
    await changes.until(True)


async def test_a_bad_event_is_refused_when_it_is_appended(store: FallbackEventStore, inner: WaveringStore) -> None:
    """In the spool it would be a promise that cannot be kept."""
    await away(store, inner)
    with pytest.raises(BadEvent):
        await store.append(write(new_stream(), raw(trace_id=b"short")))
    assert store.status.spooled_units == 1


async def test_reads_are_refused_at_once_while_the_log_does_not_answer(
    store: FallbackEventStore, inner: WaveringStore
) -> None:
    await away(store, inner)
    inner.open.clear()
    await until(lambda: refused(store))
    reads = inner.reads
    async with asyncio.timeout(AT_ONCE):
        for _ in range(3):
            assert await refused(store)
    assert inner.reads <= reads + 1  # the probe


async def refused(store: FallbackEventStore) -> bool:
    """Whether a read is refused within the time that a look takes."""
    try:
        async with asyncio.timeout(AT_ONCE):
            await store.read_stream("session-a")
    except (StoreUnavailable, TimeoutError):
        return True
    return False


async def test_a_log_that_takes_nothing_is_still_read(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """A full disk, a standby: the views go on seeing what others revoked before, and facts go on being spooled."""
    await store.append(before := write(new_stream()))
    inner.full = True
    assert await store.append(write(new_stream())) == Spooled()
    probes = inner.reads
    await until(lambda: probed(inner, probes + 3))
    assert await store.append(write(new_stream())) == Spooled()
    assert len(await store.read_stream(before.stream_id)) == 1
    assert store.status.spooled_units == 2 and [one.available for one in changes.told] == [False]
    inner.full = False
    await changes.until(True)


async def probed(inner: WaveringStore, reads: int) -> bool:
    return inner.reads >= reads


async def test_a_failed_read_calls_for_a_probe_that_decides(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """A query can be too slow for a log that is well: commands are not refused for that."""
    await store.append(write(new_stream()))
    inner.away = True
    with pytest.raises(StoreUnavailable):
        await store.read_stream("session-a")
    assert store.status.available  # nobody but this reader has said so
    await changes.until(False)
    inner.away = False
    await changes.until(True)

    async def slow(*_: object, **__: object) -> list[object]:
        raise StoreUnavailable("this query took too long")

    inner.read_log = slow  # type: ignore[method-assign, assignment]  # one query, while all else is well
    reads = inner.reads
    with pytest.raises(StoreUnavailable):
        await store.read_log()
    await until(lambda: probed(inner, reads + 1))
    assert isinstance(await store.append(write(new_stream(), expected=NEW)), Appended)
    assert [one.available for one in changes.told] == [False, True]


async def test_what_was_spooled_is_replayed_in_order_before_anything_newer(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    """Also what comes while the replay is under way; then the file is gone, and the log is told to be back."""
    first = await away(store, inner)
    units = [write(new_stream(), *events(nth % 5 + 1)) for nth in range(100)]
    for unit in units:
        await store.append(unit)
    inner.open.clear()
    inner.away = False
    newer = [asyncio.create_task(store.append(write(new_stream()))) for _ in range(20)]
    inner.open.set()
    last = write(new_stream(), expected=NEW)
    back = await changes.until(True)
    assert isinstance(await store.append(last), Appended)
    assert all(isinstance(one, Spooled | Appended) for one in await asyncio.gather(*newer))
    log = await store.read_log(limit=10_000)
    expected = [one.event_id for unit in (first, *units) for one in unit.events]
    assert [one.event_id for one in log[: len(expected)]] == expected
    assert log[-1].event_id == last.events[0].event_id and len(log) == len(expected) + 21
    assert (back.spooled_units, back.spooled_bytes, back.away_since) == (0, 0, None)
    assert files(tmp_path, "") == []


async def test_pending_writes_are_numbered_and_leave_in_order(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """What the views' overlay folds: each once, though it asks at every change."""
    seen: list[StreamWrite] = []
    left: list[int] = []

    def look() -> None:
        seen.extend(store.pending(after=len(seen)))
        left.append(store.replayed)
        assert store.pending() == tuple(seen[store.replayed :])

    store.on_spooled(look)
    first = await away(store, inner)
    units = [(write(new_stream()), write(new_stream())) for _ in range(300)]
    await asyncio.gather(*(store.append(*unit) for unit in units))
    assert seen == [first, *(one for unit in units for one in unit)]
    assert store.pending(after=599) == tuple(seen[599:]) and store.pending(after=10_000) == ()
    inner.away = False
    await changes.until(True)
    assert store.pending() == () and left[-1] == store.replayed == 601 and left == sorted(left)
    assert store.status.spooled_units == 0


async def test_outages_under_load_lose_double_and_disorder_nothing(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """Each writer goes on when it was answered, so its own order is what the log must show; every switch is passed."""
    written: dict[str, list[str]] = {}
    going = True

    async def produce(stream: str) -> None:
        while going:
            fact = event()
            assert isinstance(await store.append(write(stream, fact)), Appended | Spooled)
            written.setdefault(stream, []).append(str(fact.event_id))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(produce(new_stream()))
        for outage in range(8):
            inner.lost_answers = 3 * (outage % 2)
            inner.away = True
            await changes.until(False)
            await until(lambda: grown(store, 20))
            inner.away = False
            await changes.until(True)
        going = False
    await changes.until(True)
    log = await inner.read_log(limit=1_000_000)
    assert {stream: order_of(log, stream) for stream in written} == written
    assert len(log) == sum(map(len, written.values()))


async def grown(store: FallbackEventStore, units: int) -> bool:
    return store.status.spooled_units >= units


async def test_appends_that_come_as_fast_as_the_replay_end_it_all_the_same(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy process would spool for ever: from the third round on, the writers wait for the last units."""
    monkeypatch.setattr(breaker, "LAST_UNITS", 0)
    await away(store, inner)
    going = True

    async def produce() -> None:
        while going:
            await store.append(write(new_stream()))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(produce())
        await until(lambda: grown(store, 200))
        inner.away = False
        await changes.until(True)
        going = False


async def test_a_unit_that_the_log_refuses_is_kept_beside_and_told(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was acknowledged: a person must be able to find it. What stands behind it is not held up."""
    known = event()
    await store.append(write(new_stream(), known))
    await away(store, inner)
    mismatch, poison, good = write(new_stream(), known, event()), write(new_stream()), write(new_stream())
    inner.poison = {poison.stream_id}
    for unit in (mismatch, poison, good):
        assert await store.append(unit) == Spooled()
    inner.away = False
    assert (await changes.until(True)).rejected_units == 2
    assert len(await store.read_stream(good.stream_id)) == 1
    [kept] = files(tmp_path, REJECTED)
    text = kept.read_text()
    assert all(str(unit.events[0].event_id) in text for unit in (mismatch, poison))
    assert "Mismatch" in text and "poison" in text and stat.S_IMODE(kept.stat().st_mode) == 0o600
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len([line for line in said if str(kept) in line]) == 2
    assert files(tmp_path) == []


async def test_a_refused_unit_is_kept_once_though_its_replay_begins_anew(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    await away(store, inner)
    poison = write(new_stream())
    inner.poison = {poison.stream_id}
    await store.append(poison)
    [file] = files(tmp_path)
    shutil.copy(file, tmp_path / "copy")
    inner.away = False
    await changes.until(True)
    (tmp_path / "copy").rename(file)  # as after a crash before the file was deleted
    await until(lambda: gone(file))
    [kept] = files(tmp_path, REJECTED)
    assert kept.read_text().count(str(poison.events[0].event_id)) == 1
    assert store.status.rejected_units == 2


async def gone(file: Path) -> bool:
    return file not in files(file.parent)


async def test_a_replay_that_is_cut_off_goes_on_where_it_was(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """In the middle of a batch, with the answer lost: what had arrived is known by its ids."""
    first = await away(store, inner)
    units = [write(first.stream_id, *events(20)) for _ in range(40)]
    for unit in units:
        await store.append(unit)
    inner.lost_answers = 5
    inner.away = False
    await changes.until(True)
    expected = [str(one.event_id) for unit in (first, *units) for one in unit.events]
    assert order_of(await store.read_log(limit=10_000), first.stream_id) == expected


async def test_a_full_spool_refuses_and_keeps_what_it_has(inner: WaveringStore, tmp_path: Path) -> None:
    """SPOOL_MAX_BYTES: the caller is told at once, and folds or refuses."""
    async with spooling(inner, tmp_path, max_bytes=50_000) as store:
        changes = Changes(store)
        first = await away(store, inner)
        taken = [first]
        with pytest.raises(StoreUnavailable, match=r"gw-1\.spool\.jsonl is full"):
            for _ in range(1000):
                await store.append(unit := write(first.stream_id))
                taken.append(unit)
        assert 48_000 < store.status.spooled_bytes <= 50_000
        inner.away = False
        await changes.until(True)
        assert order_of(await store.read_log(), first.stream_id) == [str(one.events[0].event_id) for one in taken]


async def test_a_disk_that_takes_no_more_refuses_and_keeps_what_was_told(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    """The limit of this process's file size stands for the disk's end: a write stops in the middle of a line."""
    first = await away(store, inner)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    taken, payload = [first], b'{"a":"%s"}' % (b"x" * 60_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, hard))
    try:
        with pytest.raises(StoreUnavailable, match=r"gw-1\.spool\.jsonl cannot be written"):
            for _ in range(1000):
                await store.append(unit := write(first.stream_id, raw(payload=payload)))
                taken.append(unit)
        assert 10 < len(taken) < 20
        await store.append(small := write(first.stream_id))  # there is still room for this one
        taken.append(small)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    inner.away = False
    await changes.until(True)
    assert order_of(await store.read_log(), first.stream_id) == [str(one.events[0].event_id) for one in taken]


async def test_a_spool_that_cannot_be_made_is_named(inner: WaveringStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    async with spooling(inner, tmp_path / "file") as store:
        inner.away = True
        with pytest.raises(StoreUnavailable, match=r"file/gw-1\.spool\.jsonl cannot be written"):
            await store.append(write(new_stream()))
        assert store.status.spooled_units == 0


async def test_a_caller_that_leaves_disturbs_nobody(
    store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    first = await away(store, inner)
    appends = [asyncio.create_task(store.append(write(first.stream_id))) for _ in range(50)]
    await asyncio.sleep(0)
    for task in appends[::2]:
        task.cancel()
    await asyncio.wait(appends)
    assert all(task.result() == Spooled() for task in appends[1::2])
    inner.away = False
    await changes.until(True)
    log = await store.read_stream(first.stream_id)
    assert len({one.event_id for one in log}) == len(log) >= 26


async def test_close_brings_what_is_spooled_into_a_log_that_is_back(inner: WaveringStore, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(breaker, "PROBE_SECONDS", 60.0)  # nobody but close looks
        async with spooling(inner, tmp_path) as store:
            first = await away(store, inner)
            await until(lambda: refused(store))
            inner.away = False
            inner.close = nothing  # type: ignore[method-assign]  # it is read below
    assert len(await inner.read_stream(first.stream_id)) == 1
    assert files(tmp_path, "") == []


async def nothing() -> None:
    """Instead of closing."""


async def test_close_leaves_the_rest_to_the_next_process_and_says_how_much(
    inner: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inner.close = nothing  # type: ignore[method-assign]  # one log, two processes after each other
    async with spooling(inner, tmp_path, name="gw-1") as store:
        first = await away(store, inner)
        second = write(new_stream())
        await store.append(second)
    assert "2 units wait in" in caplog.text and str(tmp_path / f"gw-1{SUFFIX}") in caplog.text
    inner.away = False
    async with spooling(inner, tmp_path, name="gw-2"):
        await until(lambda: gone(tmp_path / f"gw-1{SUFFIX}"))
    log = await inner.read_log()
    assert [one.event_id for one in log] == [one.events[0].event_id for one in (first, second)]
    assert files(tmp_path, "") == []


async def test_close_is_bounded_though_the_log_hangs(inner: WaveringStore, tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        async with spooling(inner, tmp_path) as store:
            await away(store, inner)
            inner.open.clear()
    assert len(files(tmp_path)) == 1


async def test_a_closed_store_says_so(store: FallbackEventStore, inner: WaveringStore) -> None:
    await away(store, inner)
    inner.away = False
    await store.close()
    await store.close()
    with pytest.raises(StoreClosed):
        await store.append(write(new_stream()))
    with pytest.raises(StoreClosed):
        await store.head()
