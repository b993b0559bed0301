"""The vocabulary: one frozen struct an event, a module a family. Importing it fills ``registry``.

Every payload is canonical JSON without floats: counts and microseconds are integers, times are RFC 3339 in UTC.
A field that can name a person is ``Sealed``. A field is never removed or given another meaning: a new shape is a new
``schema_version`` with an upcaster, and a golden file for each. ``session.requested`` was widened under version 1,
since a release that passes over an opening takes its container for nobody's (decision 34).
"""

from events.catalogue.access import AccessDenied, ApiKeyCreated, ApiKeyRevoked, LogForkAccepted, LogRead, SubjectErased
from events.catalogue.admission import AdmissionDenied, AdmissionGranted, AdmissionReleased
from events.catalogue.alert import AlertCleared, AlertRaised
from events.catalogue.certificate import (
    CertificateExpiryWarned,
    CertificateRefused,
    CertificateRotated,
    CertificateUsed,
)
from events.catalogue.container import (
    ContainerAdopted,
    ContainerCreated,
    ContainerDied,
    ContainerLost,
    ContainerMemoryExhausted,
    ContainerRemoved,
    ContainerStarted,
)
from events.catalogue.exchange import ExchangeClosed, ExchangeCompleted, ExchangeOpened, ExchangeSummarized
from events.catalogue.health import HealthChanged, HealthSummarized
from events.catalogue.projection import ProjectionRebuilt, ProjectionVerified
from events.catalogue.session import (
    SessionDataRemoved,
    SessionFailed,
    SessionImported,
    SessionReady,
    SessionRequested,
    SessionResumed,
    SessionStopped,
    SessionStopRequested,
    TokenIssued,
    TokenRevealed,
    TokenRevoked,
)
from events.catalogue.system import GatewayCrashed, GatewayStarted, GatewayStopped

SessionEvent = (
    SessionRequested
    | SessionReady
    | SessionFailed
    | SessionStopRequested
    | SessionStopped
    | SessionResumed
    | SessionDataRemoved
    | SessionImported
    | TokenIssued
    | TokenRevealed
    | TokenRevoked
)
ContainerEvent = (
    ContainerCreated
    | ContainerStarted
    | ContainerDied
    | ContainerMemoryExhausted
    | ContainerRemoved
    | ContainerAdopted
    | ContainerLost
)
ExchangeEvent = ExchangeCompleted | ExchangeOpened | ExchangeClosed | ExchangeSummarized
HealthEvent = HealthChanged | HealthSummarized
AdmissionEvent = AdmissionGranted | AdmissionDenied | AdmissionReleased
KeyEvent = ApiKeyCreated | ApiKeyRevoked
AlertEvent = AlertRaised | AlertCleared
CertificateEvent = CertificateExpiryWarned | CertificateUsed | CertificateRotated | CertificateRefused
ProjectionEvent = ProjectionRebuilt | ProjectionVerified
SystemEvent = (
    AccessDenied
    | LogRead
    | LogForkAccepted
    | SubjectErased
    | GatewayStarted
    | GatewayStopped
    | GatewayCrashed
    | AlertEvent
    | CertificateEvent
    | ProjectionEvent
)
Payload = SessionEvent | ContainerEvent | ExchangeEvent | HealthEvent | AdmissionEvent | KeyEvent | SystemEvent

__all__ = [
    "AccessDenied",
    "AdmissionDenied",
    "AdmissionEvent",
    "AdmissionGranted",
    "AdmissionReleased",
    "AlertCleared",
    "AlertEvent",
    "AlertRaised",
    "ApiKeyCreated",
    "ApiKeyRevoked",
    "CertificateEvent",
    "CertificateExpiryWarned",
    "CertificateRefused",
    "CertificateRotated",
    "CertificateUsed",
    "ContainerAdopted",
    "ContainerCreated",
    "ContainerDied",
    "ContainerEvent",
    "ContainerLost",
    "ContainerMemoryExhausted",
    "ContainerRemoved",
    "ContainerStarted",
    "ExchangeClosed",
    "ExchangeCompleted",
    "ExchangeEvent",
    "ExchangeOpened",
    "ExchangeSummarized",
    "GatewayCrashed",
    "GatewayStarted",
    "GatewayStopped",
    "HealthChanged",
    "HealthEvent",
    "HealthSummarized",
    "KeyEvent",
    "LogForkAccepted",
    "LogRead",
    "Payload",
    "ProjectionEvent",
    "ProjectionRebuilt",
    "ProjectionVerified",
    "SessionDataRemoved",
    "SessionEvent",
    "SessionFailed",
    "SessionImported",
    "SessionReady",
    "SessionRequested",
    "SessionResumed",
    "SessionStopRequested",
    "SessionStopped",
    "SubjectErased",
    "SystemEvent",
    "TokenIssued",
    "TokenRevealed",
    "TokenRevoked",
]
