"""Exchange records: what the proxy knows of one exchange, and the events that are made of it."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from events.catalogue import ExchangeClosed, ExchangeCompleted, ExchangeEvent, ExchangeOpened
from events.codec import Cause
from events.envelope import EventData, container_stream
from events.keyring import Keyring
from events.sealing import Place, seal
from gateway.proxy.result import ExchangeResult
from gateway.recorder import Recorder, Who, session_key

MOST_PATH: Final = 4096  # characters of a path that are kept; an event has room for 64 KiB


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange as far as it is known before it starts. ``path`` and ``client`` are sealed when it is written."""

    exchange_id: UUID
    session_id: str
    container: str
    owner_key: str | None  # the key that the owner's fields are sealed with; None: the session's own
    kind: str  # http, websocket; an answer with an event stream makes it sse
    method: str
    path: str
    client: str | None
    who: Who
    cause: Cause


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning or the end of an exchange: one event, with the same id however often it has to be written."""

    event_id: UUID
    occurred_at: datetime
    exchange: Exchange
    kind: str  # http, sse, websocket
    result: ExchangeResult | None = None  # None: its beginning
    status: int = 0  # what the client got
    was_opened: bool = False  # its beginning has an event of its own


async def event_of(recorder: Recorder, record: Record) -> EventData:
    """The event to append to the container's stream. Raises StoreUnavailable when a subject's key cannot be had."""
    return await recorder.event(
        container_stream(record.exchange.container),
        await _payload(recorder.keyring, record),
        who=record.exchange.who,
        cause=_cause(record),
        event_id=record.event_id,
        occurred_at=record.occurred_at,
    )


def error_word(result: ExchangeResult) -> str | None:
    """The error's class as the word that events carry: ``ContainerBroke`` -> ``container_broke``."""
    if result.error is None:
        return None
    name = type(result.error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


async def _payload(keyring: Keyring, record: Record) -> ExchangeEvent:
    exchange, result = record.exchange, record.result
    common: dict[str, Any] = {
        "session_id": exchange.session_id,
        "container": exchange.container,
        "exchange_id": str(exchange.exchange_id),
    }
    if result is None:
        sealed = await _sealed(keyring, exchange, "exchange.opened")
        return ExchangeOpened(**common, **sealed, kind=record.kind, method=exchange.method)
    outcome: dict[str, Any] = {
        "bytes_in": result.bytes_in,
        "bytes_out": result.bytes_out,
        "duration_us": result.duration_ns // 1000,
        "ended_by": result.ended_by.value,
        "error": error_word(result),
    }
    if record.was_opened:
        return ExchangeClosed(**common, **outcome, kind=record.kind, status=result.close_code or record.status)
    sealed = await _sealed(keyring, exchange, "exchange.completed")
    return ExchangeCompleted(
        **common,
        **outcome,
        **sealed,
        method=exchange.method,
        status=record.status,
        first_byte_us=None if result.first_byte_ns is None else result.first_byte_ns // 1000,
    )


async def _sealed(keyring: Keyring, exchange: Exchange, event_type: str) -> dict[str, Any]:
    stream_id = container_stream(exchange.container)
    key = await session_key(keyring, exchange.session_id, exchange.owner_key)
    sealed = {"path": seal(key, exchange.path[:MOST_PATH], Place(stream_id, event_type, "path"))}
    if exchange.client is not None:
        sealed["client"] = seal(key, exchange.client, Place(stream_id, event_type, "client"))
    return sealed


def _cause(record: Record) -> Cause:
    """An exchange is caused by the token that was shown; an end of its own by its beginning."""
    exchange = record.exchange
    if not record.was_opened:
        return exchange.cause
    return msgspec.structs.replace(exchange.cause, causation_id=exchange.exchange_id)
