"""The load: events like a session's, 245 bytes of payload, in streams of 20, each with the version it expects."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from events import codec
from events.envelope import ANY, Actor, ActorKind, EventData, StreamWrite, session_stream
from events.ids import short, uuid7
from events.store import Appended, EventStore

STREAM_EVENTS: Final = 20
_ACTOR: Final = codec.canonical(Actor(kind=ActorKind.GATEWAY, id="bench", key_id="0123456789abcdef"))
PAYLOAD: Final = codec.canonical({"session_id": "s" * 32, "container": "c" * 40, "note": "x" * 128})[:245]
assert len(PAYLOAD) > 200


class Measured(msgspec.Struct, frozen=True):
    """What one cell of a round did."""

    events: int
    seconds: float
    latencies: tuple[float, ...] = ()  # seconds of each call, sorted

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    def quantile(self, share: float) -> float:
        """Seconds that ``share`` of the calls did not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


def event() -> EventData:
    """A new event; only its id and time are made each time, as a peer makes them too."""
    return EventData(
        event_id=uuid7(),
        type="session.ready",
        schema_version=1,
        payload=PAYLOAD,
        actor=_ACTOR,
        correlation_id=_CORRELATION,
        trace_id=_TRACE,
        span_id=_TRACE[:8],
        occurred_at=datetime.now(UTC),
    )


_CORRELATION: Final = uuid7()
_TRACE: Final = bytes(range(16))


async def producers(count: int, seconds: float, produce: Callable[[float, list[float]], Awaitable[int]]) -> Measured:
    """``count`` tasks for ``seconds``; ``produce`` works until a moment, notes its latencies and answers its events."""
    latencies: list[float] = []
    began = time.perf_counter()
    done = await asyncio.gather(*(produce(began + seconds, latencies) for _ in range(count)))
    return Measured(sum(done), time.perf_counter() - began, tuple(sorted(latencies)))


async def append_streams(store: EventStore, until: float, latencies: list[float]) -> int:
    """One event a call, in streams of 20, with expected versions."""
    events = version = 0
    stream_id = ""
    while (now := time.perf_counter()) < until:
        if version % STREAM_EVENTS == 0:
            stream_id, version = session_stream(short()), 0
        outcome = await store.append(StreamWrite(stream_id, version, (event(),)))
        assert isinstance(outcome, Appended), outcome
        latencies.append(time.perf_counter() - now)
        version += 1
        events += 1
    return events


async def append_one_stream(store: EventStore, stream_id: str, until: float, latencies: list[float]) -> int:
    """One event a call, all in one stream, expecting nothing."""
    events = 0
    while (now := time.perf_counter()) < until:
        await store.append(StreamWrite(stream_id, ANY, (event(),)))
        latencies.append(time.perf_counter() - now)
        events += 1
    return events


async def fill(store: EventStore, total: int, told: Callable[[int], None]) -> None:
    """``total`` events in whole streams of 20, a unit each; ``told`` hears how many are there."""
    made = 0

    async def one() -> None:
        nonlocal made
        while made < total:
            size = min(STREAM_EVENTS, total - made)
            made += size
            await store.append(StreamWrite(session_stream(short()), 0, tuple(event() for _ in range(size))))
            told(made)

    await asyncio.gather(*(one() for _ in range(24)))
