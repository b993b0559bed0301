"""What each projection makes of one history that never changes: golden, a file for each version of its fold.

A process starts from states that another one has kept. A fold or a state that changes under the same version would go
on from what it would not have made itself.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from events.catalogue import (
    AdmissionGranted,
    AdmissionReleased,
    ApiKeyCreated,
    ApiKeyRevoked,
    ContainerAdopted,
    ContainerCreated,
    ContainerDied,
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
    SessionFailed,
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
from events.envelope import RecordedEvent
from events.ids import named
from projections.projection import fold
from projections.table import Table
from projections.tables import TABLES
from tests.factories import MOMENT, event, payload, recorded

FOLDER: Final = Path(__file__).parent / "states"
_SECOND: Final[dict[str, Any]] = {"generation": 2}
_HISTORY: Final[Sequence[Any]] = (
    *(GatewayStarted, ApiKeyCreated, SessionRequested, TokenIssued, AdmissionGranted, ContainerCreated),
    *(ContainerStarted, SessionReady, ExchangeCompleted, ExchangeOpened, HealthChanged, HealthSummarized),
    *(ExchangeClosed, ExchangeSummarized, TokenRevealed, ContainerAdopted, ContainerDied, SessionFailed, TokenRevoked),
    *(AdmissionReleased, SessionResumed, payload(AdmissionGranted, **_SECOND), payload(TokenIssued, serial=2)),
    *(payload(ContainerCreated, **_SECOND, container="c2"), payload(ContainerStarted, **_SECOND, container="c2")),
    *(payload(SessionReady, **_SECOND, container="c2"), payload(SessionReady, **_SECOND, container="c2")),
    *(payload(ExchangeOpened, container="c2", exchange_id="x2"), GatewayCrashed, ApiKeyRevoked, SubjectErased),
    *(payload(GatewayStarted, instance="g2"), payload(ContainerRemoved), SessionStopRequested),
    *(payload(SessionStopped, **_SECOND), payload(GatewayStopped, instance="g2")),
    payload(SessionRequested, session_id="s3", container="c3"),
    *(payload(kind, session_id="s3") for kind in (SessionStopRequested, SessionStopped)),
    ContainerMemoryExhausted,
)


def path_of(table: Table[Any]) -> Path:
    return FOLDER / f"{table.name}.v{table.projection.version}.json"


def missing() -> dict[Path, bytes]:
    """The golden files that are not there yet."""
    return {path_of(table): made(table) for table in TABLES if not path_of(table).exists()}


def made(table: Table[Any]) -> bytes:
    """Its states as they are kept, and the rows that people see, of the history."""
    states = fold(table.projection, {}, _events())
    told = {
        key: {"row": [_plain(value) for value in table.row(key, state)], "state": msgspec.Raw(table.kept(state))}
        for key, state in sorted(states.items())
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


def _events() -> list[RecordedEvent]:
    return [
        recorded(
            event(of, event_id=named("golden-state", str(number)), occurred_at=MOMENT + timedelta(seconds=number)),
            position=number,
            version=number,
            recorded_at=MOMENT + timedelta(seconds=number, milliseconds=5),
        )
        for number, of in enumerate(_HISTORY, start=1)
    ]


def _plain(value: Any) -> Any:
    return msgspec.Raw(value.encode()) if isinstance(value, str) and value.startswith("{") else value
