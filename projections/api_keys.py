"""The projection ``api_keys``: which keys open which doors. Only hashes are known."""

from datetime import datetime
from typing import Final

import msgspec

from events.catalogue import ApiKeyCreated, ApiKeyRevoked, Payload
from events.envelope import RecordedEvent
from events.registry import tags


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One API key."""

    key_id: str
    name: str
    role: str
    sha256: str
    expires_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None = None


class ApiKeys:
    """Keys by id."""

    name: Final = "api_keys"
    version: Final = 1
    types: Final = tags(ApiKeyCreated, ApiKeyRevoked)

    def key(self, payload: Payload) -> str | None:
        return payload.key_id if isinstance(payload, ApiKeyCreated | ApiKeyRevoked) else None

    def evolve(self, state: ApiKey | None, event: RecordedEvent, payload: Payload) -> ApiKey | None:
        match payload:
            case ApiKeyCreated() if state is None:
                return ApiKey(
                    key_id=payload.key_id,
                    name=payload.name,
                    role=payload.role,
                    sha256=payload.sha256,
                    expires_at=payload.expires_at,
                    created_at=event.recorded_at,
                )
            case ApiKeyRevoked() if state is not None and state.revoked_at is None:
                return msgspec.structs.replace(state, revoked_at=event.recorded_at)
            case _:
                return state
