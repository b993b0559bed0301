"""The journal on a real disk: torn ends, damage, a disk that is full, callers that leave, another process."""

import asyncio
import os
import resource
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EIO
from pathlib import Path

import pytest

from events.errors import JournalDamaged, JournalFull, JournalLocked, StoreClosed
from events.journal import Journal, Opened
from tests.failures import small_disk

HEADER = {"log_id": "a"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.jsonl"


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """The kernel lets no file of this process grow beyond ``size``: a write ends in its middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def entries(opened: Opened) -> list[bytes]:
    assert [line.seq for line in opened.lines] == list(range(1, len(opened.lines) + 1))
    return [bytes(line.entry) for line in opened.lines]


async def made(path: Path, *batches: Sequence[object]) -> bytes:
    """A journal with these batches, closed; its bytes."""
    opened = await Journal.open(path, header=HEADER)
    for batch in batches:
        await opened.journal.write(batch)
    assert opened.journal.size == len(content(path))
    await opened.journal.close()
    return content(path)


async def found(path: Path) -> tuple[list[bytes], int]:
    """The entries that stand in a file, and how many torn bytes were cut."""
    opened = await Journal.open(path, header=HEADER)
    await opened.journal.close()
    return entries(opened), opened.torn_bytes


async def test_lines_stand_in_the_order_of_their_calls(path: Path) -> None:
    opened = await Journal.open(path, header=HEADER)
    firsts = await asyncio.gather(*(opened.journal.write([nth, nth]) for nth in range(20)))
    assert firsts == [1 + 2 * nth for nth in range(20)] and opened.journal.last_seq == 40
    await opened.journal.close()
    assert await found(path) == ([b"%d" % nth for nth in range(20) for _ in range(2)], 0)


async def test_new_file_is_private_and_keeps_its_header(path: Path) -> None:
    """It holds what the log holds."""
    await made(path)
    assert mode(path) == 0o600
    again = await Journal.open(path, header={"log_id": "b"})
    assert again.journal.header == HEADER and again.lines == []
    await again.journal.close()


async def test_end_that_was_torn_anywhere_is_cut(path: Path) -> None:
    """Each place where a process can die in mid-write; what it had been told of before is all there."""
    whole = await made(path, ["one", "two"], ["three"])
    before = whole[: whole.rindex(b"\n", 0, -1) + 1]
    for length in range(len(before), len(whole)):
        put(path, whole[:length])
        assert await found(path) == ([b'"one"', b'"two"'], length - len(before))
        assert content(path) == before


async def test_after_a_torn_end_numbers_run_on(path: Path) -> None:
    whole = await made(path, ["one"], ["two"])
    put(path, whole[:-9])
    await made(path, ["three"])
    assert await found(path) == ([b'"one"', b'"three"'], 0)


async def test_blocks_that_never_reached_the_disk_are_a_torn_end(path: Path) -> None:
    """A file system may have kept the length of a file whose last bytes it had not written."""
    put(path, await made(path, ["one"]) + bytes(700))
    assert await found(path) == ([b'"one"'], 700)


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_damaged_line_is_refused_by_its_number(path: Path, nth: int) -> None:
    """Whoever was told that it is durable must hear of it: nothing is dropped without a person. The last line too."""
    lines = (await made(path, ["one", "two", "three"])).splitlines(keepends=True)
    lines[nth - 1] = lines[nth - 1].replace(b'"seq"', b'"sew"')
    put(path, b"".join(lines))
    before = content(path)
    with pytest.raises(JournalDamaged, match=f"line {nth}:"):
        await Journal.open(path, header=HEADER)
    assert content(path) == before


async def test_last_line_feed_that_became_something_else_is_damage(path: Path) -> None:
    """Not torn, which would be cut: the line before it is whole. A zero can be a block that was never written."""
    whole = await made(path, ["one", "two"])
    put(path, whole[:-1] + b"\x0b")
    with pytest.raises(JournalDamaged, match="line 3:"):
        await Journal.open(path, header=HEADER)
    put(path, whole[:-1] + b"\0")
    assert (await found(path))[0] == [b'"one"']


@pytest.mark.parametrize("order", [[0, 2, 3], [0, 2, 1, 3], [0, 1, 1, 2, 3], [1, 2, 3]])
async def test_lines_that_are_good_but_not_where_they_were_are_refused(path: Path, order: list[int]) -> None:
    lines = (await made(path, ["one", "two", "three"])).splitlines(keepends=True)
    put(path, b"".join(lines[nth] for nth in order))
    with pytest.raises(JournalDamaged, match="line"):
        await Journal.open(path, header=HEADER)


async def test_file_whose_maker_died_is_made_anew(path: Path) -> None:
    header = await made(path)
    for length in (0, 1, len(header) - 1):
        put(path, header[:length])
        assert await found(path) == ([], 0)
        assert content(path) == header


async def test_somebodys_document_is_left_alone(path: Path) -> None:
    put(path, b"Dear Ada")
    with pytest.raises(JournalDamaged, match="no journal"):
        await Journal.open(path, header=HEADER)
    assert content(path) == b"Dear Ada"


async def test_file_is_free_again_after_a_refused_opening(path: Path) -> None:
    put(path, b"Dear Ada")
    for _ in range(2):
        with pytest.raises(JournalDamaged):
            await Journal.open(path, header=HEADER)


async def test_one_holder_at_a_time(path: Path) -> None:
    opened = await Journal.open(path, header=HEADER)
    with pytest.raises(JournalLocked, match=f"process {os.getpid()}"):
        await Journal.open(path, header=HEADER)
    await opened.journal.close()
    await made(path)


async def test_batch_that_does_not_fit_leaves_the_file_as_it_was(path: Path) -> None:
    opened = await Journal.open(path, header=HEADER)
    await opened.journal.write(["one"])
    before = content(path)
    with full_at(len(before) + 150), pytest.raises(JournalFull, match="cannot grow"):
        await opened.journal.write(["two", "x" * 100])
    assert content(path) == before and opened.journal.size == len(before)
    assert await opened.journal.write(["three"]) == 2
    await opened.journal.close()
    assert await found(path) == ([b'"one"', b'"three"'], 0)


async def test_batch_that_the_disk_did_not_confirm_is_no_part_of_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when it cannot be cut off at once: who is told hears that it may be there; the next batch is written over
    it once the file could be cut and read again."""
    opened = await Journal.open(path, header=HEADER)
    await opened.journal.write(["one"])

    def fail(*of: object) -> None:
        raise OSError(EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        broken.setattr(os, "ftruncate", fail)
        with pytest.raises(JournalFull, match="it may be there"):
            await opened.journal.write(["x" * 500])
        with pytest.raises(JournalFull, match="takes nothing"):
            await opened.journal.write(["y"])
    assert len(content(path)) > opened.journal.size
    await opened.journal.write(["two"])
    await opened.journal.close()
    assert await found(path) == ([b'"one"', b'"two"'], 0)


async def test_file_that_is_not_whole_after_its_disk_failed_takes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write behind lines that are gone would be acknowledged, and refused at the next start."""
    opened = await Journal.open(path, header=HEADER)
    await opened.journal.write(["one"])
    whole = content(path)

    def fail(*of: object) -> None:
        raise OSError(EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        broken.setattr(os, "ftruncate", fail)
        with pytest.raises(JournalFull):
            await opened.journal.write(["two"])
    put(path, whole.replace(b"one", b"0ne"))
    for _ in range(2):
        with pytest.raises(JournalFull, match="damaged at line 2"):
            await opened.journal.write(["three"])
    put(path, whole)
    assert await opened.journal.write(["three"]) == 2
    await opened.journal.close()
    assert await found(path) == ([b'"one"', b'"three"'], 0)


async def test_read_only_disk_is_a_log_that_is_away() -> None:
    """Linux remounts a failing disk so: callers retry, as for a full one, and a start says what it is."""
    with small_disk.mounted(1) as disk:
        path = disk.path / "log.jsonl"
        opened = await Journal.open(path, header=HEADER)
        await opened.journal.close()
        path.with_name("log.jsonl.lock").touch()
        disk.write_protect()
        with pytest.raises(JournalFull, match="Read-only"):
            await Journal.open(path, header=HEADER)


async def test_journal_whose_every_byte_was_lost_is_not_made_anew(path: Path) -> None:
    whole = await made(path, ["one", "two"])
    for lost in (bytes(len(whole)), whole.replace(b"\n", b" ")):
        put(path, lost)
        with pytest.raises(JournalDamaged, match="no journal"):
            await Journal.open(path, header=HEADER)
        assert content(path) == lost


async def test_journal_that_cannot_be_removed_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kept its name and its lock: closed, it would shut its own process out."""
    opened = await Journal.open(path, header=HEADER)

    def fail(*_: object, **__: object) -> None:
        raise OSError(EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", fail)
        with pytest.raises(OSError, match="Input/output"):
            await opened.journal.remove()
    assert not opened.journal.closed and await opened.journal.write(["one"]) == 1
    await opened.journal.remove()
    assert list(path.parent.iterdir()) == []


async def test_removal_that_may_not_last_closes_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be written into a file without a name is lost."""
    opened = await Journal.open(path, header=HEADER)

    def fail(*_: object) -> None:
        raise OSError(EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            await opened.journal.remove()
    assert opened.journal.closed
    await made(path)


async def test_disk_that_stands_still_does_not_stop_the_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await Journal.open(path, header=HEADER)
    goes_on, entered, really = threading.Event(), threading.Event(), os.fdatasync

    def slow(handle: int) -> None:
        entered.set()
        assert goes_on.wait(20)
        really(handle)

    monkeypatch.setattr(os, "fdatasync", slow)
    writing = asyncio.create_task(opened.journal.write(["one"]))
    await asyncio.to_thread(entered.wait, 20)
    assert not writing.done()  # and yet we are here
    goes_on.set()
    assert await writing == 1
    await opened.journal.close()


async def test_caller_that_leaves_parts_no_batch(path: Path) -> None:
    """Some are under way when their caller is cancelled and some have not begun: each is whole or absent."""
    opened = await Journal.open(path, header=HEADER)
    writing = [asyncio.create_task(opened.journal.write([nth, nth])) for nth in range(30)]
    await asyncio.wait(writing[:3], return_when=asyncio.FIRST_COMPLETED)
    for task in writing[::2]:
        task.cancel()
    ended = await asyncio.gather(*writing, return_exceptions=True)
    await opened.journal.write(["last"])
    await opened.journal.close()
    there, torn = await found(path)
    assert torn == 0 and there[:-1:2] == there[1:-1:2] and there[-1] == b'"last"'
    assert {b"%d" % nth for nth, first in enumerate(ended) if isinstance(first, int)} <= set(there)


async def test_fresh_start_drops_every_line(path: Path) -> None:
    opened = await Journal.open(path, header=HEADER)
    await opened.journal.write(["one", "two"])
    await opened.journal.start_afresh()
    assert opened.journal.last_seq == 0
    assert await opened.journal.write(["three"]) == 1
    await opened.journal.start_afresh({"log_id": "b"})
    await opened.journal.write(["four"])
    await opened.journal.close()
    assert await found(path) == ([b'"four"'], 0)
    assert b'"log_id":"b"' in content(path)


async def test_fresh_start_that_failed_is_caught_up_by_the_next_write(path: Path) -> None:
    """Else lines would stand in a file without a header, which nobody could read again."""
    opened = await Journal.open(path, header=HEADER)
    await opened.journal.write(["one"])
    with full_at(20), pytest.raises(JournalFull):
        await opened.journal.start_afresh()
    await opened.journal.write(["two"])
    await opened.journal.close()
    assert await found(path) == ([b'"two"'], 0)


async def test_removed_journal_leaves_nothing(path: Path) -> None:
    opened = await Journal.open(path, header=HEADER)
    await opened.journal.write(["one"])
    await opened.journal.remove()
    assert list(path.parent.iterdir()) == []


async def test_closed_journal_says_so(path: Path) -> None:
    opened = await Journal.open(path, header=HEADER)
    await asyncio.gather(opened.journal.close(), opened.journal.close())
    with pytest.raises(StoreClosed):
        await opened.journal.write(["one"])
    with pytest.raises(StoreClosed):
        await opened.journal.start_afresh()
