"""The store that spools, around a log that is away when a test says so: what is answered, and when."""

import asyncio
import resource
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from events import fallback
from events.envelope import NEW, Fence, StreamWrite
from events.errors import BadEvent, StoreClosed, StoreUnavailable
from events.fallback import FallbackEventStore
from events.spool import BATCH_EVENTS, SUFFIX
from events.store import Appended, Outcome, Spooled
from events.takeover import Takeover
from events.writer import Unit, Writer
from tests.event_fixtures import until
from tests.events.wavering import (
    AT_ONCE,
    MEGABYTE,
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
from tests.factories import new_stream, raw, write


async def test_while_the_log_answers_nothing_is_spooled(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    assert isinstance(await spooling_store.append(write(new_stream())), Appended)
    assert spooling_store.status.available and spooling_store.status.away_since is None
    assert spooling_store.pending() == () and changes.told == []
    assert files(tmp_path, "") == []


async def test_the_append_that_finds_out_is_spooled(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    """On the disk when it is answered, for nobody else to read, and shown in the status."""
    first = await go_away(spooling_store, inner)
    [file] = files(tmp_path)
    assert str(first.events[0].event_id) in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    status = spooling_store.status
    assert (status.spooled_units, status.spooled_bytes) == (1, file.stat().st_size)
    assert status.away_since is not None and [one.available for one in changes.told] == [False]
    assert spooling_store.pending() == (first,)


async def test_what_is_not_true_in_any_order_is_refused_at_once(
    spooling_store: FallbackEventStore, inner: WaveringStore
) -> None:
    """A version or a lease cannot be checked without the log, and nobody should wait to hear that."""
    await go_away(spooling_store, inner)
    tried = inner.appends
    inner.open.clear()  # whoever asked the log now would hang
    fact, stream = write(new_stream()), new_stream()
    async with asyncio.timeout(AT_ONCE):
        for unit in (write(stream, expected=NEW), write(stream, expected=0), write(stream, expected=3)):
            with pytest.raises(StoreUnavailable, match="only facts"):
                await spooling_store.append(unit)
        with pytest.raises(StoreUnavailable, match="only facts"):
            await spooling_store.append(write(stream), fence=Fence("job", 1))
        with pytest.raises(StoreUnavailable, match="only facts"):
            await spooling_store.append(fact, write(stream, expected=NEW))
    assert inner.appends == tried
    assert spooling_store.status.spooled_units == 1


async def test_facts_do_not_wait_for_a_log_that_hangs(spooling_store: FallbackEventStore, inner: WaveringStore) -> None:
    await go_away(spooling_store, inner)
    inner.open.clear()
    async with asyncio.timeout(AT_ONCE):
        assert await spooling_store.append(write(new_stream()), write(new_stream())) == Spooled()
    assert spooling_store.status.spooled_units == 2 and len(spooling_store.pending()) == 3


async def test_a_command_that_finds_out_is_refused(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    inner.away = True
    with pytest.raises(StoreUnavailable, match="says the test"):
        await spooling_store.append(write(new_stream(), expected=NEW))
    assert not spooling_store.status.available and spooling_store.status.spooled_units == 0
    inner.away = False
    await changes.until(True)


async def test_a_bad_event_is_refused_when_it_is_appended(
    spooling_store: FallbackEventStore, inner: WaveringStore
) -> None:
    """In the spool it would be a promise that cannot be kept."""
    await go_away(spooling_store, inner)
    with pytest.raises(BadEvent):
        await spooling_store.append(write(new_stream(), raw(trace_id=b"short")))
    assert spooling_store.status.spooled_units == 1


async def test_reads_are_refused_at_once_while_the_log_does_not_answer(
    spooling_store: FallbackEventStore, inner: WaveringStore
) -> None:
    await go_away(spooling_store, inner)
    inner.open.clear()
    await until(lambda: refused(spooling_store))
    reads = inner.reads
    async with asyncio.timeout(AT_ONCE):
        for _ in range(3):
            assert await refused(spooling_store)
    assert inner.reads <= reads + 1  # the probe


async def test_pending_writes_are_numbered_and_leave_in_order(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    """What the views' overlay folds: each once, though it asks at every change."""
    seen: list[StreamWrite] = []
    left: list[int] = []

    def look() -> None:
        seen.extend(spooling_store.pending(after=len(seen)))
        left.append(spooling_store.replayed)
        assert spooling_store.pending() == tuple(seen[spooling_store.replayed :])

    spooling_store.on_spooled(look)
    first = await go_away(spooling_store, inner)
    units = [(write(new_stream()), write(new_stream())) for _ in range(300)]
    await asyncio.gather(*(spooling_store.append(*unit) for unit in units))
    assert seen == [first, *(one for unit in units for one in unit)]
    assert spooling_store.pending(after=599) == tuple(seen[599:]) and spooling_store.pending(after=10_000) == ()
    inner.away = False
    await changes.until(True)
    assert spooling_store.pending() == () and left[-1] == spooling_store.replayed == 601 and left == sorted(left)
    assert spooling_store.status.spooled_units == 0


async def test_a_full_spool_refuses_and_keeps_what_it_has(inner: WaveringStore, tmp_path: Path) -> None:
    """SPOOL_MAX_BYTES: the caller is told at once, and folds or refuses."""
    async with spooling(inner, tmp_path, max_bytes=50_000) as store:
        changes = Changes(store)
        first = await go_away(store, inner)
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
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    """The limit of this process's file size stands for the disk's end: a write stops in the middle of a line."""
    first = await go_away(spooling_store, inner)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    taken, payload = [first], b'{"a":"%s"}' % (b"x" * 60_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, hard))
    try:
        with pytest.raises(StoreUnavailable, match=r"gw-1\.spool\.jsonl cannot be written"):
            for _ in range(1000):
                await spooling_store.append(unit := write(first.stream_id, raw(payload=payload)))
                taken.append(unit)
        assert 10 < len(taken) < 20
        await spooling_store.append(small := write(first.stream_id))  # there is still room for this one
        taken.append(small)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    inner.away = False
    await changes.until(True)
    assert order_of(await spooling_store.read_log(), first.stream_id) == [str(one.events[0].event_id) for one in taken]


async def test_a_spool_that_cannot_be_made_is_named(inner: WaveringStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    async with spooling(inner, tmp_path / "file") as store:
        inner.away = True
        with pytest.raises(StoreUnavailable, match=r"file/gw-1\.spool\.jsonl cannot be written"):
            await store.append(write(new_stream()))
        assert store.status.spooled_units == 0


async def test_a_caller_that_leaves_disturbs_nobody(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes
) -> None:
    first = await go_away(spooling_store, inner)
    appends = [asyncio.create_task(spooling_store.append(write(first.stream_id))) for _ in range(50)]
    await asyncio.sleep(0)
    for task in appends[::2]:
        task.cancel()
    await asyncio.wait(appends)
    assert all(task.result() == Spooled() for task in appends[1::2])
    inner.away = False
    await changes.until(True)
    log = await spooling_store.read_stream(first.stream_id)
    assert len({one.event_id for one in log}) == len(log) >= 26


async def test_close_leaves_the_rest_to_the_next_process_and_says_how_much(
    inner: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inner.close = stay_open  # type: ignore[method-assign]  # one log, two processes after each other
    async with spooling(inner, tmp_path, name="gw-1") as store:
        first = await go_away(store, inner)
        second = write(new_stream())
        await store.append(second)
    assert "2 units wait in" in caplog.text and str(tmp_path / f"gw-1{SUFFIX}") in caplog.text
    inner.away = False
    async with spooling(inner, tmp_path, name="gw-2"):
        await until(lambda: gone(tmp_path / f"gw-1{SUFFIX}"))
    log = await inner.read_log()
    assert [one.event_id for one in log] == [one.events[0].event_id for one in (first, second)]
    assert files(tmp_path, "") == []


class Batching(WaveringStore):
    """Writes as Postgres does: through the writer, which a close waits for. Cleared ``open`` stands for frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = Writer(self._send)
        self.writer.start()

    async def append(self, *writes: StreamWrite, fence: Fence | None = None) -> Outcome:
        return await self.writer.append(Unit(writes, fence))

    async def close(self) -> None:
        await self.writer.close()

    async def _send(self, units: Sequence[Unit]) -> list[Outcome]:
        return [await WaveringStore.append(self, *unit.writes, fence=unit.fence) for unit in units]


async def test_close_spools_what_a_frozen_log_does_not_take_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is told to end while Postgres stands still had 4,000 facts refused, after 72 seconds."""
    monkeypatch.setattr(fallback, "LOG_SECONDS", 0.2)
    inner = Batching()
    store = await FallbackEventStore.open(inner, tmp_path, name="gw-1", max_bytes=16 * MEGABYTE)
    await store.append(write(new_stream()))
    inner.open.clear()
    facts = [write(new_stream()) for _ in range(1000)]
    under_way = [asyncio.create_task(store.append(fact)) for fact in facts]
    command = asyncio.create_task(store.append(write(new_stream(), expected=NEW)))
    await until(lambda: queued(inner, 500))
    async with asyncio.timeout(5):
        await store.close()
    assert all(task.done() for task in (*under_way, command))
    assert all(task.result() == Spooled() for task in under_way)
    assert isinstance(command.exception(), StoreUnavailable)
    log = WaveringStore(log_id=inner.log_id)
    assert await Takeover(tmp_path, log).run_once() == 0
    assert [one.event_id for one in await log.read_log(limit=2000)] == [one.events[0].event_id for one in facts]


async def test_close_waits_for_a_log_that_goes_on(tmp_path: Path) -> None:
    """What is under way enters it: nothing is spooled that need not be."""
    inner = Batching()
    store = await FallbackEventStore.open(inner, tmp_path, name="gw-1", max_bytes=16 * MEGABYTE)
    inner.open.clear()
    under_way = [asyncio.create_task(store.append(write(new_stream()))) for _ in range(500)]
    await until(lambda: queued(inner, 100))
    inner.open.set()
    await store.close()
    assert all(isinstance(task.result(), Appended) for task in under_way)
    assert files(tmp_path, "") == []


async def test_close_spools_what_waited_to_pass(
    spooling_store: FallbackEventStore, inner: WaveringStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate is shut while the last units are replayed, and the log stands still in the middle of that."""
    monkeypatch.setattr(fallback, "REPLAY_SECONDS", 0.2)
    await go_away(spooling_store, inner)
    await asyncio.gather(*(spooling_store.append(write(new_stream())) for _ in range(BATCH_EVENTS + 1)))
    spooling_store.on_spooled(inner.takes.clear)  # after the first batch
    tried = inner.appends
    inner.away = False
    await until(lambda: appended(inner, tried + BATCH_EVENTS + 1))
    under_way = [asyncio.create_task(spooling_store.append(write(new_stream()))) for _ in range(10)]
    await asyncio.wait(under_way, timeout=0.05)
    assert not any(task.done() for task in under_way)
    async with asyncio.timeout(5):
        await spooling_store.close()
    assert [task.result() for task in under_way] == [Spooled()] * 10
    assert spooling_store.status.spooled_units == 12 and len(files(tmp_path)) == 1


async def appended(inner: WaveringStore, times: int) -> bool:
    return inner.appends >= times


async def queued(inner: Batching, units: int) -> bool:
    return inner.writer.depth >= units


async def test_a_closed_store_says_so(spooling_store: FallbackEventStore, inner: WaveringStore) -> None:
    await go_away(spooling_store, inner)
    inner.away = False
    await spooling_store.close()
    await spooling_store.close()
    with pytest.raises(StoreClosed):
        await spooling_store.append(write(new_stream()))
    with pytest.raises(StoreClosed):
        await spooling_store.head()
