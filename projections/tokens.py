"""The projection ``tokens``: every session token there ever was, by its hash. The token itself is nowhere.

A token also ends when the next one of its session is issued. That is true of another state, so it stands in none: the
next serial's ``issued_at`` is when it was superseded (``view.token_ends`` says it in SQL).
"""

from datetime import datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from events.catalogue import Payload, TokenIssued, TokenRevealed, TokenRevoked
from events.envelope import RecordedEvent
from events.registry import tags


class TokenState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The nth token of a session. Times are the log's; None: it was not told."""

    session_id: str
    serial: int
    position: int = 0  # of the last event about it
    sha256: str | None = None
    secret_id: str | None = None
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    revealed: int = 0  # times that it was shown again after it was issued
    revealed_at: datetime | None = None  # the last time
    revoked_at: datetime | None = None
    reason: str | None = None  # why it was revoked
    anomalies: int = 0  # issued or revoked again: the first time counts


class Tokens:
    """Tokens by ``SESSION/SERIAL``."""

    name: Final = "tokens"
    version: Final = 1
    types: Final = tags(TokenIssued, TokenRevealed, TokenRevoked)

    def key(self, payload: Payload) -> str | None:
        match payload:
            case TokenIssued() | TokenRevealed() | TokenRevoked():
                return f"{payload.session_id}/{payload.serial}"
            case _:
                return None

    def evolve(self, state: TokenState | None, event: RecordedEvent, payload: Payload) -> TokenState | None:
        match payload:
            case TokenIssued() | TokenRevealed() | TokenRevoked():
                before = state or TokenState(session_id=payload.session_id, serial=payload.serial)
            case _:
                return state
        if event.position <= before.position:
            return state  # told twice
        return replace(_told(before, event, payload), position=event.position)


def _told(state: TokenState, event: RecordedEvent, payload: TokenIssued | TokenRevealed | TokenRevoked) -> TokenState:
    match payload:
        case TokenIssued() if state.issued_at is None:
            return replace(
                state,
                sha256=payload.sha256,
                secret_id=payload.secret_id,
                issued_at=event.recorded_at,
                expires_at=payload.expires_at,
            )
        case TokenRevealed():
            return replace(state, revealed=state.revealed + 1, revealed_at=event.recorded_at)
        case TokenRevoked() if state.revoked_at is None:
            return replace(state, revoked_at=event.recorded_at, reason=payload.reason)
        case _:
            return replace(state, anomalies=state.anomalies + 1)
