"""What was proxied. Stream ``container-{name}``; written behind the answer. Never a body, a query value or a token."""

import msgspec

from events.envelope import Sealed


class ExchangeCompleted(msgspec.Struct, frozen=True, kw_only=True, tag="exchange.completed"):
    """One request and its answer."""

    session_id: str
    container: str
    exchange_id: str
    method: str
    path: Sealed  # as the container got it, without the query; its first 4096 characters
    status: int  # what the client got; 499 when it left before
    bytes_in: int
    bytes_out: int
    first_byte_us: int | None
    duration_us: int
    ended_by: str  # client, container, gateway
    error: str | None = None  # a word from gateway/proxy/errors.py
    client: Sealed | None = None


class ExchangeOpened(msgspec.Struct, frozen=True, kw_only=True, tag="exchange.opened"):
    """A stream (SSE or websocket) began; its end is ``exchange.closed`` with the same exchange id."""

    session_id: str
    container: str
    exchange_id: str
    kind: str  # sse, websocket
    method: str
    path: Sealed
    client: Sealed | None = None


class ExchangeClosed(msgspec.Struct, frozen=True, kw_only=True, tag="exchange.closed"):
    """A stream ended."""

    session_id: str
    container: str
    exchange_id: str
    kind: str
    status: int  # HTTP status, or the websocket's close code
    bytes_in: int
    bytes_out: int
    duration_us: int
    ended_by: str
    error: str | None = None


class ExchangeSummarized(msgspec.Struct, frozen=True, kw_only=True, tag="exchange.summarized"):
    """Records folded into one because they could not be kept singly: how many, never silently none."""

    session_id: str
    container: str
    exchanges: int
    failed: int
    bytes_in: int
    bytes_out: int
    reason: str  # a word: queue_full, unwritable
