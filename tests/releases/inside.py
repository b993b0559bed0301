"""Runs inside a product, this one or a released one (PYTHONPATH says which), and uses only what every release has.

inside.py fill   ADMIN_DSN APP_DSN USER SQL GOLDEN   an event of each type it knows; its leaves, a line each
inside.py write  ADMIN_DSN APP_DSN USER SQL NAME     units without end, a line each that was acknowledged; SIGTERM ends
inside.py apply  ADMIN_DSN APP_DSN USER SQL          when a line comes: how many files it ran
"""

import asyncio
import hashlib
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from events import codec, schema
from events.envelope import ANY, NEW, Actor, ActorKind, EventData, ExpectedVersion, RecordedEvent, StreamWrite
from events.errors import StoreUnavailable
from events.ids import uuid7
from events.lease import PostgresLeases
from events.postgres import PostgresEventStore
from events.registry import EVENT_TYPES
from events.store import Appended

ACTOR = codec.canonical(Actor(kind=ActorKind.GATEWAY, id="inside"))
STOPPED = b'{"generation":1,"session_id":"s","type":"session.stopped"}'


def event(tag: str, version: int, payload: bytes) -> EventData:
    return EventData(
        event_id=uuid7(),
        type=tag,
        schema_version=version,
        payload=payload,
        actor=ACTOR,
        causation_id=uuid7(),
        correlation_id=uuid7(),
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        occurred_at=datetime.now(UTC),
    )


async def whole(store: PostgresEventStore) -> list[RecordedEvent]:
    found: list[RecordedEvent] = []
    while page := await store.read_log(after=len(found), limit=1000):
        found += page
    return found


async def fill(store: PostgresEventStore, golden: str) -> None:
    for tag, known in EVENT_TYPES.items():
        payload = (Path(golden) / f"{tag}.v{known.schema_version}.json").read_bytes()
        one = event(tag, known.schema_version, payload)
        await acknowledged(store, StreamWrite(f"session-{tag}", NEW, (one,)))
    for number in range(20):
        expected: ExpectedVersion = number or NEW
        stopped = [event("session.stopped", 1, STOPPED) for _ in range(3)]
        writes = (StreamWrite("session-long", expected, (stopped[0],)), StreamWrite("system", ANY, tuple(stopped[1:])))
        await acknowledged(store, *writes)
    assert await PostgresLeases(store.pool).claim("job", "inside") is not None
    for recorded in await whole(store):
        print(codec.leaf_bytes(recorded).hex(), flush=True)


async def write(store: PostgresEventStore, name: str) -> None:
    """Each unit: the next of a stream of its own, at its version, and one of a stream that all writers share."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    number = 0
    while not stop.is_set():
        mine, shared = event("session.stopped", 1, STOPPED), event("session.stopped", 1, STOPPED)
        own = StreamWrite(f"session-{name}", number or NEW, (mine,))
        done = await acknowledged(store, own, StreamWrite("system", ANY, (shared,)))
        number += 1
        assert done.versions[0] == number
        print(json.dumps([str(mine.event_id), str(shared.event_id), done.first_position]), flush=True)
    leaves = hashlib.sha256()
    for recorded in await whole(store):
        leaves.update(codec.leaf_bytes(recorded))
    print(leaves.hexdigest(), flush=True)


async def acknowledged(store: PostgresEventStore, *writes: StreamWrite) -> Appended:
    """Sent again, with the same ids, until it is known to be there."""
    for _ in range(100):
        try:
            outcome = await store.append(*writes)
        except StoreUnavailable as error:
            print(f"again: {error}", file=sys.stderr)
            await asyncio.sleep(0.05)
            continue
        assert isinstance(outcome, Appended), outcome
        return outcome
    raise SystemExit("the log was away for too long")


async def main(what: str, admin: str, app: str, user: str, sql: str, *rest: str) -> None:
    if what == "apply":
        print("ready", flush=True)
        sys.stdin.readline()
    applied = await schema.apply(admin, user, directory=Path(sql))
    if what == "apply":
        print(len(applied.files), flush=True)
        return
    store = await PostgresEventStore.connect(app)
    try:
        await {"fill": fill, "write": write}[what](store, *rest)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
