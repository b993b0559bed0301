"""What the log refused: kept once, readable, in whatever file can be used; held while the disk takes nothing."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from events.journal import Journal
from events.journal_lines import decode_unit, encode_header, encode_line
from events.rejected import REJECTED, Rejected
from events.spool import SUFFIX, Unit
from tests.factories import events, new_stream, write
from tests.failures import small_disk

LOG = UUID(int=7)


@pytest_asyncio.fixture
async def refused(tmp_path: Path) -> AsyncIterator[Rejected]:
    made = Rejected(tmp_path / f"gw-1{SUFFIX}", LOG)
    yield made
    await made.close()


def unit(*sizes: int) -> Unit:
    return tuple(write(new_stream(), *events(size)) for size in sizes or (1,))


async def kept(path: Path) -> list[tuple[Unit, object]]:
    opened = await Journal.open(path, header={"log_id": str(uuid4())})
    assert opened.journal.header == {"log_id": str(LOG)}
    await opened.journal.close()
    return [(one, extra["reason"]) for one, extra in (decode_unit(line.entry) for line in opened.lines)]


async def test_what_is_put_aside_can_be_read_with_its_reason(
    refused: Rejected, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    units = [unit(), unit(1, 1)]
    for one in units:
        await refused.put(one, f"reason of {one[0].stream_id}")
    assert await refused.settle() and refused.count == 2
    await refused.close()
    assert await kept(tmp_path / f"gw-1{REJECTED}") == [(one, f"reason of {one[0].stream_id}") for one in units]
    assert all(one[0].stream_id in caplog.text for one in units)


async def test_a_replay_that_begins_anew_keeps_nothing_twice(refused: Rejected, tmp_path: Path) -> None:
    """In the same process, and in the next one."""
    one = unit()
    for _ in range(2):
        await refused.put(one, "poison")
    await refused.close()
    await refused.put(one, "poison")
    await refused.close()
    next_one = Rejected(tmp_path / f"gw-1{SUFFIX}", LOG)
    await next_one.put(one, "poison")
    await next_one.close()
    assert (refused.count, next_one.count) == (1, 0)
    assert await kept(tmp_path / f"gw-1{REJECTED}") == [(one, "poison")]


DAMAGED = b'{"seq":0,"entry":{"log_id":"x"}} \n'
OF_A_LATER_RELEASE = encode_header({"log_id": str(LOG)}) + encode_line(1, {"writes": "in another way"})


@pytest.mark.parametrize("there", [DAMAGED, OF_A_LATER_RELEASE, None])
async def test_a_file_that_cannot_be_used_is_left_for_a_fresh_one(
    refused: Rejected, tmp_path: Path, there: bytes | None
) -> None:
    """A damaged file of an earlier outage kept a healthy log away, for ever. None: a directory has the name."""
    first = tmp_path / f"gw-1{REJECTED}"
    first.mkdir() if there is None else first.write_bytes(there)
    await refused.put(one := unit(), "poison")
    assert await refused.settle()
    await refused.close()
    assert first.is_dir() if there is None else first.read_bytes() == there
    assert await kept(tmp_path / f"gw-1.2{REJECTED}") == [(one, "poison")]


async def test_a_unit_is_held_while_the_disk_is_full(caplog: pytest.LogCaptureFixture) -> None:
    """It raises nothing, and says so once: a full disk here says nothing of the log."""
    with small_disk.mounted(1) as disk:
        refused = Rejected(disk.path / f"gw-1{SUFFIX}", LOG)
        disk.fill()
        for _ in range(3):
            await refused.put(one := unit(), "poison")
        assert not await refused.settle() and refused.count == 3
        assert len([record for record in caplog.records if "cannot be put aside" in record.getMessage()]) == 1
        disk.free()
        assert await refused.settle() and refused.count == 3
        await refused.close()
        found = await kept(disk.path / f"gw-1{REJECTED}")
        assert len(found) == 3 and found[-1] == (one, "poison")


async def test_many_refused_units_are_kept_in_one_go(refused: Rejected, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each used to read the whole file again, with the gate shut: 1,500 took 20 seconds."""
    opened = 0
    really = Journal.open

    async def counted(path: Path, *, header: dict[str, str]) -> object:
        nonlocal opened
        opened += 1
        return await really(path, header=header)

    monkeypatch.setattr(Journal, "open", counted)
    for _ in range(500):
        await refused.put(unit(), "poison")
    assert opened == 1 and refused.count == 500
