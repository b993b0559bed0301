"""``make bench-append``: the log's append beside the ``eventsourcing`` library, plain INSERT and COPY.

Everything runs against one Postgres, in interleaved rounds. Bars (spec rows C1, C4): see ``BARS``.
"""

import asyncio
import functools
import statistics
import time
from typing import Final

from benchmarks import load, server
from benchmarks.load import Measured
from benchmarks.rounds import Cell, Foreign, Rounds, interleave, progress, screen, table
from events.envelope import session_stream
from events.ids import short
from events.postgres import PostgresEventStore

SECONDS: Final = 1.5
ROUNDS: Final = 5
BEFORE_SECONDS: Final = 20
HELD_SECONDS: Final = 120
BLOCK_SECONDS: Final = 10
PARTITIONS: Final = 200
BARS: Final = {
    "p32_vs_eventsourcing_best_single": ">= 3.5",
    "p256_vs_copy": ">= 0.40",
    "p32_p99_over_p50": "<= 4",
    "held_snapshot_ratio": ">= 0.85",
    "partitions_200_vs_1": ">= 0.9",
}
_ONE_EVENT: Final = (
    "eventsourcing default c1",
    "eventsourcing default c8",
    "eventsourcing best c1",
    "eventsourcing best c8",
)


async def main() -> dict[str, float]:
    """Prints tables; the figures."""
    async with server.server() as running:
        base = await server.database(running, "bench")
        postmaster = await server.postmaster(base)
        foreign = Foreign(postmaster)
        throughput = await _throughput(base)
        held = await _held_snapshot(base, Foreign(postmaster))
        partitions = await _partitions(await server.database(running, "one"), await server.database(running, "many"))
        result: dict[str, float] = {
            "append_p32_per_s": round(throughput.rate("ours p32")),
            "p32_vs_eventsourcing_best_single": round(throughput.ratio("ours p32", *_ONE_EVENT), 2),
            "p256_vs_copy": round(throughput.ratio("ours p256", "COPY"), 2),
            "p32_p99_over_p50": round(throughput.latency("ours p32", 0.99) / throughput.latency("ours p32", 0.5), 2),
            "held_snapshot_ratio": round(held, 2),
            "partitions_200_vs_1": round(partitions.ratio("200 partitions", "1 partition"), 2),
        }
        table("Bars", ("figure", "measured", "bar"), [(name, str(result[name]), bar) for name, bar in BARS.items()])
        screen.print(f"foreign processor time over the whole run: {foreign.share():.0%}")
        return result


async def _throughput(base: server.Base) -> Rounds:
    from benchmarks import peers  # whose library is there for this benchmark alone; what is above is read without it

    await peers.make_tables(base)
    async with server.connection(base.admin_dsn) as admin:
        await admin.execute(
            f"create schema peer_default authorization {server.USER};"
            f" create schema peer_functions authorization {server.USER}"
        )
    default = await asyncio.to_thread(peers.Eventsourcing, base, functions=False, threads=8)
    best = await asyncio.to_thread(peers.Eventsourcing, base, functions=True, threads=8)
    store = await server.store(base)
    try:
        cells: dict[str, Cell] = {f"ours p{count}": functools.partial(_ours, store, count) for count in (1, 8, 32, 256)}
        for name, peer in (("default", default), ("best", best)):
            cells[f"eventsourcing {name} c1"] = functools.partial(peer.append, 1, SECONDS)
            cells[f"eventsourcing {name} c8"] = functools.partial(peer.append, 8, SECONDS)
        cells["eventsourcing best, 20 an insert"] = functools.partial(best.append, 1, SECONDS, batch=20)
        cells["INSERT c8"] = functools.partial(peers.insert, base, 8, SECONDS)
        cells["COPY"] = functools.partial(peers.copy, base, SECONDS)
        rounds = await interleave(cells, ROUNDS, title="append")
    finally:
        await store.close()
        for peer in (default, best):
            await asyncio.to_thread(peer.close)
    _show(rounds)
    return rounds


async def _ours(store: PostgresEventStore, count: int) -> Measured:
    return await load.producers(count, SECONDS, functools.partial(load.append_streams, store))


def _show(rounds: Rounds) -> None:
    rows = []
    for name, results in rounds.cells.items():
        quantiles = [
            f"{rounds.latency(name, share) * 1000:.2f}" if results[0].latencies else "" for share in (0.5, 0.99)
        ]
        spread = f"{min(each.rate for each in results):,.0f}..{max(each.rate for each in results):,.0f}"
        rows.append((name, f"{rounds.rate(name):,.0f}", spread, *quantiles, f"{rounds.ratio('ours p32', name):.2f}"))
    table(
        f"Append, median of {ROUNDS} interleaved rounds of {SECONDS} s",
        ("", "events/s", "of the rounds", "p50 ms", "p99 ms", "ours p32 / this"),
        rows,
    )


async def _held_snapshot(base: server.Base, foreign: Foreign) -> float:
    """Eight producers, all in one stream, while a backup's snapshot stays open: the last 10 s of 60 over before."""
    store = await server.store(base)
    stream_id = session_stream(short())
    blocks: list[float] = []

    async def block() -> None:
        produce = functools.partial(load.append_one_stream, store, stream_id)
        blocks.append((await load.producers(8, BLOCK_SECONDS, produce)).rate)

    try:
        with progress() as bar:
            task = bar.add_task("held snapshot", total=(BEFORE_SECONDS + HELD_SECONDS) // BLOCK_SECONDS)
            for _ in range(BEFORE_SECONDS // BLOCK_SECONDS):
                await block()
                bar.advance(task)
            async with server.connection(base.dsn) as backup:
                await backup.execute("begin isolation level repeatable read; select count(*) from log.tip")
                for _ in range(HELD_SECONDS // BLOCK_SECONDS):
                    await block()
                    bar.advance(task)
    finally:
        await store.close()
    split = BEFORE_SECONDS // BLOCK_SECONDS
    before, held = blocks[:split], blocks[split:]
    at_60 = held[60 // BLOCK_SECONDS - 1] / statistics.mean(before)
    table(
        f"A snapshot held for {HELD_SECONDS} s, events/s in blocks of {BLOCK_SECONDS} s"
        f" (foreign processor time {foreign.share():.0%})",
        ("before", *(f"{(number + 1) * BLOCK_SECONDS} s" for number in range(len(held)))),
        [(f"{statistics.mean(before):,.0f}", *(f"{rate:,.0f}" for rate in held))],
    )
    print(f"last block of {HELD_SECONDS} s over before: {held[-1] / statistics.mean(before):.2f}")
    return at_60


async def _partitions(one: server.Base, many: server.Base) -> Rounds:
    await _attach_partitions(many, PARTITIONS)
    stores = {"1 partition": await server.store(one), f"{PARTITIONS} partitions": await server.store(many)}
    try:
        cells: dict[str, Cell] = {name: functools.partial(_ours, store, 32) for name, store in stores.items()}
        return await interleave(cells, 2 * ROUNDS, title="partitions")
    finally:
        for store in stores.values():
            await store.close()


async def _attach_partitions(base: server.Base, count: int) -> None:
    """All of them ahead of the tip: an insert finds its own among ``count`` whatever the others hold."""
    began = time.perf_counter()
    async with server.connection(base.admin_dsn) as admin:
        size = await admin.fetchval("select partition_size from log.identity")
        async with admin.transaction():
            await admin.execute("insert into log.tip select $1, recorded_at from log.tip", (count - 2) * size)
            await admin.execute("select log.ensure_partitions()")
            await admin.execute("delete from log.tip where position = $1", (count - 2) * size)
        there = await admin.fetchval("select count(*) from log.partitions")
    screen.print(f"{there} partitions attached in {time.perf_counter() - began:.1f} s")
    assert there == count, there
