"""``make bench-search``: what the index of the log costs, and how long a search takes that goes by it.

One log of a million mixed events (``mix``), each of a request of its own, the costliest case. ``python -m benchmarks
search EVENTS`` takes a smaller one.
"""

import random
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import psutil

from benchmarks import server
from benchmarks.fill import fill
from benchmarks.rounds import Foreign, screen, table
from benchmarks.server import Base
from events.envelope import RecordedEvent, StreamWrite
from events.filter import EventFilter, session_of
from events.ids import uuid7
from events.postgres import PostgresEventStore

EVENTS: Final = 1_000_000
QUESTIONS: Final = 1_000
STEP: Final = 2_000  # as the store's
BARS: Final = {
    "bytes_per_event": "< 200",
    "trace_p99_ms": "< 5",
    "correlation_p99_ms": "< 5",
    "session_p99_ms": "< 20",
    "rare_type_of_a_busy_actor_p99_ms": "< 50",
}


class Indexed(msgspec.Struct, frozen=True):
    """The index of all of the log: processor time of the server and wall time, and its size."""

    cpu_us: float  # an event
    wall_us: float
    bytes_per_event: float


async def main(events: int = EVENTS) -> dict[str, float]:
    """Prints a table; the figures."""
    async with server.server() as running:
        base = await server.database(running, "search")
        foreign = Foreign(await server.postmaster(base))
        store = await server.store(base)
        try:
            await fill(store, events, _of_requests)
            indexed = await _index(base, events)
            seen = [
                (await store.read_log(after=random.Random(n).randrange(events), limit=1))[0] for n in range(QUESTIONS)
            ]
            latencies = {name: await _ask(store, asked) for name, asked in _questions(seen).items()}
        finally:
            await store.close()
        share = foreign.share()
    rows = [
        (name, f"{_quantile(taken, 0.5):.2f}", f"{_quantile(taken, 0.99):.2f}", BARS[f"{name}_p99_ms"])
        for name, taken in latencies.items()
    ]
    table(f"search in {events:,} events", ("search for", "p50 ms", "p99 ms", "bar"), rows)
    screen.print(f"others took {share:.0%} of the machine")
    result = {f"{name}_p99_ms": round(_quantile(taken, 0.99), 2) for name, taken in latencies.items()}
    return {name: round(value, 1) for name, value in msgspec.structs.asdict(indexed).items()} | result


def _of_requests(write: StreamWrite) -> StreamWrite:
    """Each event by a request of its own, whose trace has the same digits."""
    asked = [(event, uuid7()) for event in write.events]
    made = tuple(msgspec.structs.replace(event, correlation_id=one, trace_id=one.bytes) for event, one in asked)
    return msgspec.structs.replace(write, events=made)


async def _index(base: Base, events: int) -> Indexed:
    """All of it, step after step, over a connection of its own, whose process is looked at."""
    async with server.connection(base.dsn) as app:
        process = psutil.Process(await app.fetchval("select pg_backend_pid()"))
        before, began = process.cpu_times(), time.perf_counter()
        while await app.fetchval("select log.index_events($1)", STEP):
            pass
        wall, after = time.perf_counter() - began, process.cpu_times()
        assert await app.fetchval("select position from log.indexed") == events
        size = await app.fetchval("select pg_total_relation_size('log.event_index')")
    spent = after.user + after.system - before.user - before.system
    return Indexed(spent / events * 1e6, wall / events * 1e6, size / events)


def _questions(seen: Sequence[RecordedEvent]) -> dict[str, list[EventFilter]]:
    """What events from all over the log suggest to ask."""
    return {
        "trace": [EventFilter(trace_id=one.trace_id) for one in seen],
        "correlation": [EventFilter(correlation_id=one.correlation_id) for one in seen],
        "session": [EventFilter(session_id=named) for one in seen if (named := session_of(one)) is not None],
        "rare_type_of_a_busy_actor": [EventFilter(actor="gateway:gateway-1-5f2c", types=("log.*",))] * QUESTIONS,
    }


async def _ask(store: PostgresEventStore, asked: Sequence[EventFilter]) -> list[float]:
    """Seconds of each first page of a hundred, sorted."""
    taken = []
    for wanted in asked:
        began = time.perf_counter()
        await store.search(wanted)
        taken.append(time.perf_counter() - began)
    return sorted(taken)


def _quantile(taken: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return taken[min(len(taken) - 1, int(len(taken) * share))] * 1000
