"""Builders that give a valid value in one call: a payload and an event of every type, a unit, a recorded event.

Samples are the same on every run, since the golden files are made from them. Ids and stream names are new each time.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from events import codec
from events.catalogue import (
    AccessDenied,
    AdmissionDenied,
    AdmissionGranted,
    AdmissionReleased,
    AlertCleared,
    AlertRaised,
    ApiKeyCreated,
    ApiKeyRevoked,
    CertificateExpiryWarned,
    CertificateRefused,
    CertificateRotated,
    CertificateUsed,
    ContainerAdopted,
    ContainerCreated,
    ContainerDied,
    ContainerLost,
    ContainerMemoryExhausted,
    ContainerRemoved,
    ContainerStarted,
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    ExchangeSummarized,
    GatewayCrashed,
    GatewayStarted,
    GatewayStopped,
    HealthChanged,
    HealthSummarized,
    LogForkAccepted,
    LogRead,
    Payload,
    ProjectionRebuilt,
    ProjectionVerified,
    SessionDataRemoved,
    SessionFailed,
    SessionImported,
    SessionReady,
    SessionRequested,
    SessionResumed,
    SessionStopped,
    SessionStopRequested,
    SubjectErased,
    TokenIssued,
    TokenRevealed,
    TokenRevoked,
)
from events.codec import Cause
from events.envelope import (
    ANY,
    Actor,
    ActorKind,
    Assurance,
    EventData,
    ExpectedVersion,
    RecordedEvent,
    Sealed,
    StreamWrite,
    session_stream,
)
from events.ids import short, uuid7
from events.sealing import SubjectKey

P = TypeVar("P")

MOMENT: Final = datetime(2026, 1, 18, 22, 29, 4, tzinfo=UTC)
LOG_ID: Final = UUID("3f0f6b0a-6f0e-4b6e-9d57-0a4f5f0e7c11")
# "Ada" as the owner of session.requested in session-s1, sealed under KEY with the nonce 00 01 .. 0b.
KEY: Final = SubjectKey("sk_000102030405060708090a0b", bytes(range(32)))
SEALED: Final = Sealed(k=KEY.id, n="AAECAwQFBgcICQoL", c="Bma3oz2UI6NuCzzIsvtKB_bbXw")
GATEWAY: Final = Actor(kind=ActorKind.GATEWAY, id="g1")
FRONTEND: Final = Actor(kind=ActorKind.KEY, id="chat", key_id="k1", on_behalf_of=SEALED, assurance=Assurance.ASSERTED)
CAUSE: Final = Cause(
    causation_id=UUID("01934f3c-7b2a-7c3e-8a54-1f0e6b6a9d01"),
    correlation_id=UUID("01934f3c-7b2a-7c3e-8a54-1f0e6b6a9d02"),
    trace_id=bytes(range(16)),
    span_id=bytes(range(8)),
)
_HASH: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_CONTAINER: Final[dict[str, Any]] = {"container": "c1", "session_id": "s1", "generation": 1}
_SESSION: Final[dict[str, Any]] = {"session_id": "s1", "generation": 1}
_EXCHANGE: Final[dict[str, Any]] = {"session_id": "s1", "container": "c1", "exchange_id": "x1"}

_SAMPLES: Final[tuple[Payload, ...]] = (
    SessionRequested(
        session_id="s1",
        generation=1,
        container="c1",
        image="session/opencode:1",
        runtime="docker",
        volumes=("v-data", "v-workspace"),
        host_dir=SEALED,
        host_dir_mac=_HASH,
        opened_by="k1",
        owner=SEALED,
        metadata=SEALED,
        asked=SEALED,
        instance="g1",
    ),
    SessionReady(**_SESSION, container="c1", boot_us=1_250_000),
    SessionFailed(**_SESSION, reason="not_ready", detail="no answer on port 4096"),
    SessionStopRequested(**_SESSION, reason="asked"),
    SessionStopped(**_SESSION),
    SessionResumed(
        session_id="s1", generation=2, container="c2", image="session/opencode:1", runtime="docker", instance="g1"
    ),
    SessionDataRemoved(session_id="s1", volumes=("v-data", "v-workspace"), reason="erased"),
    SessionImported(
        session_id="s1",
        status="running",
        created_at=MOMENT,
        last_accessed=MOMENT + timedelta(hours=1),
        container_name="chat-1",
        container_id="0f1e2d",
        port=4096,
        opened_by="k1",
        owner=SEALED,
        host_dir=SEALED,
        metadata=SEALED,
        rest=SEALED,
    ),
    TokenIssued(session_id="s1", serial=1, sha256=_HASH, secret_id="t1", expires_at=MOMENT + timedelta(hours=24)),
    TokenRevealed(session_id="s1", serial=1),
    TokenRevoked(session_id="s1", serial=1, reason="stopped"),
    ContainerCreated(**_CONTAINER, container_id="0f1e2d", image="session/opencode:1", runtime="docker"),
    ContainerStarted(**_CONTAINER, container_id="0f1e2d", host="127.0.0.1", port=32_768),
    ContainerDied(**_CONTAINER, container_id="0f1e2d", exit_code=137, oom_killed=True),
    ContainerMemoryExhausted(**_CONTAINER, container_id="0f1e2d"),
    ContainerRemoved(**_CONTAINER),
    ContainerAdopted(**_CONTAINER, container_id="0f1e2d", host="127.0.0.1", port=32_768, instance="g1"),
    ContainerLost(**_CONTAINER, exit_code=1, oom_killed=False),
    ExchangeCompleted(
        **_EXCHANGE,
        method="POST",
        path=SEALED,
        status=200,
        bytes_in=12,
        bytes_out=345,
        first_byte_us=6_789,
        duration_us=7_890,
        ended_by="container",
        error="upstream_timeout",
        client=SEALED,
    ),
    ExchangeOpened(**_EXCHANGE, kind="sse", method="GET", path=SEALED, client=SEALED),
    ExchangeClosed(
        **_EXCHANGE,
        kind="sse",
        status=200,
        bytes_in=0,
        bytes_out=9_007_199_254_740_991,
        duration_us=1,
        ended_by="client",
        error="client_left",
    ),
    ExchangeSummarized(
        session_id="s1",
        container="c1",
        exchanges=17,
        failed=2,
        bytes_in=1,
        bytes_out=2,
        reason="queue_full",
        closed=3,
        first_at=MOMENT,
        last_at=MOMENT + timedelta(seconds=60),
    ),
    HealthChanged(
        session_id="s1",
        container="c1",
        before="healthy",
        after="unhealthy",
        reason="timeout",
        failures=3,
        response_us=9,
    ),
    HealthSummarized(
        session_id="s1",
        container="c1",
        first_at=MOMENT,
        last_at=MOMENT + timedelta(minutes=10),
        checks=20,
        healthy=17,
        failed=3,
        status="healthy",
        response_us=85_000,
        slowest_us=12_345,
        response_times=(0, 2, 5, 9, 0, 0, 1),
    ),
    AccessDenied(reason="wrong_role", status=403, method="GET", route="/sessions/{id}", session_id="s1", client=SEALED),
    LogRead(
        what="events",
        after=1,
        until=9,
        types=("session.*", "log.read"),
        stream="session-s1",
        session_id="s1",
        actor="key:chat",
        trace_id="000102030405060708090a0b0c0d0e0f",
        correlation_id="01934f3c-7b2a-7c3e-8a54-1f0e6b6a9d02",
        purpose=SEALED,
    ),
    LogForkAccepted(same_until=20, differs_from=21, known_until=50),
    SubjectErased(key_ids=(KEY.id,), reason="asked"),
    ApiKeyCreated(key_id="k1", name="chat", role="frontend", sha256=_HASH, expires_at=MOMENT + timedelta(days=90)),
    ApiKeyRevoked(key_id="k1"),
    AdmissionGranted(**_SESSION, taken=1, limit=3),
    AdmissionReleased(**_SESSION),
    AdmissionDenied(key_id="k1", reason="limit", taken=3, limit=3),
    GatewayStarted(instance="g1", release="0.1.0", runtime="docker", python="3.11.7", server="hypercorn"),
    GatewayStopped(instance="g1", reason="signal"),
    GatewayCrashed(instance="g1", found_by="g2"),
    ProjectionRebuilt(
        projection="sessions", version=3, position=900, rows=12, differing=1, reason="asked", duration_us=1_500_000
    ),
    ProjectionVerified(
        projection="sessions", version=3, position=900, rows=12, differing=1, examples=("s1",), duration_us=1_500_000
    ),
    AlertRaised(instance="g1", name="log_away", detail="The event log cannot be reached."),
    AlertCleared(instance="g1", name="log_away", since=MOMENT, lasted_ms=61_500, replayed=17, refused=2),
    CertificateExpiryWarned(instance="g1", role="client", sha256=_HASH, not_after=MOMENT),
    CertificateUsed(instance="g1", role="ca", certificates=((_HASH, MOMENT),)),
    CertificateRotated(instance="g1", role="client", added=((_HASH, MOMENT),), removed=((_HASH, MOMENT),)),
    CertificateRefused(instance="g1", reason="key_mismatch", detail="The new key is of another certificate."),
)
SAMPLES: Final[dict[type[Any], Payload]] = {type(sample): sample for sample in _SAMPLES}


def payload(kind: type[P], **fields: Any) -> P:
    """A valid payload of ``kind`` with every field filled; ``fields`` replace the sample's."""
    sample: Any = SAMPLES[kind]
    changed: P = msgspec.structs.replace(sample, **fields)
    return changed


def event(
    of: type[Any] | Payload = SessionStopped,
    *,
    actor: Actor = GATEWAY,
    cause: Cause = codec.NO_CAUSE,
    occurred_at: datetime = MOMENT,
    event_id: UUID | None = None,
    **fields: Any,
) -> EventData:
    """An event to write, with an id of its own: of a payload, or of the sample of a type with ``fields`` replaced."""
    body = payload(of, **fields) if isinstance(of, type) else of
    return codec.event(body, actor=actor, occurred_at=occurred_at, cause=cause, event_id=event_id)


def events(count: int) -> tuple[EventData, ...]:
    return tuple(event() for _ in range(count))


def write(stream_id: str, *of: EventData | type[Any] | Payload, expected: ExpectedVersion = ANY) -> StreamWrite:
    """What one unit writes to one stream; one event when none is given."""
    written = [one if isinstance(one, EventData) else event(one) for one in of]
    return StreamWrite(stream_id, expected, tuple(written or [event()]))


def new_stream() -> str:
    """The name of a session's stream that nobody has used."""
    return session_stream(short())


def recorded(
    of: type[Any] | Payload | EventData = SessionStopped,
    *,
    position: int = 1,
    version: int = 1,
    stream_id: str = "session-s1",
    recorded_at: datetime = MOMENT,
    log_id: UUID = LOG_ID,
    **fields: Any,
) -> RecordedEvent:
    """An event as a log would hold it."""
    data = of if isinstance(of, EventData) else event(of, **fields)
    return RecordedEvent(
        log_id=log_id,
        stream_id=stream_id,
        version=version,
        position=position,
        recorded_at=recorded_at,
        **msgspec.structs.asdict(data),
    )


def history(stream_id: str, payloads: Sequence[type[Any] | Payload], *, after: int = 0) -> list[RecordedEvent]:
    """The payloads as one stream of a log, a second between them, from position and version ``after`` + 1."""
    return [
        recorded(
            of,
            stream_id=stream_id,
            position=after + number,
            version=after + number,
            recorded_at=MOMENT + timedelta(seconds=number),
        )
        for number, of in enumerate(payloads, start=1)
    ]


def raw(**fields: Any) -> EventData:
    """An event that ``codec`` did not make: whatever ``fields`` say, unchecked."""
    return msgspec.structs.replace(event(), **{"event_id": uuid7(), **fields})
