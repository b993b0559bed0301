"""A disk of ours that fails says nothing of the log: that stays, or comes back, and no acknowledged unit is lost."""

import asyncio
from errno import EIO
from pathlib import Path

import pytest

from events.envelope import NEW
from events.fallback import FallbackEventStore
from events.rejected import REJECTED
from events.spool import Spool
from events.store import Appended
from tests.event_fixtures import until
from tests.events.wavering import MEGABYTE, Changes, WaveringStore, files, go_away, gone, spooling
from tests.factories import new_stream, write
from tests.failures import small_disk


async def test_a_damaged_file_of_refused_units_keeps_no_log_away(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    poison = await go_away(spooling_store, inner)
    await spooling_store.append(good := write(new_stream()))
    inner.poison = {poison.stream_id}
    (tmp_path / f"gw-1{REJECTED}").write_bytes(b"damaged\n")
    inner.away = False
    await changes.until(True)
    assert len(await spooling_store.read_stream(good.stream_id)) == 1
    assert str(poison.events[0].event_id) in (tmp_path / f"gw-1.2{REJECTED}").read_text()


async def test_a_full_disk_here_keeps_no_log_away(inner: WaveringStore) -> None:
    """What the log refused cannot be put aside then: it stays in the spool's file, which goes when there is room."""
    with small_disk.mounted(1) as disk:
        async with spooling(inner, disk.path) as store:
            changes = Changes(store)
            poison = await go_away(store, inner)
            await store.append(good := write(new_stream()))
            inner.poison = {poison.stream_id}
            disk.fill()
            inner.away = False
            assert (await changes.until(True)).rejected_units == 1
            assert isinstance(await store.append(write(good.stream_id, expected=1)), Appended)
            [file] = files(disk.path)
            assert str(poison.events[0].event_id) in file.read_text()
            disk.free()
            await until(lambda: gone(file))
            assert str(poison.events[0].event_id) in (disk.path / f"gw-1{REJECTED}").read_text()
            assert [one.available for one in changes.told] == [False, True] and store.status.rejected_units == 1


async def test_a_dead_ones_refused_unit_and_a_full_disk_trip_nothing(inner: WaveringStore) -> None:
    """They did: 9,397 times in five seconds, away and back, with a healthy log. One page is free, for the header."""
    with small_disk.mounted(1) as disk:
        dead = Spool(disk.path, "gw-dead", inner.log_id, MEGABYTE)
        await dead.append((poison := write(new_stream()),))
        await dead.close()
        inner.poison = {poison.stream_id}
        disk.fill(but=4096)
        async with spooling(inner, disk.path) as store:
            changes = Changes(store)
            await until(lambda: rejected(store))
            for _ in range(20):
                assert isinstance(await store.append(write(new_stream(), expected=NEW)), Appended)
                await asyncio.sleep(0.01)  # some looks pass
            assert changes.told == [] and len(files(disk.path)) == 1
            disk.free()
            await until(lambda: gone(dead.path))


async def test_a_file_that_cannot_be_removed_at_once_serves_the_next_outage(
    spooling_store: FallbackEventStore, inner: WaveringStore, changes: Changes, tmp_path: Path
) -> None:
    """All of it is in the log, so that is back; and a fact of the next outage must not find its own spool locked."""
    first = await go_away(spooling_store, inner)
    [file] = files(tmp_path)
    unlink = Path.unlink

    def fail(one: Path, missing_ok: bool = False) -> None:
        if one == file:
            raise OSError(EIO, "says the test")
        unlink(one, missing_ok)

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(Path, "unlink", fail)
        inner.away = False
        await changes.until(True)
        assert file.exists()
        second = await go_away(spooling_store, inner)
    inner.away = False
    await changes.until(True)
    await until(lambda: gone(file))
    log = await spooling_store.read_log()
    assert [one.event_id for one in log] == [one.events[0].event_id for one in (first, second)]


async def rejected(store: FallbackEventStore) -> bool:
    return store.status.rejected_units > 0
