"""Events about a few sessions, and any list of payloads as the log would hold it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from events import codec
from events.catalogue import (
    AdmissionGranted,
    AdmissionReleased,
    ContainerAdopted,
    ContainerCreated,
    ContainerDied,
    ContainerLost,
    ContainerRemoved,
    ContainerStarted,
    ExchangeClosed,
    ExchangeCompleted,
    Payload,
    SessionFailed,
    SessionImported,
    SessionReady,
    SessionRequested,
    SessionResumed,
    SessionStopped,
    SessionStopRequested,
    TokenIssued,
    TokenRevoked,
)
from events.envelope import ADMISSION, KEYS, SYSTEM, RecordedEvent, container_stream, gateway_stream, session_stream
from events.registry import tag_of
from tests.factories import GATEWAY, LOG_ID, MOMENT, SEALED


def one_of_each(session_id: str, generation: int) -> list[Payload]:
    """One of each kind about one generation of a session."""
    container = f"{session_id}-c{generation}"
    subject: dict[str, Any] = {"session_id": session_id, "generation": generation}
    fact: dict[str, Any] = {**subject, "container": container}
    used: dict[str, Any] = {"session_id": session_id, "container": container, "exchange_id": "x"}
    ended: dict[str, Any] = {"status": 200, "bytes_in": 1, "bytes_out": 2, "duration_us": 3, "ended_by": "container"}
    return [
        SessionRequested(
            **fact, image="echo", runtime="mock", volumes=("h", "w"), opened_by="k1", owner=SEALED, instance="g1"
        ),
        SessionReady(**fact, boot_us=5),
        SessionFailed(**subject, reason="not_ready", detail="No answer."),
        SessionStopRequested(**subject, reason="asked"),
        SessionStopped(**subject),
        SessionResumed(**fact, image="echo", runtime="mock", instance="g1"),
        TokenIssued(
            session_id=session_id, serial=generation, sha256="aa", secret_id="s", expires_at=MOMENT + timedelta(days=1)
        ),
        TokenRevoked(session_id=session_id, serial=generation, reason="stopped"),
        ContainerCreated(**fact, container_id="i", image="echo", runtime="mock"),
        ContainerStarted(**fact, container_id="i", host="127.0.0.1", port=4096),
        ContainerDied(**fact, container_id="i", exit_code=1),
        ContainerRemoved(**fact),
        ContainerAdopted(**fact, container_id="i", host="127.0.0.1", port=4097, instance="g2"),
        ContainerLost(**fact),
        ExchangeCompleted(**used, **ended, method="GET", path=SEALED, first_byte_us=1),
        ExchangeClosed(**used, **ended, kind="sse"),
        AdmissionGranted(**subject, taken=1, limit=3),
        AdmissionReleased(**subject),
        SessionImported(session_id=session_id, status="running", created_at=MOMENT, opened_by="k1", owner=SEALED),
    ]


ALL = [payload for name in ("a", "b") for generation in (1, 2) for payload in one_of_each(name, generation)]


def stream_of(payload: Any) -> str:
    if isinstance(payload, AdmissionGranted | AdmissionReleased):
        return ADMISSION
    family = tag_of(payload).partition(".")[0]
    if family in ("session", "token"):
        return session_stream(payload.session_id)
    if family in ("container", "exchange", "health"):
        return container_stream(payload.container)
    if family in ("gateway", "alert"):
        return gateway_stream(payload.instance)
    return KEYS if family == "api_key" else SYSTEM


def record(payloads: Sequence[Payload]) -> list[RecordedEvent]:
    """The payloads as one log: positions and versions without gaps, a second apart."""
    versions: dict[str, int] = {}
    recorded = []
    for position, payload in enumerate(payloads, start=1):
        stream_id = stream_of(payload)
        versions[stream_id] = versions.get(stream_id, 0) + 1
        at = MOMENT + timedelta(seconds=position)
        data = codec.event(payload, actor=GATEWAY, occurred_at=at)
        recorded.append(
            RecordedEvent(
                log_id=LOG_ID,
                stream_id=stream_id,
                version=versions[stream_id],
                position=position,
                recorded_at=at,
                event_id=data.event_id,
                type=data.type,
                schema_version=data.schema_version,
                payload=data.payload,
                actor=data.actor,
                occurred_at=at,
            )
        )
    return recorded


histories = st.lists(st.sampled_from(ALL), max_size=60).map(record)
"""Any mixture of these; ``tests/laws/strategies.py`` has those of every event, and lives of sessions."""
