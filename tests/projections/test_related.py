"""What is read for a tree: everything that belongs to it, and no more than the budget allows."""

from uuid import UUID

import pytest

from events.envelope import ANY, EventData, RecordedEvent, StreamWrite
from events.filter import EventFilter, Found
from events.memory import MemoryEventStore
from projections import causation, related
from projections.causation import Link
from projections.related import Budget, Related
from tests.factories import raw

ONE, OTHER = UUID(int=1), UUID(int=2)


async def written(*events: EventData, stream_id: str = "system") -> MemoryEventStore:
    store = MemoryEventStore()
    for each in events:
        await store.append(StreamWrite(stream_id, ANY, (each,)))
    return store


async def of_position(store: MemoryEventStore, position: int, budget: Budget | None = None) -> Related:
    log = await store.read_log()
    return await related.of_event(store, log[position - 1], until=len(log), budget=budget)


def positions(read: Related) -> list[int]:
    return [each.position for each in read.events]


def caused(by: EventData | None = None, request: UUID | None = None, kind: str = "session.ready") -> EventData:
    return raw(type=kind, causation_id=by.event_id if by else None, correlation_id=request)


async def test_the_request_what_led_to_it_and_what_it_led_to_are_read() -> None:
    """Over the borders of requests in both directions; what else the causes led to is another story."""
    first = caused(request=OTHER)
    sibling = caused(first, OTHER)
    asked = caused(first, ONE)
    same = caused(None, ONE)
    effect = caused(same)
    further = caused(effect)
    store = await written(first, sibling, asked, same, effect, further, caused(), caused(None, OTHER))
    read = await of_position(store, 3)
    assert positions(read) == [1, 3, 4, 5, 6]
    assert read.asked == {asked.event_id} and read.cut is None and read.unread == frozenset()


async def test_the_beginning_of_its_session_and_its_newest_resume_come_with_an_event() -> None:
    """Not those that came after it."""
    begun = caused(kind="session.requested")
    first, second, third = (caused(kind="session.resumed") for _ in range(3))
    asked = caused(request=ONE, kind="session.stopped")
    store = await written(begun, first, second, asked, third, stream_id="session-s1")
    assert positions(await of_position(store, 4)) == [1, 3, 4]
    assert positions(await of_position(store, 1)) == [1]


async def test_causes_that_are_not_in_the_log_are_looked_for_once_and_missed() -> None:
    lost = caused()
    store = Counting(await written(*(caused(lost, ONE) for _ in range(30))))
    read = await related.of(store, EventFilter(correlation_id=ONE), until=30)
    assert len(read.events) == 30 and read.cut is None
    assert store.found == 1
    assert {root.link for root in causation.tree(read.events, unread=read.unread, fold_over=None).roots} == {
        Link.MISSING
    }


async def test_circles_end() -> None:
    one, two = UUID(int=11), UUID(int=12)
    store = await written(
        raw(event_id=one, causation_id=two, correlation_id=ONE),
        raw(event_id=two, causation_id=one, correlation_id=ONE),
        raw(event_id=OTHER, causation_id=OTHER),
    )
    assert positions(await of_position(store, 1)) == [1, 2]
    assert positions(await of_position(store, 3)) == [3]


async def test_nothing_is_read_beyond_the_position_of_the_reading() -> None:
    """Else a reading would show its own record, and the next one another tree of the same past."""
    first = caused(request=ONE)
    store = await written(first, caused(first, ONE), caused(first, ONE))
    read = await related.of(store, EventFilter(correlation_id=ONE), until=2)
    assert positions(read) == [1, 2]


async def test_nothing_found_is_nothing() -> None:
    assert (await related.of(await written(caused()), EventFilter(correlation_id=ONE), until=1)).events == ()


@pytest.mark.parametrize("count", [10, 11, 2500])
async def test_too_many_events_are_cut_and_it_is_said_where(count: int) -> None:
    """Ten fit exactly. Their cause is told all the same: without it the tree would have no root."""
    root = caused(kind="token.issued")
    store = await written(root, *(caused(root, ONE, "exchange.completed") for _ in range(count)))
    wanted = EventFilter(correlation_id=ONE)
    read = await related.of(store, wanted, until=count + 1, budget=Budget(events=10))
    assert positions(read) == list(range(1, 12))
    if count == 10:
        assert read.cut is None
    else:
        assert read.cut is not None and (read.cut.reason, read.cut.reached) == ("events", 11)
    assert len(causation.tree(read.events, unread=read.unread).roots) == 1


async def test_what_there_is_much_of_takes_no_room_from_the_steps() -> None:
    """The end of a busy session stands behind more exchanges than one reading holds."""
    exchanges = [caused(None, ONE, "exchange.completed") for _ in range(30)]
    store = await written(caused(None, ONE, "session.requested"), *exchanges, caused(None, ONE, "session.stopped"))
    wanted = EventFilter(correlation_id=ONE)
    read = await related.of(store, wanted, until=32, budget=Budget(events=10), first=related.STEPS)
    assert positions(read) == [*range(1, 10), 32]
    assert read.cut is not None and (read.cut.reason, read.cut.reached) == ("events", 9)


async def test_too_many_look_ups_leave_causes_unread_and_say_how_much_was_not_searched() -> None:
    """A log of somebody hostile: every event names another cause."""
    store = await written(*(caused(caused(), ONE) for _ in range(50)))
    read = await related.of(store, EventFilter(correlation_id=ONE), until=50, budget=Budget(lookups=20))
    assert read.cut is not None
    assert (read.cut.reason, read.cut.reached, read.cut.unsearched) == ("lookups", None, 50)
    assert (len(read.events), len(read.unread)) == (50, 30)


async def test_time_runs_out_between_two_questions() -> None:
    """An hour passes with each look at the clock."""
    hours = iter(range(0, 3600 * 1000, 3600))
    first = caused()
    store = await written(first, *(caused(first, ONE) for _ in range(5)))
    budget = Budget(seconds=3600 * 1.5, clock=lambda: float(next(hours)))
    read = await related.of(store, EventFilter(correlation_id=ONE), until=6, budget=budget)
    assert read.cut is not None and (read.cut.reason, read.cut.reached) == ("time", None)
    assert read.unread == {first.event_id}


async def test_a_store_that_looks_at_a_little_at_a_time_is_asked_again() -> None:
    """A search may find nothing and still not be at the end."""
    first = caused(request=ONE)
    rest = [caused() for _ in range(20)]
    store = Counting(await written(first, *rest, caused(first, ONE)), scan=3)
    read = await related.of(store, EventFilter(correlation_id=ONE), until=22)
    assert positions(read) == [1, 22] and read.cut is None


async def test_effects_of_exchanges_are_not_looked_for() -> None:
    """One search each would be thousands; they lead to nothing but their own end, which is of the same request."""
    token = caused(kind="token.issued")
    exchanges = [caused(token, ONE, "exchange.completed") for _ in range(40)]
    store = Counting(await written(token, *exchanges))
    read = await related.of(store, EventFilter(correlation_id=ONE), until=41)
    assert len(read.events) == 41 and read.cut is None
    assert store.searched == 1


class Counting:
    """A store that counts what it is asked, and looks at ``scan`` positions a search."""

    def __init__(self, inner: MemoryEventStore, scan: int = 10_000) -> None:
        self._inner, self._scan = inner, scan
        self.found = self.searched = 0

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        self.found += 1
        return await self._inner.find(event_id)

    async def search(self, wanted: EventFilter, *, after: int = 0, until: int | None = None, limit: int = 100) -> Found:
        self.searched += 1
        most = min(after + self._scan, 10**9 if until is None else until)
        return await self._inner.search(wanted, after=after, until=most, limit=limit)


async def test_a_request_of_two_sessions_is_read_for_the_one_that_was_asked_for() -> None:
    """Both callers chose the same id; what one led to in another session is read all the same."""
    store = MemoryEventStore()
    mine, theirs = caused(None, ONE), caused(None, ONE)
    effect = caused(mine)
    for number, each in ((1, mine), (2, theirs), (3, effect)):
        await store.append(StreamWrite(f"session-s{number}", ANY, (each,)))
    for _ in range(2):
        of_nobody = raw(type="gateway.started", payload=b"{}", causation_id=None, correlation_id=ONE)
        await store.append(StreamWrite("system", ANY, (of_nobody,)))
    assert positions(await of_position(store, 1)) == [1, 3]
    assert positions(await of_position(store, 2)) == [2]
    assert positions(await of_position(store, 4)) == [4, 5], "those that concern nobody's session"
    assert positions(await related.of(store, EventFilter(correlation_id=ONE), until=5)) == [1, 2, 3, 4, 5]


async def test_beyond_some_sessions_the_others_are_left_out_and_it_is_said() -> None:
    """Each has a person who is to be told; the one that was asked for is never left out."""
    store = MemoryEventStore()
    first = caused(None, ONE)
    chain = [first, *(caused(first, ONE) for _ in range(4))]
    for number, each in enumerate(chain):
        await store.append(StreamWrite(f"session-s{number}", ANY, (each,)))
    budget = Budget(sessions=3)
    read = await related.of(store, EventFilter(correlation_id=ONE), until=5, budget=budget)
    assert positions(read) == [1, 2, 3]
    assert read.cut is not None and (read.cut.reason, read.cut.reached) == ("sessions", 3)
    assert positions(await of_position(store, 5, Budget(sessions=1))) == [5]
    (of_last,) = causation.tree(
        (last := await of_position(store, 5, Budget(sessions=1))).events, unread=last.unread
    ).roots
    assert of_last.link is Link.UNREAD, "its cause is in the log, and not shown"
    assert (await related.of(store, EventFilter(correlation_id=ONE), until=5)).cut is None
