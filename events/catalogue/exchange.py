"""What was proxied. Stream ``container-{name}``; written behind the answer, or its opening before the request is
forwarded (ACCESS_DURABILITY). Never a body, a query value or a token."""

from datetime import datetime

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
    """An exchange began; its end is ``exchange.closed`` with the same exchange id, caused by this.

    Told of streams when the container has answered; with ACCESS_DURABILITY=before of all, before they are forwarded.
    """

    session_id: str
    container: str
    exchange_id: str
    kind: str  # sse, websocket; http: told before the answer was known
    method: str
    path: Sealed
    client: Sealed | None = None


class ExchangeClosed(msgspec.Struct, frozen=True, kw_only=True, tag="exchange.closed"):
    """What ``exchange.opened`` began has ended."""

    session_id: str
    container: str
    exchange_id: str
    kind: str  # http, sse, websocket: as it was answered
    status: int  # HTTP status, or the websocket's close code
    bytes_in: int
    bytes_out: int
    duration_us: int
    ended_by: str
    error: str | None = None


class ExchangeSummarized(msgspec.Struct, frozen=True, kw_only=True, tag="exchange.summarized"):
    """Exchanges told as one: asked for (ACCESS_EVENTS=summary), or since they could not be kept singly.

    How many there were, never silently none. An exchange that has an ``exchange.opened`` of its own is counted there:
    here only its end is, in ``closed``.
    """

    session_id: str
    container: str
    exchanges: int
    failed: int
    bytes_in: int
    bytes_out: int
    reason: str  # a word: interval, queue_full, no_key, unwritable
    closed: int = 0
    first_at: datetime | None = None  # the writer's clock, at the first and the last of them
    last_at: datetime | None = None
