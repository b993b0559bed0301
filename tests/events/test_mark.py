"""Marks: bounded, dense near the end, and good to find where a log forked."""

from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import RecordedEvent
from events.errors import LogForked, StoreUnavailable
from events.mark import Mark, Marks, forked, verify
from events.memory import MemoryEventStore
from tests.factories import events, new_stream, recorded, write
from tests.forks import restored


async def log_of(count: int, *, store: MemoryEventStore | None = None) -> MemoryEventStore:
    store = store or MemoryEventStore()
    for _ in range(count):
        await store.append(write(new_stream()))
    return store


def marks_of(store: MemoryEventStore, keep: int = 64) -> Marks:
    return Marks(store.log_id, map(Mark.of, store.ledger.log), keep=keep)


@given(count=st.integers(0, 300), keep=st.integers(1, 20))
def test_the_last_are_kept_and_the_others_thinned(count: int, keep: int) -> None:
    """Memory is bounded, however long the log is; a fork is mostly near the end."""
    marks = Marks(uuid4(), (Mark.of(recorded(position=position)) for position in range(1, count + 1)), keep=keep)
    positions = [mark.position for mark in marks]
    assert positions == sorted(set(positions)) and len(marks) <= 2 * keep
    assert positions[-keep:] == list(range(max(1, count - keep + 1), count + 1))
    assert marks.position == count and positions[:1] == [1][:count]


def test_a_reader_that_has_seen_nothing_has_a_place_all_the_same() -> None:
    marks = Marks(uuid4(), after=7)
    assert (marks.position, marks.last) == (7, None)


def test_a_mark_survives_its_file() -> None:
    mark = Mark.of(recorded(position=9))
    assert msgspec.json.decode(msgspec.json.encode(mark), type=Mark) == mark


async def test_a_log_that_holds_what_was_read_is_the_same() -> None:
    store = await log_of(3)
    marks = marks_of(store)
    await verify(await log_of(2, store=store), marks)
    await verify(store, Marks(store.log_id))


async def test_another_log_is_a_fork_from_the_first_position() -> None:
    store = await log_of(3)
    with pytest.raises(LogForked, match=str(store.log_id)) as caught:
        await verify(await log_of(3), marks_of(store))
    assert (caught.value.same_until, caught.value.differs_from) == (0, 1)


@given(count=st.integers(1, 60), cut=st.integers(0, 59), grown=st.integers(0, 70), keep=st.integers(1, 64))
async def test_a_fork_is_found_where_it_is(count: int, cut: int, grown: int, keep: int) -> None:
    """Also when the log has grown past what was read. Exact among the last ``keep`` marks, else bounded by two."""
    cut = min(cut, count - 1)
    store = await log_of(count)
    now = await log_of(grown, store=restored(store, cut))
    with pytest.raises(LogForked) as caught:
        await verify(now, marks_of(store, keep))
    fork = caught.value
    assert fork.same_until <= cut < fork.differs_from and fork.known_until == count
    if cut > count - keep:
        assert (fork.same_until, fork.differs_from) == (cut, cut + 1)
        assert f"forked at position {cut + 1}:" in str(fork)


async def test_the_same_event_sent_again_is_not_the_one_that_was_read() -> None:
    """The log lost it and its writer repeated it: what stands between may have changed places with others."""
    store = MemoryEventStore()
    unit = write(new_stream(), *events(1))
    await store.append(unit)
    now = restored(store, 0)
    await now.append(unit)
    with pytest.raises(LogForked) as caught:
        await verify(now, marks_of(store))
    assert caught.value.differs_from == 1


async def test_two_servers_that_answer_in_turn_are_no_fork() -> None:
    """A standby that lags under the same name: the reader tries again, as when nobody answers."""
    store = await log_of(2)
    with pytest.raises(StoreUnavailable, match="now with"):
        raise await forked(store, marks_of(store))


async def test_a_lagging_answer_is_looked_at_twice() -> None:
    """The place is gone at the first look only."""

    class Lags(MemoryEventStore):
        looks = 0

        async def read_log(self, **how: Any) -> list[RecordedEvent]:
            self.looks += 1
            return [] if self.looks == 1 else await super().read_log(**how)

    store = Lags()
    await log_of(2, store=store)
    with pytest.raises(StoreUnavailable):
        await verify(store, marks_of(store))
