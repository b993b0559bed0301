"""The mix: what a log holds when sessions are opened, used and ended, two hundred of them at once.

A session is opened (6 events, with its seat and its token), used, and four of five are stopped again (5 events). In
between stand, on average: 34 exchanges, one stream opened and closed, one change of health and two summaries; now and
then a sum of exchanges, a token shown again, a denial, a reading of the log. Personal fields are sealed for real.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from events import codec
from events.catalogue import (
    AccessDenied,
    AdmissionGranted,
    AdmissionReleased,
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    ExchangeSummarized,
    HealthChanged,
    HealthSummarized,
    LogRead,
    Payload,
    SessionReady,
    SessionRequested,
    SessionStopped,
    SessionStopRequested,
    TokenIssued,
    TokenRevealed,
    TokenRevoked,
)
from events.codec import Cause
from events.envelope import (
    ADMISSION,
    ANY,
    SYSTEM,
    Actor,
    ActorKind,
    EventData,
    Sealed,
    StreamWrite,
    container_stream,
    session_stream,
)
from events.ids import uuid7
from events.sealing import Place, SubjectKey, seal

AT_ONCE: Final = 200
EXCHANGES: Final = 34  # of a session, on average: as many have few as have none, and some have hundreds
UNIT: Final = 100
OWNERS: Final = 2_000
_GATEWAY: Final = Actor(kind=ActorKind.GATEWAY, id="gateway-1-5f2c")
_FRONTEND: Final = Actor(kind=ActorKind.KEY, id="chat", key_id="key_0123456789abcdef")
_METADATA: Final = '{"project":"customer portal","team":"blue","ticket":"PORTAL-4711"}'
_ASKED: Final = '{"metadata":{"project":"customer portal","team":"blue","ticket":"PORTAL-4711"},"owner":"%s"}'
Step = tuple[str, Payload]  # stream and payload


class Owner(msgspec.Struct, frozen=True):
    """A person with a key of his own."""

    name: str
    key: SubjectKey


class Mix:
    """The same events on every run but for ids, keys and nonces."""

    def __init__(self, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._owners = [Owner(f"person-{n}@example.org", SubjectKey.new()) for n in range(OWNERS)]
        self._taken = 0
        self._opened = 0

    def events(self, count: int) -> Iterator[tuple[str, EventData]]:
        """``count`` events, each with its stream, in the order they happen."""
        running = [self._life() for _ in range(AT_ONCE)]
        for _ in range(count):
            slot = self._chance.randrange(AT_ONCE)
            step = next(running[slot], None)
            if step is None:
                running[slot] = self._life()
                step = next(running[slot])
            yield step[0], event_of(step[1])

    def units(self, count: int) -> Iterator[list[StreamWrite]]:
        """The same as units of at most ``UNIT`` events; a stream keeps its order."""
        unit: dict[str, list[EventData]] = {}
        for number, (stream, event) in enumerate(self.events(count), start=1):
            unit.setdefault(stream, []).append(event)
            if number % UNIT == 0 or number == count:
                yield [StreamWrite(name, ANY, tuple(events)) for name, events in unit.items()]
                unit = {}

    def opening(self) -> list[Step]:
        """A session that is live afterwards, and its seat."""
        self._opened += 1
        session_id, container = f"ses_{self._chance.randbytes(12).hex()}", f"sg-{self._chance.randbytes(8).hex()}"
        owner = self._chance.choice(self._owners)
        stream, facts = session_stream(session_id), container_stream(container)
        fact: dict[str, Any] = {"session_id": session_id, "generation": 1, "container": container}
        runs_as = self._chance.randbytes(32).hex()
        requested = SessionRequested(
            **fact,
            image="session/opencode:1.0.0",
            runtime="docker",
            volumes=(f"{container}-home", f"{container}-work"),
            opened_by="key_0123456789abcdef",
            owner=_sealed(owner, owner.name, stream, "session.requested", "owner"),
            metadata=_sealed(owner, _METADATA, stream, "session.requested", "metadata"),
            asked=_sealed(owner, _ASKED % owner.name, stream, "session.requested", "asked"),
            instance="gateway-1-5f2c",
        )
        token = TokenIssued(
            session_id=session_id,
            serial=1,
            sha256=self._chance.randbytes(32).hex(),
            secret_id="secret-1",
            expires_at=datetime.now(UTC) + timedelta(hours=24),
        )
        self._taken += 1
        port = 32_768 + self._opened % 28_000
        return [
            (stream, requested),
            (stream, token),
            (ADMISSION, AdmissionGranted(session_id=session_id, generation=1, taken=self._taken, limit=100_000)),
            (facts, ContainerCreated(**fact, container_id=runs_as, image="session/opencode:1.0.0", runtime="docker")),
            (facts, ContainerStarted(**fact, container_id=runs_as, host="127.0.0.1", port=port)),
            (stream, SessionReady(**fact, boot_us=1_250_000)),
        ]

    def _life(self) -> Iterator[Step]:
        opening = self.opening()
        requested = opening[0][1]
        assert isinstance(requested, SessionRequested)
        yield from opening
        uses = min(int(self._chance.expovariate(1 / EXCHANGES)), 2_000)
        rare = self._rare(requested)
        for nth in range(uses):
            if rare and self._chance.random() < len(rare) / (uses - nth):
                yield rare.pop(0)
            yield self._exchange(requested, ExchangeCompleted)
        yield from rare
        if self._chance.random() < 0.8:
            yield from self._end(requested)

    def _rare(self, of: SessionRequested) -> list[Step]:
        """What a session has one or two of."""
        facts = container_stream(of.container)
        subject: dict[str, Any] = {"session_id": of.session_id, "container": of.container}
        change = HealthChanged(**subject, before="unknown", after="healthy", reason="answered", response_us=4_100)
        rare: list[Step] = [(facts, change), *(self._exchange(of, kind) for kind in (ExchangeOpened, ExchangeClosed))]
        now = datetime.now(UTC)
        for _ in range(2):
            summary = HealthSummarized(
                **subject,
                first_at=now - timedelta(minutes=10),
                last_at=now,
                checks=20,
                healthy=20,
                failed=0,
                status="healthy",
                response_us=85_000,
                slowest_us=9_400,
                response_times=(0, 2, 5, 9, 3, 1),
            )
            rare.append((facts, summary))
        if self._chance.random() < 0.1:
            told = ExchangeSummarized(
                **subject, exchanges=40, failed=1, bytes_in=9_000, bytes_out=90_000, reason="queue_full", last_at=now
            )
            rare.append((facts, told))
        if self._chance.random() < 0.3:
            rare.append((session_stream(of.session_id), TokenRevealed(session_id=of.session_id, serial=1)))
        if self._chance.random() < 0.5:
            denied = AccessDenied(reason="bad_credential", status=401, method="GET", route="/s/{id}/{path}")
            rare.append((SYSTEM, msgspec.structs.replace(denied, session_id=of.session_id)))
        if self._chance.random() < 0.5:
            rare.append((SYSTEM, LogRead(what="session", session_id=of.session_id, purpose="incident 17")))
        return rare

    def _exchange(self, of: SessionRequested, kind: Any) -> Step:
        stream = container_stream(of.container)
        common: dict[str, Any] = {"session_id": of.session_id, "container": of.container}
        ended: dict[str, Any] = {"status": 200, "bytes_in": 180, "bytes_out": 4_200, "duration_us": 8_300}
        ended["ended_by"] = "container"
        if kind is ExchangeClosed:
            return stream, ExchangeClosed(**common, **ended, exchange_id=f"{of.container}-events", kind="sse")
        owner = self._owners[self._opened % OWNERS]
        tag = kind.__struct_config__.tag
        path = _sealed(owner, "/session/ses_4f1c/message", stream, tag, "path")
        common |= {"method": "GET", "path": path, "client": _sealed(owner, "192.0.2.17", stream, tag, "client")}
        if kind is ExchangeOpened:
            return stream, ExchangeOpened(**common, exchange_id=f"{of.container}-events", kind="sse")
        return stream, ExchangeCompleted(**common, **ended, exchange_id=str(uuid7()), first_byte_us=6_700)

    def _end(self, of: SessionRequested) -> list[Step]:
        stream, ended = session_stream(of.session_id), {"session_id": of.session_id, "generation": 1}
        subject: dict[str, Any] = ended
        self._taken -= 1
        return [
            (stream, SessionStopRequested(**subject, reason="asked")),
            (stream, TokenRevoked(session_id=of.session_id, serial=1, reason="stopped")),
            (container_stream(of.container), ContainerRemoved(**subject, container=of.container)),
            (stream, SessionStopped(**subject)),
            (ADMISSION, AdmissionReleased(**subject)),
        ]


def _sealed(owner: Owner, clear: str, stream: str, tag: str, field: str) -> Sealed:
    return seal(owner.key, clear, Place(stream, tag, field))


def event_of(payload: Payload) -> EventData:
    """A new event, by the codec."""
    cause = Cause(correlation_id=uuid7(), trace_id=bytes(range(16)), span_id=bytes(range(8)))
    actor = _FRONTEND if isinstance(payload, AccessDenied | LogRead | SessionRequested) else _GATEWAY
    return codec.event(payload, actor=actor, occurred_at=datetime.now(UTC), cause=cause)
