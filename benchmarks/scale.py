"""``make bench-scale``: append, tail and read in a log of 10 thousand, 1 million and 3 million events.

What an event costs must not grow with the log: three logs on one server, measured in interleaved rounds.
"""

import functools
import random
import time
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from benchmarks import load, server
from benchmarks.load import Measured
from benchmarks.rounds import Cell, Rounds, interleave, progress, table
from events.embedded import EmbeddedPostgres
from events.ids import short
from events.postgres import PostgresEventStore

SIZES: Final = {"10k": 10_000, "1M": 1_000_000, "3M": 3_000_000}
ROUNDS: Final = 5
SECONDS: Final = 1.5
PAGE: Final = 1000
TAILED_PAGES: Final = 9
WORK: Final = ("append", "tail", "read")
BARS: Final = {f"{work}_3m_over_10k": "<= 1.5" for work in WORK}


class Log(msgspec.Struct, frozen=True):
    """A filled log and the streams that are read from it."""

    store: PostgresEventStore
    streams: tuple[str, ...]
    bytes_per_event: float


async def main() -> dict[str, float]:
    """Prints a table; the figures."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(server.server())
        logs = {name: await _filled(stack, running, name, size) for name, size in SIZES.items()}
        cells: dict[str, Cell] = {}
        for name, log in logs.items():
            cells[f"append {name}"] = functools.partial(_append, log.store)
        cells["append 10k"] = functools.partial(_append_to_fresh, running, SIZES["10k"])
        for name, log in logs.items():
            cells[f"tail {name}"] = functools.partial(_tail, log.store)
            cells[f"read {name}"] = functools.partial(_read, log)
        rounds = await interleave(cells, ROUNDS, title="scale")
    _show(rounds, logs)
    result: dict[str, float] = {f"{work}_3m_over_10k": round(_cost_ratio(rounds, work, "3M"), 2) for work in WORK}
    result |= {f"bytes_per_event_{name}": round(log.bytes_per_event) for name, log in logs.items()}
    return result


async def _filled(stack: AsyncExitStack, running: EmbeddedPostgres, name: str, size: int) -> Log:
    base = await server.database(running, f"log_{name.lower()}")
    store = await server.store(base)
    stack.push_async_callback(store.close)
    with progress() as bar:
        task = bar.add_task(f"fill {name}", total=size)
        await load.fill(store, size, lambda made: bar.update(task, completed=made))
    async with server.connection(base.admin_dsn) as admin:
        await admin.execute("vacuum analyze")
        await admin.execute("checkpoint")
        weight = await admin.fetchval(
            "select sum(pg_total_relation_size(c.oid)) from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = 'log' and c.relkind = 'r'"
        )
    chosen = random.Random(1)
    streams = set()
    for after in (chosen.randrange(size - PAGE) for _ in range(20)):
        streams |= {event.stream_id for event in await store.read_log(after=after, limit=PAGE)}
    return Log(store, tuple(sorted(streams)), float(weight) / size)


async def _append(store: PostgresEventStore) -> Measured:
    return await load.producers(32, SECONDS, functools.partial(load.append_streams, store))


async def _append_to_fresh(running: EmbeddedPostgres, size: int) -> Measured:
    """The smallest log would be ten times as long after a few rounds: a new one each time."""
    base = await server.database(running, f"fresh_{short()}")
    store = await server.store(base)
    try:
        await load.fill(store, size, lambda made: None)
        return await _append(store)
    finally:
        await store.close()
        await server.drop(running, base)


async def _tail(store: PostgresEventStore) -> Measured:
    """A reader that comes back: the last nine thousand events in pages of a thousand, again and again."""
    head = (await store.head()).position
    began, events = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        position = head - TAILED_PAGES * PAGE
        for _ in range(TAILED_PAGES):
            page = await store.read_log(after=position, limit=PAGE)
            position = page[-1].position
            events += len(page)
    return Measured(events, time.perf_counter() - began)


async def _read(log: Log) -> Measured:
    """Whole streams of 20 events from all over the log."""
    began, events, latencies = time.perf_counter(), 0, []
    chosen = random.Random(1)
    while (now := time.perf_counter()) - began < SECONDS:
        events += len(await log.store.read_stream(chosen.choice(log.streams)))
        latencies.append(time.perf_counter() - now)
    return Measured(events, time.perf_counter() - began, tuple(sorted(latencies)))


def _cost_ratio(rounds: Rounds, work: str, size: str) -> float:
    """Time an event costs in the log of that size over the time in the smallest one."""
    return 1 / rounds.ratio(f"{work} {size}", f"{work} 10k")


def _show(rounds: Rounds, logs: dict[str, Log]) -> None:
    rows = []
    for name, log in logs.items():
        costs = []
        for work in WORK:
            micros = 1e6 / rounds.rate(f"{work} {name}")
            costs.append(f"{micros:.1f} ({_cost_ratio(rounds, work, name):.2f})")
        rows.append((name, *costs, f"{log.bytes_per_event:,.0f}"))
    table(
        f"Microseconds an event (over the smallest log; bar {BARS['append_3m_over_10k']})",
        ("events", "append p32", "tail", "read a stream", "bytes an event"),
        rows,
    )
