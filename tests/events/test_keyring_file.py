"""The keyring in a file: durable before use, wrapped, and rid of what was erased. The rest is in the contract."""

import asyncio
import os
import stat
import threading
from pathlib import Path

import pytest

from events.errors import JournalDamaged, StoreUnavailable, UnreadableEvent
from events.keyring_file import FILE, FileKeyring
from tests.events.test_journal import content, full_at, mode, put

SECRET = b"s" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


def beside(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


async def test_key_is_durable_before_it_is_used(path: Path) -> None:
    key = await (await FileKeyring.open(path, SECRET)).key_for("ada")
    assert await (await FileKeyring.open(path, SECRET)).key_for("ada") == key
    assert mode(path) == stat.S_IRUSR | stat.S_IWUSR


async def test_many_new_subjects_at_once_are_all_kept(path: Path) -> None:
    ring = await FileKeyring.open(path, SECRET)
    keys = await asyncio.gather(*(ring.key_for(f"s{nth % 10}") for nth in range(40)))
    again = await FileKeyring.open(path, SECRET)
    assert await again.keys(key.id for key in keys) == {key.id: key for key in keys}
    assert len({key.id for key in keys}) == 10


async def test_file_shows_neither_names_nor_keys(path: Path) -> None:
    """A copy of the directory alone opens nothing and names nobody."""
    key = await (await FileKeyring.open(path, SECRET)).key_for("Ada")
    stored = content(path)
    assert key.id.encode() in stored and b"Ada" not in stored
    assert key.secret not in stored and key.secret.hex().encode() not in stored


async def test_erased_key_is_in_no_file_any_more(path: Path) -> None:
    ring = await FileKeyring.open(path, SECRET)
    key, other = await ring.key_for("ada"), await ring.key_for("ben")
    put(path.with_name(path.name + ".new"), content(path))  # what a process killed in mid-change leaves
    ring = await FileKeyring.open(path, SECRET)
    assert await ring.erase("ada") == (key.id,)
    assert beside(path) == [FILE]
    assert key.id.encode() not in content(path)
    assert await (await FileKeyring.open(path, SECRET)).keys([key.id, other.id]) == {other.id: other}


async def test_key_that_came_back_with_a_copy_goes_when_the_log_says_so(path: Path) -> None:
    """The log tells of every erasure: a file from before one does not bring the person back."""
    ring = await FileKeyring.open(path, SECRET)
    key = await ring.key_for("ada")
    before = content(path)
    await ring.erase("ada")
    put(path, before)
    ring = await FileKeyring.open(path, SECRET)
    ring.forget([key.id])
    assert await ring.keys([key.id]) == {}
    assert (await ring.key_for("ada")).id != key.id
    assert key.id.encode() not in content(path)


async def test_key_that_is_forgotten_during_a_change_stays_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change was put together with it: it must not bring an erased key back, here or in the file."""
    ring = await FileKeyring.open(path, SECRET)
    ada = await ring.key_for("ada")
    goes_on, entered, really = threading.Event(), threading.Event(), os.fsync

    def slow(handle: int) -> None:
        entered.set()
        assert goes_on.wait(20)
        really(handle)

    monkeypatch.setattr(os, "fsync", slow)
    changing = asyncio.create_task(ring.key_for("ben"))
    await asyncio.to_thread(entered.wait, 20)
    ring.forget([ada.id])
    goes_on.set()
    ben = await changing
    assert ada.id.encode() not in content(path) and ben.id.encode() in content(path)
    assert await ring.keys([ada.id, ben.id]) == {ben.id: ben}
    assert (await ring.key_for("ada")).id != ada.id


async def test_caller_that_leaves_does_not_part_file_and_memory(path: Path) -> None:
    ring = await FileKeyring.open(path, SECRET)
    key = await ring.key_for("ada")
    erasing = asyncio.create_task(ring.erase("ada"))
    await asyncio.sleep(0)
    erasing.cancel()
    await asyncio.gather(erasing, return_exceptions=True)
    await ring.key_for("ben")
    there = await (await FileKeyring.open(path, SECRET)).keys([key.id])
    assert there == await ring.keys([key.id]) == {}


async def test_disk_that_is_full_changes_nothing(path: Path) -> None:
    ring = await FileKeyring.open(path, SECRET)
    key = await ring.key_for("ada")
    before = content(path)
    with full_at(10):
        with pytest.raises(StoreUnavailable):
            await ring.key_for("ben")
        with pytest.raises(StoreUnavailable):
            await ring.erase("ada")
    assert content(path) == before and await ring.key_for("ada") == key
    assert await ring.erase("ada") == (key.id,)


async def test_another_sealing_secret_is_refused_at_once(path: Path) -> None:
    """It would give a known subject a second key, or erase nobody."""
    await (await FileKeyring.open(path, SECRET)).key_for("ada")
    with pytest.raises(UnreadableEvent, match="sealing secret"):
        await FileKeyring.open(path, b"t" * 32)


@pytest.mark.parametrize("broken", [b"", b"{", b'{"format":2,"keys":[]}'])
async def test_file_that_cannot_be_read_is_left_alone(path: Path, broken: bytes) -> None:
    put(path, broken)
    with pytest.raises(JournalDamaged):
        await FileKeyring.open(path, SECRET)
    assert content(path) == broken
