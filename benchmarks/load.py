"""The load: events like a session's, 245 bytes of payload, in streams of 20, each with the version it expects."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from events import codec
from events.catalogue import ContainerStarted
from events.codec import Cause
from events.envelope import ANY, Actor, ActorKind, EventData, StreamWrite, session_stream
from events.ids import short, uuid7
from events.store import Appended, EventStore

STREAM_EVENTS: Final = 20
_ACTOR: Final = Actor(kind=ActorKind.GATEWAY, id="bench", key_id="0123456789abcdef")
_CAUSE: Final = Cause(correlation_id=uuid7(), trace_id=bytes(range(16)), span_id=bytes(range(8)))


def payload() -> ContainerStarted:
    """About 245 bytes as JSON, made and encoded for each event, as every producer does."""
    return ContainerStarted(
        container="c" * 40, session_id="s" * 26, generation=1, container_id="f" * 64, host="127.0.0.1", port=32_768
    )


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
    """A new event."""
    return codec.event(payload(), actor=_ACTOR, occurred_at=datetime.now(UTC), cause=_CAUSE)


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
