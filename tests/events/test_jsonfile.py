"""The log in a file: what the contract suite does not ask, since only a file can be torn, full, or held by another."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from errno import EROFS
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from events.envelope import NEW, Fence, RecordedEvent
from events.errors import JournalDamaged, JournalFull, JournalLocked, StoreUnavailable
from events.journal import Journal
from events.journal_lines import encode_unit
from events.jsonfile import FILE, JsonFileEventStore
from events.lease import MemoryLeases
from events.store import Appended, Conflict, EventStore, Mismatch
from tests.contracts.stores import appended, head_of
from tests.event_fixtures import until
from tests.events.test_journal import content, full_at, put
from tests.factories import CAUSE, FRONTEND, event, events, new_stream, raw, write
from tests.failures import small_disk

WRITERS = 4
# Each writer tells an id only when its unit was acknowledged; killed by the test, at any moment.
LOAD = f"""
import asyncio, pathlib, sys
from events.jsonfile import JsonFileEventStore
from tests.factories import events, new_stream, write
async def produce(store):
    stream = new_stream()
    while True:
        unit = events(3)
        await store.append(write(stream, *unit))
        print(stream, *(one.event_id for one in unit), flush=True)
async def main():
    store = await JsonFileEventStore.open(pathlib.Path(sys.argv[1]))
    await asyncio.gather(*(produce(store) for _ in range({WRITERS})))
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[JsonFileEventStore]:
    store = await JsonFileEventStore.open(path)
    try:
        yield store
    finally:
        await store.close()


async def whole(store: EventStore) -> list[RecordedEvent]:
    return await store.read_log(limit=1_000_000)


def away_since(store: EventStore) -> datetime | None:
    assert store.status.available is (store.status.away_since is None)
    return store.status.away_since


async def test_log_that_is_opened_again_is_the_same(path: Path) -> None:
    """Every field, positions and times too: hashes, cursors and "as of" stand on them."""
    stream, odd = new_stream(), raw(payload=b'{"a":"\\u00e9\xc3\xa9\\n\0"}')
    async with opened(path) as store:
        first = await appended(store, write(stream, *events(3)), write("keys", event(actor=FRONTEND, cause=CAUSE), odd))
        await appended(store, write(stream, event()))
        log_id, before = store.log_id, await whole(store)
    async with opened(path) as store:
        assert (store.log_id, await whole(store)) == (log_id, before)
        assert await store.read_stream(stream) == [one for one in before if one.stream_id == stream]
        assert (await appended(store, write(stream, event(), expected=4))).position == first.position + 2
        assert (await whole(store))[-1].recorded_at >= before[-1].recorded_at


async def test_what_was_decided_before_a_restart_still_counts(path: Path) -> None:
    stream, unit = new_stream(), events(2)
    async with opened(path) as store:
        first = await appended(store, write(stream, *unit))
    async with opened(path) as store:
        assert await store.append(write(stream, *unit)) == msgspec.structs.replace(first, duplicate=True)
        assert isinstance(await store.append(write(stream, unit[0])), Mismatch)
        assert await store.append(write(stream, expected=NEW)) == Conflict(stream, 2)


async def test_only_what_was_appended_is_in_the_file(path: Path) -> None:
    stream, known = new_stream(), event()
    async with opened(path) as store:
        await appended(store, write(stream, known))
        before = content(path)
        await store.append(write(stream, known))
        await store.append(write(stream, expected=NEW))
        await store.append(write(stream), fence=Fence("job", 1))
        assert content(path) == before


async def test_leases_fence_the_log_beside_them(path: Path) -> None:
    async with opened(path) as store:
        leases = MemoryLeases(store)
        old = await leases.claim("job", "a")
        await leases.release("job", "a")
        new = await leases.claim("job", "b")
        assert old is not None and new is not None
        assert not isinstance(await store.append(write("keys"), fence=Fence("job", old)), Appended)
        assert isinstance(await store.append(write("keys"), fence=Fence("job", new)), Appended)


async def test_second_process_is_told_who_has_the_log(path: Path) -> None:
    process = await _start(path)
    try:
        await _told(process, 1)
        with pytest.raises(JournalLocked, match=f"process {process.pid} on"):
            await JsonFileEventStore.open(path)
    finally:
        process.kill()
        await process.communicate()


async def test_kill_9_under_load_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """Three times on one log: all that a writer was told of is there once, in the order in which it was told."""
    told: dict[str, list[UUID]] = {}
    for _ in range(3):
        process = await _start(path)
        try:
            lines = await _told(process, 150)
        finally:
            process.kill()
            rest, _ = await process.communicate()
        lines += [line for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
        for line in lines:
            stream, *names = line.decode().split()
            told.setdefault(stream, []).extend(map(UUID, names))
    async with opened(path) as store:
        log = await whole(store)
    assert [one.position for one in log] == list(range(1, len(log) + 1))
    assert len({one.event_id for one in log}) == len(log)
    for stream, ids in told.items():
        there = [one.event_id for one in log if one.stream_id == stream]
        assert there[: len(ids)] == ids and len(there) - len(ids) in (0, 3)  # the unit whose answer was killed
    acknowledged = sum(map(len, told.values()))
    print(f"jsonfile: {acknowledged} events acknowledged before 3 kills, {len(log)} in the log, 0 lost, 0 twice")
    assert len(told) == 3 * WRITERS


async def test_torn_end_is_cut_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stream, second = new_stream(), event()
    async with opened(path) as store:
        await appended(store, write(stream))
        await appended(store, write(stream, second))
    put(path, content(path)[:-5])
    with caplog.at_level(logging.WARNING):
        async with opened(path) as store:
            assert await head_of(store) == 1
            assert (await appended(store, write(stream, second))).position == 2
    assert "cut a torn end" in caplog.text


async def test_disk_that_is_full_refuses_and_the_log_stays_as_it_was(path: Path) -> None:
    """The same unit, told again when there is room, is appended: it was neither kept nor half kept."""
    stream, unit = new_stream(), events(5)
    async with opened(path) as store:
        await appended(store, write(stream))
        with full_at(len(content(path)) + 300):
            with pytest.raises(StoreUnavailable, match="cannot grow"):
                await store.append(write(stream, *unit))
            assert away_since(store) is not None
            assert await head_of(store) == 1 and len(await store.read_stream(stream)) == 1
        assert (await appended(store, write(stream, *unit, expected=1))).position == 6
        assert away_since(store) is None
        before = await whole(store)
    async with opened(path) as store:
        assert await whole(store) == before


async def test_start_on_a_full_disk_says_so_and_can_be_repeated() -> None:
    """The first try must not keep the lock: the second would blame a process that is not there."""
    with small_disk.mounted(1) as disk:
        disk.fill()
        for _ in range(2):
            with pytest.raises(JournalFull):
                await JsonFileEventStore.open(disk.path / "events.jsonl")
        disk.free()
        await (await JsonFileEventStore.open(disk.path / "events.jsonl")).close()


async def test_disk_that_became_read_only_is_a_log_that_is_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux remounts a failing disk so; the kernel refuses the write of an open file too then."""
    store = await JsonFileEventStore.open(path)

    def read_only(*_: object) -> int:
        raise OSError(EROFS, os.strerror(EROFS))

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", read_only)
        with pytest.raises(StoreUnavailable, match="Read-only"):
            await store.append(write(new_stream()))
    assert store.status.away_since is not None
    await store.append(write(new_stream()))
    assert store.status.available
    await store.close()


async def test_nobody_sees_what_is_not_yet_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a reader could act on an event that a power cut takes back."""
    entered, goes_on, really = asyncio.Event(), asyncio.Event(), Journal.write

    async def slow(journal: Journal, entries: Sequence[object]) -> int:
        entered.set()
        await goes_on.wait()
        return await really(journal, entries)

    monkeypatch.setattr(Journal, "write", slow)
    async with opened(path) as store:
        stream, one = new_stream(), event()
        writing = asyncio.create_task(store.append(write(stream, one)))
        await entered.wait()
        assert (await head_of(store), await store.find(one.event_id)) == (0, None)
        assert await store.read_stream(stream) == await store.read_log() == []
        goes_on.set()
        assert isinstance(await writing, Appended)
        assert await head_of(store) == 1


async def test_units_that_come_together_share_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fdatasync is most of what a unit costs."""
    batches, really = list[int](), Journal.write

    async def counted(journal: Journal, entries: Sequence[object]) -> int:
        batches.append(len(entries))
        return await really(journal, entries)

    monkeypatch.setattr(Journal, "write", counted)
    async with opened(path) as store:
        await asyncio.gather(*(store.append(write(new_stream())) for _ in range(100)))
    assert sum(batches) == 100 and len(batches) <= 2


async def test_close_writes_what_waits(path: Path) -> None:
    async with opened(path) as store:
        writing = [asyncio.create_task(store.append(write(new_stream()))) for _ in range(300)]
        await until(lambda: _any_done(writing))
        await store.close()
        assert all(isinstance(one, Appended) for one in await asyncio.gather(*writing))
    async with opened(path) as store:
        assert await head_of(store) == 300


@pytest.mark.parametrize(
    "extra",
    [{}, {"position": 2, "recorded_at": "2026-01-01T00:00:00.000000Z"}, {"position": 1, "recorded_at": "yesterday"}],
)
async def test_unit_without_its_place_is_damage(path: Path, extra: dict[str, int | str]) -> None:
    async with opened(path) as store:
        log_id = store.log_id
    made = await Journal.open(path, header={})
    await made.journal.write([encode_unit([write("keys")], extra)])
    await made.journal.close()
    with pytest.raises(JournalDamaged, match="line 2"):
        await JsonFileEventStore.open(path)
    assert str(log_id).encode() in content(path)


async def test_journal_of_something_else_is_refused(path: Path) -> None:
    made = await Journal.open(path, header={"holds": "spool"})
    await made.journal.close()
    with pytest.raises(JournalDamaged, match="not of a log"):
        await JsonFileEventStore.open(path)


async def _start(path: Path) -> asyncio.subprocess.Process:
    command = (sys.executable, "-c", LOAD, str(path))
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


async def _told(process: asyncio.subprocess.Process, count: int) -> list[bytes]:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return [await process.stdout.readline() for _ in range(count)]


async def _any_done(tasks: Sequence[asyncio.Task[object]]) -> bool:
    return any(task.done() for task in tasks)
