"""The envelope of an event: what a writer fills in (``EventData``) and what only the store knows (``RecordedEvent``).

The two never share a class. Fields here can be added, never renamed and never given another meaning: every event ever
written has them. Payloads are in ``catalogue``, bytes are made in ``codec``.
"""

import enum
import re
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import msgspec

STREAM_ID = re.compile(r"\A(?:(?:session|container|gateway)-[0-9A-Za-z_.-]{1,100}|admission|keys|system)\Z")
MAX_PAYLOAD_BYTES: Final = 64 * 1024
MAX_UNIT_EVENTS: Final = 128


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A personal field: AES-256-GCM under the key of its subject. Destroying the key erases the field for ever.

    Bound to its place by additional data (``events.sealing``), so it cannot be moved to another stream, type or field.
    """

    k: str  # key id: random, names no person
    n: str  # nonce, base64url without padding, 12 bytes
    c: str  # ciphertext and tag, base64url without padding


class ActorKind(enum.StrEnum):
    """Who acts. The order of trust is in ``gateway/access/roles.py``, not here."""

    KEY = "key"  # an API key: a frontend, an auditor, an operator
    SESSION = "session"  # the holder of a session token
    GATEWAY = "gateway"  # the gateway by itself: runner, reconcile, expiry
    CONTAINER = "container"  # something a container did by itself
    OPERATOR = "operator"  # a person at the machine: the command line without a key
    ANONYMOUS = "anonymous"  # nobody we know: a refused request


class Assurance(enum.StrEnum):
    """How sure we are of the person behind the key."""

    VERIFIED = "verified"  # a signed identity
    ASSERTED = "asserted"  # the frontend says so
    NONE = "none"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """The key **and** the person behind it."""

    kind: ActorKind
    id: str  # key name, session id, gateway instance, ...: never a person
    key_id: str | None = None
    on_behalf_of: Sealed | None = None
    assurance: Assurance = Assurance.NONE


class EventData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event to write. Build it with ``codec.event``; the store adds the rest."""

    event_id: UUID
    type: str
    schema_version: int
    payload: bytes  # canonical JSON, exactly as it will be stored and hashed
    actor: bytes  # canonical JSON of Actor
    causation_id: UUID | None = None  # the event that made this one happen
    correlation_id: UUID | None = None  # the request that everything began with
    trace_id: bytes | None = None  # 16 bytes, W3C trace context
    span_id: bytes | None = None  # 8 bytes
    occurred_at: datetime  # the writer's clock, UTC


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as the log holds it."""

    log_id: UUID
    stream_id: str
    version: int  # place in the stream, from 1
    position: int  # place in the log, from 1, without gaps
    recorded_at: datetime  # the log's clock, UTC; never goes back from one position to the next
    event_id: UUID
    type: str
    schema_version: int
    payload: bytes
    actor: bytes
    causation_id: UUID | None = None
    correlation_id: UUID | None = None
    trace_id: bytes | None = None
    span_id: bytes | None = None
    occurred_at: datetime


class Expect(enum.Enum):
    """What a writer expects of a stream when it does not expect a version number."""

    NEW = 0  # no event yet
    ANY = -1  # whatever is there: for facts, which are true in any order


NEW: Final = Expect.NEW
ANY: Final = Expect.ANY
ExpectedVersion = int | Literal[Expect.NEW, Expect.ANY]


class StreamWrite(msgspec.Struct, frozen=True):
    """Events for one stream, in order."""

    stream_id: str
    expected_version: ExpectedVersion
    events: tuple[EventData, ...]


class Fence(msgspec.Struct, frozen=True):
    """The lease a unit is written under; refused when the lease has gone to another holder (a higher epoch)."""

    lease: str
    epoch: int


def session_stream(session_id: str) -> str:
    return f"session-{session_id}"


def container_stream(name: str) -> str:
    return f"container-{name}"


def gateway_stream(instance: str) -> str:
    return f"gateway-{instance}"


ADMISSION: Final = "admission"
KEYS: Final = "keys"
SYSTEM: Final = "system"
