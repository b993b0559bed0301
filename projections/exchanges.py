"""The projection ``exchanges``: what was proxied, one state an exchange, and one for each kind of sum of a container.

No path and no address: they stay sealed in the log, where ``position`` finds them. It grows with the log and is
therefore kept in a table alone, never in a process.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from events.catalogue import (
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeEvent,
    ExchangeOpened,
    ExchangeSummarized,
    Payload,
)
from events.envelope import RecordedEvent
from events.registry import tags

SUM: Final = "sum"


class ExchangeState(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One exchange, or a sum of some. Times are the gateway's that proxied it. Open: ``ended_at`` is None.

    Counts add up: over the states of a session, ``exchanges`` is how many it had, each counted once. An exchange whose
    end was told in a sum stays open here, and the sum's ``closed`` counts it.
    """

    session_id: str
    container: str
    position: int = 0  # of the last event about it
    kind: str  # http, sse, websocket; sum
    method: str | None = None  # None when its beginning was not told
    status: int | None = None  # HTTP status, or a websocket's close code
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte_us: int | None = None
    duration_us: int | None = None
    began_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    error: str | None = None
    reason: str | None = None  # of a sum: why they were not told singly
    exchanges: int = 1
    failed: int = 0
    closed: int = 0  # ends in a sum of exchanges that have a state of their own
    anomalies: int = 0  # events that contradict what was told before


class Exchanges:
    """States by exchange id, and by ``sum:CONTAINER:REASON``."""

    name: Final = "exchanges"
    version: Final = 1
    types: Final = tags(ExchangeEvent)

    def key(self, payload: Payload) -> str | None:
        match payload:
            case ExchangeCompleted() | ExchangeOpened() | ExchangeClosed():
                return payload.exchange_id
            case ExchangeSummarized():
                return f"{SUM}:{payload.container}:{payload.reason}"
            case _:
                return None

    def evolve(self, state: ExchangeState | None, event: RecordedEvent, payload: Payload) -> ExchangeState | None:
        if not isinstance(payload, ExchangeEvent) or (state is not None and event.position <= state.position):
            return state  # nobody's, or told twice
        if state is not None and (state.session_id, state.container) != (payload.session_id, payload.container):
            return _anomaly(state, event)  # one id, two exchanges
        match payload:
            case ExchangeSummarized():
                return _summed(state, event, payload)
            case ExchangeOpened():
                return _opened(state, event, payload)
            case ExchangeCompleted():
                kind = state.kind if state else "http"
                return _ended(state, event, payload, kind, method=payload.method, first_byte_us=payload.first_byte_us)
            case ExchangeClosed():
                return _ended(state, event, payload, payload.kind, method=state.method if state else None)


def _opened(state: ExchangeState | None, event: RecordedEvent, payload: ExchangeOpened) -> ExchangeState:
    if state is None:
        return ExchangeState(
            session_id=payload.session_id,
            container=payload.container,
            position=event.position,
            kind=payload.kind,
            method=payload.method,
            began_at=event.occurred_at,
        )
    if state.method is not None or state.kind == SUM:
        return _anomaly(state, event)
    return replace(state, position=event.position, method=payload.method, began_at=event.occurred_at)  # told late


def _ended(
    state: ExchangeState | None,
    event: RecordedEvent,
    payload: ExchangeCompleted | ExchangeClosed,
    kind: str,
    *,
    method: str | None,
    first_byte_us: int | None = None,
) -> ExchangeState:
    if state is not None and (state.ended_at is not None or state.kind == SUM):
        return _anomaly(state, event)
    return ExchangeState(
        session_id=payload.session_id,
        container=payload.container,
        position=event.position,
        kind=kind,
        method=method,
        status=payload.status,
        bytes_in=payload.bytes_in,
        bytes_out=payload.bytes_out,
        first_byte_us=first_byte_us,
        duration_us=payload.duration_us,
        began_at=state.began_at if state else _before(event.occurred_at, payload.duration_us),
        ended_at=event.occurred_at,
        ended_by=payload.ended_by,
        error=payload.error,
        failed=int(payload.error is not None),
        anomalies=state.anomalies if state else 0,
    )


def _summed(state: ExchangeState | None, event: RecordedEvent, payload: ExchangeSummarized) -> ExchangeState:
    if state is not None and state.kind != SUM:
        return _anomaly(state, event)
    first, last = payload.first_at or event.occurred_at, payload.last_at or event.occurred_at
    return ExchangeState(
        session_id=payload.session_id,
        container=payload.container,
        position=event.position,
        kind=SUM,
        reason=payload.reason,
        bytes_in=payload.bytes_in + (state.bytes_in if state else 0),
        bytes_out=payload.bytes_out + (state.bytes_out if state else 0),
        began_at=min(first, state.began_at or first) if state else first,
        ended_at=max(last, state.ended_at or last) if state else last,
        exchanges=payload.exchanges + (state.exchanges if state else 0),
        failed=payload.failed + (state.failed if state else 0),
        closed=payload.closed + (state.closed if state else 0),
        anomalies=state.anomalies if state else 0,
    )


def _anomaly(state: ExchangeState, event: RecordedEvent) -> ExchangeState:
    return replace(state, position=event.position, anomalies=state.anomalies + 1)


def _before(moment: datetime, duration_us: int) -> datetime | None:
    try:
        return moment - timedelta(microseconds=duration_us)
    except OverflowError:
        return None  # no clock was ever there
