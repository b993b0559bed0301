"""The contract of ``events.store.EventStore.search``, over each backend: what is found, and how far it looked."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.catalogue import ContainerStarted, LogRead, SessionReady
from events.envelope import KEYS, SYSTEM, EventData, RecordedEvent, StreamWrite
from events.filter import EventFilter
from events.store import EventStore
from tests.contracts.stores import appended, head_of
from tests.factories import event, raw, write

STREAMS: Final = ("session-s1", "session-s2", "container-c1", SYSTEM, KEYS)
TYPES: Final = ("session.ready", "session.failed", "log.read", "log.read_not", "a_b.c_d", "axb.c_d")
IDS: Final = (None, UUID(int=1), UUID(int=2), UUID(int=1 + 2**64))  # the last shares its last eight bytes
ACTORS: Final = (
    b'{"assurance":"none","id":"g1","key_id":null,"kind":"gateway","on_behalf_of":null}',
    b'{"assurance":"asserted","id":"chat","key_id":"k1","kind":"key","on_behalf_of":{"c":"x","k":"y","n":"z"}}',
    b'{"assurance":"none","id":"a\\u0000","key_id":null,"kind":"key","on_behalf_of":null}',
    b'{"kind":"gateway","id":"g1"}',
    b'{"assurance":"none","id":"\xc3\xa9","key_id":"","kind":"key","on_behalf_of":null}',
    b"{}",
    b"no json",
)
PAYLOADS: Final = (
    b'{"session_id":"s1"}',
    b'{"session_id":"s2","x":"\\"session_id\\":\\"s1\\""}',
    b'{"session_id":null}',
    b'{ "session_id" : "s1" }',
    b'{"session_id":"s2","session_id":"s1"}',
    b'{"session_id":1,"session_id":"s1"}',
    b'{"nested":{"session_id":"s1"}}',
    b'{"session\\u005fid":"s1"}',
    b'{"session_id":"s\\u0031"}',
    b'{"session_id":"a\\u0000b"}',
    b'{"session_id":"\xc3\xa9"}',
    b'{"session_id":""}',
    b'{"session_id":"s1"',
    b'["session_id"]',
    b"\0",
    b"",
)
# Parts of a question: what some events answer, what is close to it, and what no event can.
ASKED: Final[dict[str, tuple[Any, ...]]] = {
    "types": ((), ("session.*",), ("log.read",), ("a_b.*", "log.*"), ("session",), ("a%.*",), (".*",), ("",), ("\0",)),
    "stream_id": (None, *STREAMS, "", "\0", "session-s3"),
    "session_id": (None, "s1", "s2", "", "a\0b", "é", "\\", "\ud800", "s3"),
    "actor": (None, "gateway:g1", "k1", "key:chat", "key:a\0", "key:é", ":", "", "chat", "\\", "\ud800"),
    "trace_id": (None, bytes(16), UUID(int=1).bytes, UUID(int=1 + 2**64).bytes, b"", b"\1" * 20),
    "correlation_id": IDS,
    "causation_id": IDS,
}
FILTERS: Final = st.fixed_dictionaries(
    {}, optional={part: st.sampled_from(values) for part, values in ASKED.items()}
).map(lambda parts: EventFilter(**parts))
EVENTS: Final = st.tuples(
    st.sampled_from(STREAMS),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(TYPES),
            "payload": st.sampled_from(PAYLOADS),
            "actor": st.sampled_from(ACTORS),
            "trace_id": st.sampled_from([None, UUID(int=1).bytes]),
            "correlation_id": st.sampled_from(IDS),
            "causation_id": st.sampled_from(IDS),
        }
    ),
)


async def paged(
    store: EventStore, wanted: EventFilter, *, after: int = 0, until: int | None = None, limit: int = 100
) -> list[RecordedEvent]:
    """All that is found up to ``until`` or the head, page by page; each page keeps the promises of ``reached``."""
    found, at = list[RecordedEvent](), after
    while True:
        page = await store.search(wanted, after=at, until=until, limit=limit)
        head = await head_of(store)
        assert len(page.events) <= limit
        assert all(at < one.position <= page.reached for one in page.events)
        assert at <= page.reached <= max(at, min(head, head if until is None else max(until, 0)))
        found += page.events
        if page.reached == at:
            return found
        at = page.reached


@pytest_asyncio.fixture
async def written(empty_event_store: EventStore) -> AsyncIterator[EventStore]:
    """Each payload with each stream and actor at least once; two thirds are indexed."""
    count = 0
    for nth, payload in enumerate(PAYLOADS):
        units = [
            write(
                stream,
                raw(
                    type=TYPES[(nth + each) % len(TYPES)],
                    payload=payload,
                    actor=ACTORS[(nth + each) % len(ACTORS)],
                    correlation_id=IDS[(nth + each) % 4],
                    causation_id=IDS[each % 3],
                    trace_id=UUID(int=1).bytes if nth % 3 == 0 else None,
                ),
            )
            for each, stream in enumerate(STREAMS)
        ]
        await appended(empty_event_store, *units)
        count += len(units)
        if nth in (3, 9):
            await empty_event_store.index()
    assert count == len(STREAMS) * len(PAYLOADS)
    yield empty_event_store


async def test_each_part_finds_what_it_matches(written: EventStore) -> None:
    """What can be asked and what cannot: every store answers as ``matches`` does, two thirds of the log indexed."""
    log = await written.read_log()
    for wanted in (EventFilter(**{part: value}) for part, values in ASKED.items() for value in values):
        for limit in (3, 100):
            assert await paged(written, wanted, limit=limit) == [one for one in log if wanted.matches(one)], wanted


async def test_actor_is_a_key_or_a_kind_and_an_id(written: EventStore) -> None:
    """Not by brute force alone: these have events, and only the ones that say so."""
    for value in ("gateway:g1", "k1", "key:chat"):
        found = await paged(written, EventFilter(actor=value))
        assert found and all(value.rpartition(":")[2].encode() in one.actor for one in found)


async def test_session_is_found_in_streams_and_payloads(empty_event_store: EventStore) -> None:
    await appended(
        empty_event_store,
        write("session-s9", SessionReady),
        write("container-c9", event(ContainerStarted, session_id="s9"), event(ContainerStarted, session_id="s8")),
        write(SYSTEM, event(LogRead, session_id="s9"), event(LogRead, session_id=None)),
    )
    for _ in range(2):
        found = await paged(empty_event_store, EventFilter(session_id="s9"))
        assert [one.position for one in found] == [1, 2, 4]
        assert await empty_event_store.index() == 0


async def test_range_is_kept(written: EventStore) -> None:
    """``after``, ``until`` and ``limit``, the absurd ones too, alike in every store."""
    log = await written.read_log()
    head, wanted = len(log), EventFilter(types=("log.*",))
    for after, until in ((0, None), (0, head), (7, 40), (40, 7), (-5, 3), (3, -5), (3, 3), (head, None), (0, 10**30)):
        expected = [
            one
            for one in log
            if max(after, 0) < one.position <= (head if until is None else until) and wanted.matches(one)
        ]
        assert await paged(written, wanted, after=max(after, 0), until=until, limit=3) == expected
        page = await written.search(wanted, after=after, until=until)
        assert page.events == expected
        assert page.reached == max(after, 0, min(head, head if until is None else until)), (after, until)
    for limit in (0, -1, -(10**30)):
        page = await written.search(EventFilter(), after=2, limit=limit)
        assert (page.events, page.reached) == ([], 2)
    for after in (head + 1, 10**30):
        page = await written.search(EventFilter(), after=after)
        assert (page.events, page.reached) == ([], after)
    assert len((await written.search(EventFilter(), limit=10**30)).events) == head


async def test_page_that_is_full_ends_at_its_last_event(empty_event_store: EventStore) -> None:
    """Whoever goes on from ``reached`` passes nothing over, before the end of the index and behind it."""
    for _ in range(2):
        await appended(empty_event_store, write("session-s1", *[event() for _ in range(4)]), write(SYSTEM, LogRead))
        for wanted in (
            EventFilter(),
            EventFilter(session_id="s1"),
            EventFilter(actor="gateway:g1"),
            EventFilter(stream_id="session-s1"),
        ):
            for after in range(3):
                page = await empty_event_store.search(wanted, after=after, limit=2)
                assert [one.position for one in page.events] == [after + 1, after + 2] and page.reached == after + 2
        await empty_event_store.index()


async def test_empty_log_has_nothing_to_look_at(empty_event_store: EventStore) -> None:
    for wanted in (EventFilter(), EventFilter(session_id="s1"), EventFilter(stream_id=SYSTEM)):
        page = await empty_event_store.search(wanted)
        assert (page.events, page.reached) == ([], 0)
    assert await empty_event_store.index() == 0


async def test_what_is_found_is_what_is_read(written: EventStore) -> None:
    """Every field of it, from the index, from a stream and from behind the index."""
    log = await written.read_log()
    assert (await written.search(EventFilter(), limit=1000)).events == log
    by_index = EventFilter(types=("session.*", "log.*", "a_b.*", "axb.*"))
    assert (await written.search(by_index, limit=1000)).events == log
    stream = (await written.search(EventFilter(stream_id=SYSTEM), limit=1000)).events
    assert stream == await written.read_log(stream_id=SYSTEM)


async def test_search_beside_writers_shows_each_event_once(empty_event_store: EventStore) -> None:
    """Four append, one indexes all the time, three page: every match, in order, as it was and not twice."""
    done = asyncio.Event()
    questions = (EventFilter(session_id="s1"), EventFilter(types=("session.*",)), EventFilter())

    async def append(stream: str) -> None:
        for _ in range(25):
            await appended(empty_event_store, write(stream, SessionReady, LogRead))

    async def index() -> None:
        while not done.is_set():
            await empty_event_store.index()
            await asyncio.sleep(0)

    async def read(wanted: EventFilter) -> list[RecordedEvent]:
        found, at = list[RecordedEvent](), 0
        while True:
            last = done.is_set()
            page = await empty_event_store.search(wanted, after=at, limit=3)
            found, at = [*found, *page.events], page.reached
            if last and at == 200:
                return found
            await asyncio.sleep(0)

    reading, indexing = [asyncio.create_task(read(wanted)) for wanted in questions], asyncio.create_task(index())
    await asyncio.gather(*map(append, ("session-s1", "session-s2", SYSTEM, "container-c1")))
    done.set()
    log = await empty_event_store.read_log()
    for wanted, each in zip(questions, reading, strict=True):
        found = await each
        assert found == [one for one in log if wanted.matches(one)]
        assert len(found) >= 100
    await indexing


QUESTIONS: Final = st.lists(
    st.tuples(FILTERS, st.integers(0, 60), st.none() | st.integers(0, 60), st.integers(1, 12)), min_size=1, max_size=4
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(units=st.lists(st.lists(EVENTS, min_size=1, max_size=6), max_size=4), index=st.booleans(), questions=QUESTIONS)
async def test_search_equals_a_look_at_each_event(
    empty_event_store: EventStore,
    units: list[list[tuple[str, dict[str, Any]]]],
    index: bool,
    questions: list[tuple[EventFilter, int, int | None, int]],
) -> None:
    """Any log, any question, any page. Each example goes on with the log of the former ones, and asks at its end."""
    for unit in units:
        await appended(empty_event_store, *_of(unit))
    if index:
        await empty_event_store.index()
    log = await empty_event_store.read_log(limit=10_000)
    for wanted, back, span, limit in questions:
        after = max(len(log) - back, 0)
        until = None if span is None else after + span
        expected = [one for one in log[after:until] if wanted.matches(one)]
        assert await paged(empty_event_store, wanted, after=after, until=until, limit=limit) == expected, wanted


def _of(unit: list[tuple[str, dict[str, Any]]]) -> list[StreamWrite]:
    streams: dict[str, list[EventData]] = {}
    for stream, fields in unit:
        streams.setdefault(stream, []).append(raw(**fields))
    return [write(stream, *events) for stream, events in streams.items()]
