"""What dead processes left: replayed by a living one, or kept with a sentence; a living process is left alone."""

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from errno import EACCES
from pathlib import Path
from uuid import uuid4

import pytest

from events.errors import StoreUnavailable
from events.journal_lines import encode_header, encode_line, encode_unit
from events.memory import MemoryEventStore
from events.rejected import REJECTED
from events.spool import SUFFIX, Spool, Unit
from events.takeover import DAMAGED, Takeover
from tests.events.wavering import WaveringStore
from tests.factories import event, events, new_stream, write
from tests.failures import small_disk


@pytest.fixture
def log() -> WaveringStore:
    return WaveringStore()


@pytest.fixture
def takeover(tmp_path: Path, log: WaveringStore) -> Takeover:
    return Takeover(tmp_path, log)


def units_of(count: int) -> list[Unit]:
    return [(write(new_stream(), *events(nth % 3 + 1)),) for nth in range(count)]


def ids(units: Sequence[Unit]) -> list[object]:
    return [one.event_id for unit in units for each in unit for one in each.events]


async def in_log(log: MemoryEventStore) -> list[object]:
    return [one.event_id for one in await log.read_log(limit=100_000)]


def left(directory: Path, log: MemoryEventStore, units: Sequence[Unit], name: str = "gw-dead") -> Path:
    """The file of a process that ended, as lines."""
    path = directory / f"{name}{SUFFIX}"
    lines = [encode_line(seq, encode_unit(unit)) for seq, unit in enumerate(units, start=1)]
    path.write_bytes(encode_header({"log_id": str(log.log_id)}) + b"".join(lines))
    return path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_file_of_a_dead_process_is_replayed_in_order_and_removed(
    takeover: Takeover, log: WaveringStore, tmp_path: Path
) -> None:
    units = units_of(300)
    left(tmp_path, log, units)
    assert await takeover.run_once() == 0
    assert await in_log(log) == ids(units)
    assert names(tmp_path) == []


async def test_nothing_left_is_nothing_done(log: WaveringStore, tmp_path: Path) -> None:
    assert await Takeover(tmp_path / "missing", log).run_once() == 0
    assert names(tmp_path) == []


async def test_a_file_of_a_living_process_is_left_alone(takeover: Takeover, log: WaveringStore, tmp_path: Path) -> None:
    """Its lock says that it lives; it replays by itself, in its own order."""
    spool = Spool(tmp_path, "gw-alive", log.log_id, 2**20)
    [unit] = units_of(1)
    await spool.append(unit)
    await takeover.run_once()
    assert await in_log(log) == []
    await spool.close()
    await takeover.run_once()
    assert await in_log(log) == ids([unit])


async def test_a_log_that_goes_away_leaves_the_file_for_the_next_look(
    takeover: Takeover, log: WaveringStore, tmp_path: Path
) -> None:
    units = units_of(200)
    path = left(tmp_path, log, units)
    for _ in range(3):
        log.lost_answers = 1
        with pytest.raises(StoreUnavailable):
            await takeover.run_once()
        assert path.exists()
    await takeover.run_once()
    assert await in_log(log) == ids(units) and not path.exists()


async def test_a_torn_last_line_is_cut(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process died while it wrote: nobody was told that this unit was durable."""
    units = units_of(5)
    path = left(tmp_path, log, units)
    whole = path.read_bytes()
    for cut in (1, 40, 200):
        path.write_bytes(whole[:-cut])
        await takeover.run_once()
        assert await in_log(log) == ids(units[:4])
        assert names(tmp_path) == []
        assert f"cut a torn end of {len(whole.splitlines()[-1]) + 1 - cut} bytes" in caplog.text
    assert errors(caplog) == []


async def test_a_last_line_that_lost_but_its_line_feed_is_replayed(
    takeover: Takeover, log: WaveringStore, tmp_path: Path
) -> None:
    """A write that is torn leaves no other byte there: somebody was told of this unit, and it is whole."""
    units = units_of(5)
    path = left(tmp_path, log, units)
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    await takeover.run_once()
    assert await in_log(log) == ids(units) and names(tmp_path) == []


@pytest.mark.parametrize("torn", [b"", b'{"seq":0,"entry":{"log'])
async def test_a_file_whose_maker_died_at_once_is_removed(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, torn: bytes
) -> None:
    (tmp_path / f"gw-dead{SUFFIX}").write_bytes(torn)
    await takeover.run_once()
    assert names(tmp_path) == []


def damaged(lines: list[bytes]) -> list[bytes]:
    middle = bytearray(lines[3])
    middle[len(middle) // 2] ^= 1
    return [*lines[:3], bytes(middle), *lines[4:]]


def missing(lines: list[bytes]) -> list[bytes]:
    return lines[:3] + lines[4:]


def torn_in_the_middle(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], b"\0" * 100 + b"\n", *lines[4:]]


@pytest.mark.parametrize("damage", [damaged, missing, torn_in_the_middle])
async def test_what_can_be_read_of_a_damaged_file_is_replayed_and_the_file_kept(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    """Nothing is lost silently: the file is named in the log, with the lines that a person has to look at."""
    units = units_of(6)
    path = left(tmp_path, log, units)
    broken = b"".join(damage(path.read_bytes().splitlines(keepends=True)))  # type: ignore[operator]  # one of above
    path.write_bytes(broken)
    await takeover.run_once()
    assert await in_log(log) == ids([*units[:2], *units[3:]])
    kept = tmp_path / f"gw-dead{DAMAGED}"
    assert [kept.name] == names(tmp_path) and kept.read_bytes() == broken
    [said] = errors(caplog)
    assert str(kept) in said and "line" in said and "4" in said
    await takeover.run_once()
    assert len(errors(caplog)) == 1


def zeros(whole: bytes) -> bytes:
    return bytes(len(whole))


def without_line_feeds(whole: bytes) -> bytes:
    return whole.replace(b"\n", b" ")


def garbage(whole: bytes) -> bytes:
    return os.urandom(len(whole)).replace(b"\n", b"x")


@pytest.mark.parametrize("lost", [zeros, without_line_feeds, garbage])
async def test_a_file_that_lost_every_line_is_kept(
    takeover: Takeover, tmp_path: Path, log: WaveringStore, caplog: pytest.LogCaptureFixture, lost: object
) -> None:
    """Its units were acknowledged: only what can be a torn header, which nobody was told behind, may go unseen."""
    path = left(tmp_path, log, units_of(1))
    broken = lost(path.read_bytes())  # type: ignore[operator]  # one of above
    path.write_bytes(broken)
    await takeover.run_once()
    kept = tmp_path / f"gw-dead{DAMAGED}"
    assert names(tmp_path) == [kept.name] and kept.read_bytes() == broken
    assert str(kept) in errors(caplog)[0] and "nobody was told" not in caplog.text


async def test_what_is_kept_is_never_written_over(takeover: Takeover, log: WaveringStore, tmp_path: Path) -> None:
    """Nor what a person copied to that name."""
    for nth in ("", ".2"):
        (tmp_path / f"gw-dead{nth}{DAMAGED}").write_text("kept for a person")
    left(tmp_path, log, []).write_bytes(bytes(5000))
    await takeover.run_once()
    assert (tmp_path / f"gw-dead{DAMAGED}").read_text() == "kept for a person"
    assert (tmp_path / f"gw-dead.2{DAMAGED}").read_text() == "kept for a person"
    assert (tmp_path / f"gw-dead.3{DAMAGED}").read_bytes() == bytes(5000)


async def test_a_file_that_cannot_be_opened_holds_up_no_other(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory, and a link that is not followed as another user's file is not. Each told once."""
    (tmp_path / f"gw-a{SUFFIX}").mkdir()
    (tmp_path / f"gw-b{SUFFIX}.lock").symlink_to(tmp_path / "elsewhere")
    left(tmp_path, log, units_of(1), name="gw-b")
    left(tmp_path, log, units := units_of(3), name="gw-c")
    for _ in range(2):
        assert await takeover.run_once() == 0
    assert await in_log(log) == ids(units)
    said = errors(caplog)
    assert len(said) == 2 and f"gw-a{SUFFIX}" in said[0] and f"gw-b{SUFFIX}" in said[1]


async def test_a_full_disk_is_no_obstacle(log: WaveringStore) -> None:
    """The lock's text has no room: the file was locked, and never taken over again."""
    with small_disk.mounted(1) as disk:
        left(disk.path, log, units := units_of(2))
        disk.fill()
        await Takeover(disk.path, log).run_once()
        assert await in_log(log) == ids(units) and names(disk.path) == ["ballast"]


async def test_a_refused_unit_that_cannot_be_put_aside_stays_in_its_file(log: WaveringStore) -> None:
    """It was acknowledged. What stands behind it is brought in, once: looks while the disk is full ask no log."""
    units = units_of(3)
    log.poison = {units[0][0].stream_id}
    with small_disk.mounted(1) as disk:
        path, takeover = left(disk.path, log, units), Takeover(disk.path, log)
        disk.fill()
        assert await takeover.run_once() == 1
        assert path.exists() and await in_log(log) == ids(units[1:])
        asked = log.appends
        assert await takeover.run_once() == 0 and path.exists() and log.appends == asked
        disk.free()
        assert await takeover.run_once() == 0
        assert [one for one in names(disk.path) if not one.endswith(".lock")] == [f"gw-dead{REJECTED}"]
        assert takeover.rejected == 1 and log.appends == asked


async def test_a_file_that_cannot_be_removed_is_brought_in_once(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """But what was written into a file of its name since then is another matter."""
    path = left(tmp_path, log, units_of(2))
    left(tmp_path, log, more := units_of(2), name="gw-other")
    unlink = Path.unlink

    def fail(one: Path, missing_ok: bool = False) -> None:
        if one == path:
            raise PermissionError(EACCES, "says the test")
        unlink(one, missing_ok)

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Path, "unlink", fail)
        await takeover.run_once()
        asked = log.appends
        await takeover.run_once()
        assert log.appends == asked == 4 and path.exists()
        [said] = errors(caplog)
        assert str(path) in said and "cannot be removed" in said
        assert (await in_log(log))[3:] == ids(more)
        left(tmp_path, log, newer := units_of(3))
        await takeover.run_once()
        assert (await in_log(log))[6:] == ids(newer)
    await takeover.run_once()
    assert names(tmp_path) == []


async def test_a_unit_that_cannot_be_read_though_its_line_can_is_damage(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A later release may have written it: that one can read the file which is kept."""
    units = units_of(2)
    path = left(tmp_path, log, units)
    with path.open("ab") as file:
        file.write(encode_line(3, {"writes": "in another way"}))
    await takeover.run_once()
    assert await in_log(log) == ids(units)
    assert (tmp_path / f"gw-dead{DAMAGED}").exists() and len(errors(caplog)) == 1


async def test_a_spool_of_another_log_is_not_replayed(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another database's facts would be untrue here; they stay for a process of that one. Said once, not each look."""
    path = left(tmp_path, MemoryEventStore(log_id=uuid4()), units_of(2))
    before = path.read_bytes()
    for _ in range(3):
        await takeover.run_once()
    assert await in_log(log) == [] and path.read_bytes() == before
    [said] = errors(caplog)
    assert str(path) in said and str(log.log_id) in said


@pytest.mark.parametrize("first", [b"no header\n", encode_line(0, {"format": "99"}), encode_line(1, {"log_id": "x"})])
async def test_a_spool_that_does_not_say_whose_it_is_stays(
    takeover: Takeover, log: WaveringStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, first: bytes
) -> None:
    path = left(tmp_path, log, units_of(2))
    path.write_bytes(first + path.read_bytes().partition(b"\n")[2])
    await takeover.run_once()
    assert await in_log(log) == [] and path.exists() and len(errors(caplog)) == 1


async def test_a_unit_that_the_log_refuses_is_kept_beside(
    takeover: Takeover, log: WaveringStore, tmp_path: Path
) -> None:
    known = event()
    await log.append(write(new_stream(), known))
    good = units_of(1)
    left(tmp_path, log, [(write(new_stream(), known, event()),), *good])
    assert await takeover.run_once() == 1
    assert (await in_log(log))[1:] == ids(good)
    assert [name for name in names(tmp_path) if not name.endswith(".lock")] == [f"gw-dead{REJECTED}"]


async def test_two_living_processes_share_the_dead_ones(log: WaveringStore, tmp_path: Path) -> None:
    """Each file by whoever locks it; nothing twice."""
    units = units_of(60)
    for nth in range(20):
        left(tmp_path, log, units[nth * 3 : nth * 3 + 3], name=f"gw-{nth}")
    await asyncio.gather(*(Takeover(tmp_path, log).run_once() for _ in range(3)))
    assert sorted(map(str, await in_log(log))) == sorted(map(str, ids(units)))
    assert names(tmp_path) == []


async def test_a_killed_process_loses_nothing_that_it_was_told(log: WaveringStore, tmp_path: Path) -> None:
    """kill -9 in the middle of spooling: what the child had been told is there, once and in order."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.events.spooling_child", str(tmp_path), str(log.log_id), stdout=PIPE
    )
    assert child.stdout is not None
    takeover = Takeover(tmp_path, log)
    async with asyncio.timeout(60):
        told = [(await child.stdout.readline()).decode().strip() for _ in range(400)]
        await takeover.run_once()
        assert await in_log(log) == []  # it lives
        child.send_signal(signal.SIGKILL)
        printed = (await child.stdout.read()).decode()
        await child.wait()
    told += printed[: printed.rfind("\n") + 1].split()
    await takeover.run_once()
    found = [str(one) for one in await in_log(log)]
    assert found[: len(told)] == told and len(set(found)) == len(found)
    assert names(tmp_path) == []
