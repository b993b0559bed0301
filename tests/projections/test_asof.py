"""What was true then: a moment becomes a position, and a position the state that was shown at it."""

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import ExchangeCompleted, SessionReady, SessionRequested
from events.envelope import RecordedEvent, container_stream, session_stream
from events.memory import MemoryEventStore
from events.store import EventStore
from projections import asof
from projections.asof import BadMoment, as_of, resolve, session_as_of
from projections.lifecycle import Phase
from projections.projection import fold
from projections.session_state import Sessions
from tests.factories import MOMENT, event, payload, write
from tests.laws.strategies import short_histories


class Clock:
    """A minute later at each event."""

    def __init__(self) -> None:
        self.now = MOMENT

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


async def three_minutes() -> MemoryEventStore:
    """Three events, at one, two and three minutes past ``MOMENT``."""
    store = MemoryEventStore(now=Clock())
    for session_id in ("a", "b", "c"):
        await store.append(write(session_stream(session_id), payload(SessionRequested, session_id=session_id)))
    return store


@pytest.mark.parametrize(
    ("moment", "position"),
    [
        ("0", 0),
        ("2", 2),
        ("3", 3),
        ("4", 3),
        ("999999999999999999", 3),
        ("2026-01-18T22:30:03.999999Z", 0),
        ("2026-01-18T22:30:04Z", 1),
        ("2026-01-18T22:31:04+00:00", 2),
        ("2026-01-18T23:31:04+01:00", 2),
        ("2026-01-18T17:31:04-05:00", 2),
        ("2026-01-19T04:01:04+05:30", 2),
        ("2026-01-18t22:31:04z", 2),
        ("2026-01-18 22:31:04Z", 2),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T00:00:00Z", 3),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
async def test_a_moment_is_the_last_position_by_then(moment: str, position: int) -> None:
    """A position beyond the head means the head; an offset is the caller's own."""
    assert await resolve(await three_minutes(), moment) == position


@pytest.mark.parametrize(
    "moment",
    [
        "",
        "yesterday",
        "-1",
        "+1",
        "1.0",
        "1_000",
        " 2",
        "2\n",
        "٣",
        "1234567890123456789",
        "2026-01-18",
        "2026-01-18T22:29:04",
        "2026-13-18T22:29:04Z",
        "2026-01-18T25:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
async def test_what_is_no_moment_is_refused(moment: str) -> None:
    """Also a time whose instant no calendar of ours has: it is the caller's mistake, not an absent log."""
    with pytest.raises(BadMoment):
        await resolve(await three_minutes(), moment)


async def test_times_resolve_alike_on_every_log(event_store: EventStore) -> None:
    """By the log's own clock, whatever is written beside."""
    await event_store.append(write(session_stream("asof"), event()))
    head = await event_store.head()
    assert head.recorded_at is not None
    offset = head.recorded_at.astimezone(UTC).isoformat()
    assert await resolve(event_store, offset) >= head.position
    assert await resolve(event_store, "0001-01-01T00:00:00Z") == 0
    with pytest.raises(BadMoment):
        await resolve(event_store, "0001-01-01T00:00:00+14:00")


async def test_then_is_a_prefix_of_the_log() -> None:
    store = await three_minutes()
    ready = payload(SessionReady, session_id="a")
    await store.append(write(session_stream("a"), ready))
    assert set(await as_of(store, Sessions(), 2)) == {"a", "b"}
    assert (await as_of(store, Sessions(), 3))["a"].phase is Phase.CREATING
    assert (await as_of(store, Sessions(), 4))["a"].phase is Phase.READY
    assert await as_of(store, Sessions(), 99) == await as_of(store, Sessions(), 4)
    assert await as_of(store, Sessions(), 0) == {}


async def test_one_session_then_is_read_from_its_own_streams() -> None:
    store = await three_minutes()
    await store.append(write(session_stream("a"), payload(SessionReady, session_id="a")))
    for position in range(5):
        whole = await as_of(store, Sessions(), position)
        assert await session_as_of(store, "a", position) == whole.get("a")
    assert await session_as_of(store, "nobody", 4) is None


@given(history=short_histories, position=st.integers(0, 60), pages=st.integers(1, 4))
async def test_pages_of_any_size_give_the_same(history: list[RecordedEvent], position: int, pages: int) -> None:
    """Streams that are longer than a page, and several of them: what comes when is decided by position alone."""
    store = MemoryEventStore()
    store.ledger.log = list(history)
    for each in history:
        store.ledger.streams.setdefault(each.stream_id, []).append(each)
    whole = fold(Sessions(), {}, history[:position])
    with patch.multiple(asof, PAGE=pages, _FIRST_PAGE=1, STEP=2):
        assert await as_of(store, Sessions(), position) == whole
        for session_id in ("a", "b"):
            assert await session_as_of(store, session_id, position) == whole.get(session_id)


class Counting(MemoryEventStore):
    """Counts the events that streams gave, and the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.events = self.calls = 0

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        page = await super().read_stream(stream_id, after=after, limit=limit, backwards=backwards)
        self.events, self.calls = self.events + len(page), self.calls + 1
        return page


async def test_a_session_is_read_once_and_little_further_than_asked() -> None:
    """Asked about its first minute, a session with 10,000 exchanges costs a page; at its end, each event once."""
    store, used = Counting(), 10_000
    requested = payload(SessionRequested, session_id="a")
    assert isinstance(requested, SessionRequested)
    await store.append(write(session_stream("a"), requested))
    exchange = payload(ExchangeCompleted, session_id="a", container=requested.container)
    for _ in range(0, used, 100):
        await store.append(write(container_stream(requested.container), *[exchange] * 100))
    for position, most in ((50, 130), (300, 700), (used + 1, used + 1)):
        store.events = store.calls = 0
        state = await session_as_of(store, "a", position)
        assert state is not None and state.exchanges == position - 1
        assert store.events <= most and store.calls <= 3 + store.events // asof.PAGE, (store.events, store.calls)
