"""``make bench-fold``: what it costs to know: folding, carrying tables, answering as of a position, starting.

One log of a million mixed events (``mix``), each made and read by the real codec, on a real Postgres. ``python -m
benchmarks fold EVENTS`` takes a smaller one; bars are for the whole (``BARS``).
"""

import asyncio
import gc
import json
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from benchmarks import server
from benchmarks.fill import fill
from benchmarks.mix import Mix, event_of
from benchmarks.rounds import Foreign, progress, screen, table
from events.envelope import RecordedEvent
from events.lease import PostgresLeases
from events.postgres import PostgresEventStore
from projections import asof, table_sql
from projections.projection import fold
from projections.projector import Projector
from projections.session_state import Sessions, SessionState
from projections.table_store import TableStore
from projections.tables import SESSIONS, TABLES

EVENTS: Final = 1_000_000
PAGE: Final = 50_000  # events in memory while they are folded
ROUNDS: Final = 3
QUESTIONS: Final = 2_000
BARS: Final = {
    "fold_per_s": ">= 250,000",
    "project_per_s": ">= 20,000",
    "asof_p99_ms": "< 5",
    "startup_s": "< 4",
    "bytes_per_session": "< 3,000",
}


class Folded(msgspec.Struct, frozen=True):
    """Seconds that each projection took over the whole log; what it is made of; where each session began."""

    seconds: dict[str, float]
    states: dict[str, int]
    types: Counter[str]
    begun: list[tuple[str, int]]


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, in the units of ``BARS``."""

    fold_per_s: float
    project_per_s: float
    asof_p50_ms: float
    asof_p99_ms: float
    whole_s: float  # every session as of the head
    startup_s: float
    bytes_folded: float  # a live session's state, as the fold made it, and as it was read from its table
    bytes_read: float


async def main(events: int = EVENTS) -> dict[str, float]:
    """Prints tables; the figures."""
    async with server.server() as running:
        base = await server.database(running, "fold")
        foreign = Foreign(await server.postmaster(base))
        store = await server.store(base)
        try:
            await fill(store, events)
            await store.maintain()
            folded = await _fold(store, events)
            project_s = await _project(store, events)
            answers, whole_s = await _as_of(store, folded.begun, events)
            sessions = max(events // 10, len(folded.begun))
            await _open_more(store, sessions - len(folded.begun))
            startup_s = await _start(base, sessions)
        finally:
            await store.close()
        share = foreign.share()
    weights = _bytes_per_session(sessions)
    costs = Costs(
        fold_per_s=events / folded.seconds["sessions"],
        project_per_s=events / project_s,
        asof_p50_ms=answers[len(answers) // 2] * 1000,
        asof_p99_ms=answers[len(answers) * 99 // 100] * 1000,
        whole_s=whole_s,
        startup_s=startup_s,
        bytes_folded=weights[0],
        bytes_read=weights[1],
    )
    _show_mix(folded.types, events)
    _show_folds(folded, events, share)
    _show_costs(costs, sessions)
    result: dict[str, float] = {name: round(getattr(costs, name)) for name in ("fold_per_s", "project_per_s")}
    result |= {name: round(getattr(costs, name), 2) for name in ("asof_p99_ms", "startup_s")}
    return result | {"bytes_per_session": round(max(weights))}


async def _fold(store: PostgresEventStore, events: int) -> Folded:
    """Every projection alone over the same events in memory, decoding included; the median of the rounds of a page."""
    states: dict[str, dict[str, Any]] = {each.name: {} for each in TABLES}
    seconds, types, begun, after = dict.fromkeys(states, 0.0), Counter[str](), list[tuple[str, int]](), 0
    with progress() as bar:
        task = bar.add_task("fold", total=events)
        while page := await store.read_log(after=after, limit=PAGE):
            types.update(event.type for event in page)
            opens = [event for event in page if event.type == "session.requested"]
            begun += [(event.stream_id.removeprefix("session-"), event.position) for event in opens]
            for each in TABLES:
                spent = []
                for _ in range(ROUNDS):
                    made = dict(states[each.name])
                    gc.collect()
                    began = time.perf_counter()
                    fold(each.projection, made, page)
                    spent.append(time.perf_counter() - began)
                states[each.name] = made
                seconds[each.name] += statistics.median(spent)
            after = page[-1].position
            bar.update(task, completed=after)
    return Folded(seconds, {name: len(made) for name, made in states.items()}, types, begun)


async def _all_are_readable(event: RecordedEvent) -> None:
    """As in a gateway, where events of no table are decoded too, so that none that cannot be read is missed."""
    raise AssertionError(f"position {event.position} cannot be read")


async def _project(store: PostgresEventStore, events: int) -> float:
    """Seconds of the leased projector from empty tables to the head, all tables at once."""
    projector = Projector(store, TableStore(store.pool), PostgresLeases(store.pool), "bench", tell=_all_are_readable)
    with progress() as bar:
        task = bar.add_task("project", total=events)
        began = time.perf_counter()
        work = asyncio.create_task(projector.run_once())
        while not work.done():
            await asyncio.wait({work}, timeout=0.5)
            bar.update(task, completed=min(projector.positions.values(), default=0))
        spent = time.perf_counter() - began
        work.result()
    reached = (await TableStore(store.pool).checkpoints()).values()
    assert {checkpoint.position for checkpoint in reached} == {events}, "every table is at the head"
    await projector.close()
    return spent


async def _as_of(store: PostgresEventStore, begun: list[tuple[str, int]], head: int) -> tuple[list[float], float]:
    """Sorted seconds of one session's answers, sessions and positions by chance; seconds of the whole system's."""
    chance, spent = random.Random(1), []
    with progress() as bar:
        task = bar.add_task("as of", total=QUESTIONS)
        for _ in range(QUESTIONS):
            session_id, since = chance.choice(begun)
            position = chance.randint(since, head)
            began = time.perf_counter()
            state = await asof.session_as_of(store, session_id, position)
            spent.append(time.perf_counter() - began)
            assert state is not None and state.position <= position
            bar.advance(task)
    began = time.perf_counter()
    everything = await asof.as_of(store, Sessions(), head)
    assert len(everything) == len(begun)
    return sorted(spent), time.perf_counter() - began


async def _open_more(store: PostgresEventStore, count: int) -> None:
    """Live sessions beside those of the mix, straight into their table: only the start reads them."""
    if not count:
        return
    with progress() as bar:
        task = bar.add_task("open sessions", total=count)
        made = fold(Sessions(), {}, opened(count, lambda done: bar.update(task, completed=done)))
    rows = [SESSIONS.values(key, state) for key, state in made.items()]
    for start in range(0, count, PAGE // 10):
        part = rows[start : start + PAGE // 10]
        await store.pool.execute(table_sql.upsert(SESSIONS), *map(list, zip(*part, strict=True)), timeout=60)


async def _start(base: server.Base, sessions: int) -> float:
    """Seconds from the start of an interpreter until a gateway may serve (``startup``); the median of three."""
    spent = []
    with tempfile.TemporaryDirectory(prefix="session-gateway-bench-") as data_dir:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.startup", base.dsn, base.admin_dsn, data_dir),
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            told = json.loads(await process.stdout.readline())
            spent.append(time.perf_counter() - began)
            await process.wait()
            assert told["sessions"] == sessions, told
    return statistics.median(spent)


def _bytes_per_session(count: int) -> tuple[float, float]:
    """Memory of ``count`` live states and their dictionary: as folded, and as read from their table."""
    screen.print(f"weighing {count:,} live sessions")
    kept: list[tuple[str, bytes]] = []
    tracemalloc.start()
    try:
        folded = fold(Sessions(), {}, opened(count, lambda done: None))
        weight = _weight()
        tracemalloc.stop()
        kept = [(key, SESSIONS.kept(state)) for key, state in folded.items()]
        tracemalloc.start()
        read = started(kept)
        assert read == folded
        return weight / count, _weight() / count
    finally:
        tracemalloc.stop()


def started(kept: Iterable[tuple[str, bytes]]) -> dict[str, SessionState]:
    """What a start makes of the rows of its table (``TableSnapshot.states``): a key is a text of the row's own."""
    texts = ((str(bytes(key, "ascii"), "ascii"), state) for key, state in kept)
    return {key: SESSIONS.lean(key, SESSIONS.state_of(state)) for key, state in texts}


def _weight() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def opened(count: int, told: Callable[[int], None]) -> Iterator[RecordedEvent]:
    """The openings of ``count`` sessions as a log of their own."""
    mix, position, log_id = Mix(seed=2), 0, uuid.uuid4()
    for number in range(1, count + 1):
        for version, (stream, payload) in enumerate(mix.opening(), start=1):
            position += 1
            data = event_of(payload)
            yield RecordedEvent(
                log_id=log_id,
                stream_id=stream,
                version=version,
                position=position,
                recorded_at=data.occurred_at,
                **msgspec.structs.asdict(data),
            )
        told(number)


def _show_mix(types: Counter[str], events: int) -> None:
    rows = [(tag, f"{count:,}", f"{count / events:.1%}") for tag, count in types.most_common()]
    table("The mix", ("type", "events", "share"), rows)


def _show_folds(folded: Folded, events: int, foreign: float) -> None:
    rows = [
        (name, f"{events / spent:,.0f}", f"{spent / events * 1e6:.2f}", f"{folded.states[name]:,}")
        for name, spent in folded.seconds.items()
    ]
    table(
        f"Fold, each alone, median of {ROUNDS} rounds a page (foreign processor time {foreign:.0%})",
        ("projection", "events/s", "microseconds an event", "states"),
        rows,
    )


def _show_costs(costs: Costs, sessions: int) -> None:
    table(
        "What it costs to know",
        ("", "measured", "bar"),
        [
            ("fold of sessions, events/s", f"{costs.fold_per_s:,.0f}", BARS["fold_per_s"]),
            (f"projector into {len(TABLES)} tables, events/s", f"{costs.project_per_s:,.0f}", BARS["project_per_s"]),
            ("one session as of a position, p50 ms", f"{costs.asof_p50_ms:.2f}", ""),
            (f"p99 of {QUESTIONS:,}", f"{costs.asof_p99_ms:.2f}", BARS["asof_p99_ms"]),
            ("every session as of the head, s", f"{costs.whole_s:.1f}", ""),
            (f"start of a gateway with {sessions:,} sessions, s", f"{costs.startup_s:.2f}", BARS["startup_s"]),
            ("bytes a live session, as folded", f"{costs.bytes_folded:,.0f}", BARS["bytes_per_session"]),
            ("bytes a live session, as read from its table", f"{costs.bytes_read:,.0f}", BARS["bytes_per_session"]),
        ],
    )
