"""Exchanges: what was proxied, as events, written behind the answer.

A bounded queue and one task that writes what has gathered. Nothing vanishes silently: when the queue is full (the log
is away), records are folded into one ``exchange.summarized`` a container, which is written when the log is back. A
killed process may lose what was not flushed yet: at most ``QUEUE`` records, in practice one batch.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from events.catalogue import ExchangeClosed, ExchangeCompleted, ExchangeEvent, ExchangeOpened, ExchangeSummarized
from events.codec import Cause
from events.envelope import ANY, ActorKind, EventData, StreamWrite, container_stream
from events.errors import StoreClosed, StoreUnavailable
from events.ids import uuid7
from events.sealing import Place, SubjectKey, seal
from gateway import telemetry
from gateway.proxy.result import ExchangeResult, Opened
from gateway.recorder import Recorder, Who, accepted, session_subject

QUEUE: Final = 10_000
BATCH: Final = 128
RETRY_SECONDS: Final = 0.25
MOST_PATH: Final = 4096  # characters of a path that are kept; an event has room for 64 KiB
log = logging.getLogger("session_gateway.exchanges")


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


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    event_id: UUID
    occurred_at: datetime
    exchange: Exchange
    opened: Opened | None = None
    result: ExchangeResult | None = None
    status: int = 0  # what the client got
    was_stream: bool = False


class ExchangeLog:
    """Takes records without waiting; ``run`` writes them."""

    def __init__(self, recorder: Recorder, *, capacity: int = QUEUE) -> None:
        self._recorder = recorder
        self._capacity = capacity
        self._queue: deque[_Record] = deque()
        self._folded: dict[tuple[str, str], ExchangeSummarized] = {}  # by container and reason
        self._telling: deque[tuple[UUID, ExchangeSummarized]] = deque()  # sums that take no further records
        self._writing = 0
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """Records not in the log yet."""
        sums = [*self._folded.values(), *(summary for _, summary in self._telling)]
        return len(self._queue) + self._writing + sum(each.exchanges for each in sums)

    def opened(self, exchange: Exchange, opened: Opened) -> bool:
        """A stream began. False when there is no room to tell it: then its end is told like any exchange."""
        if len(self._queue) >= self._capacity:
            return False
        self._take(self._record(exchange, opened=opened))
        return True

    def ended(self, exchange: Exchange, result: ExchangeResult, status: int, *, was_stream: bool) -> None:
        """It is over. ``was_stream``: its beginning was told by ``opened``."""
        self._take(self._record(exchange, result=result, status=status, was_stream=was_stream))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue or self._folded or self._telling:
                await self._write_some()
            self._empty.set()

    async def flush(self, timeout: float) -> bool:
        """Wait until everything is in the log; False when ``timeout`` seconds were not enough."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def _record(
        self,
        exchange: Exchange,
        *,
        opened: Opened | None = None,
        result: ExchangeResult | None = None,
        status: int = 0,
        was_stream: bool = False,
    ) -> _Record:
        return _Record(
            event_id=uuid7() if opened is None else exchange.exchange_id,
            occurred_at=self._recorder.now(),
            exchange=exchange,
            opened=opened,
            result=result,
            status=status,
            was_stream=was_stream,
        )

    def _take(self, record: _Record) -> None:
        if len(self._queue) < self._capacity:
            self._queue.append(record)
        else:
            self._fold(record)
        self._empty.clear()
        self._filled.set()

    def _fold(self, record: _Record, reason: str = "queue_full") -> None:
        exchange, result = record.exchange, record.result
        before = self._folded.get((exchange.container, reason)) or ExchangeSummarized(
            session_id=exchange.session_id,
            container=exchange.container,
            exchanges=0,
            failed=0,
            bytes_in=0,
            bytes_out=0,
            reason=reason,
        )
        self._folded[exchange.container, reason] = msgspec.structs.replace(
            before,
            exchanges=before.exchanges + 1,
            failed=before.failed + (result is not None and result.error is not None),
            bytes_in=before.bytes_in + (result.bytes_in if result else 0),
            bytes_out=before.bytes_out + (result.bytes_out if result else 0),
        )

    async def _write_some(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        self._writing = len(batch)
        try:
            with telemetry.span("exchanges.record", root=True) as span:
                written = await self._write(batch)
                span.positions(*(outcome for outcome in written if isinstance(outcome, int)))
        finally:
            self._writing = 0
        if self._put_back(batch, written):
            await asyncio.sleep(RETRY_SECONDS)
        else:
            await self._write_folded()

    async def _write(self, batch: Sequence[_Record]) -> list[int | BaseException | None]:
        """For each record its position (None: it waits in the spool), or what kept it out of the log."""
        made: list[EventData | Exception] = []
        for record in batch:
            try:
                made.append(await self._event(record))
            except StoreUnavailable as away:
                made += [away] * (len(batch) - len(made))  # the others would only wait for the same
                break
            except Exception as error:
                made.append(error)
        return await asyncio.gather(
            *(self._append(record.exchange.container, event) for record, event in zip(batch, made, strict=True)),
            return_exceptions=True,
        )

    async def _append(self, container: str, event: EventData | Exception) -> int | None:
        if isinstance(event, Exception):
            raise event
        outcome = await self._recorder.store.append(StreamWrite(container_stream(container), ANY, (event,)))
        return accepted(outcome)

    def _put_back(self, batch: Sequence[_Record], written: Sequence[int | BaseException | None]) -> bool:
        """Keep what the log did not take; True when it is away. Raises StoreClosed."""
        again = []
        for record, outcome in zip(batch, written, strict=True):
            match outcome:
                case int() | None:
                    continue
                case StoreUnavailable():
                    again.append(record)  # with its id: if it got through all the same, it is a duplicate
                case StoreClosed():
                    log.error("the log was closed with %d exchange records unwritten", len(batch) + len(self._queue))
                    raise outcome
                case _:
                    # A fault of ours in one of them must not end the recording of all others: it is told in a sum.
                    log.error(
                        "an exchange record could not be made",
                        exc_info=outcome,
                        extra={"operation": "record_exchanges"},
                    )
                    self._fold(record, reason="unwritable")
        self._queue.extendleft(reversed(again))
        return bool(again)

    async def _write_folded(self) -> None:
        """A sum that is being told takes no further records: told again after a lost answer, it is the same event."""
        if not self._telling:
            self._telling.extend((uuid7(), summary) for summary in self._folded.values())
            self._folded.clear()
        while self._telling:
            event_id, summary = self._telling[0]
            who = Who(kind=ActorKind.SESSION, id=summary.session_id)
            try:
                await self._recorder.fact(container_stream(summary.container), summary, who=who, event_id=event_id)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
                return
            self._telling.popleft()

    async def _event(self, record: _Record) -> EventData:
        exchange = record.exchange
        return await self._recorder.event(
            container_stream(exchange.container),
            await self._payload(record),
            who=exchange.who,
            cause=_cause(record),
            event_id=record.event_id,
            occurred_at=record.occurred_at,
        )

    async def _payload(self, record: _Record) -> ExchangeEvent:
        exchange, result = record.exchange, record.result
        common: dict[str, Any] = {
            "session_id": exchange.session_id,
            "container": exchange.container,
            "exchange_id": str(exchange.exchange_id),
        }
        if result is None:
            sealed = await self._sealed(exchange, "exchange.opened")
            return ExchangeOpened(**common, **sealed, kind=_kind(exchange), method=exchange.method)
        outcome: dict[str, Any] = {
            "bytes_in": result.bytes_in,
            "bytes_out": result.bytes_out,
            "duration_us": result.duration_ns // 1000,
        }
        ended_by, error = result.ended_by.value, error_word(result)
        if record.was_stream:
            return ExchangeClosed(
                **common,
                **outcome,
                kind=_kind(exchange),
                status=result.close_code or record.status,
                ended_by=ended_by,
                error=error,
            )
        sealed = await self._sealed(exchange, "exchange.completed")
        return ExchangeCompleted(
            **common,
            **outcome,
            **sealed,
            method=exchange.method,
            status=record.status,
            first_byte_us=None if result.first_byte_ns is None else result.first_byte_ns // 1000,
            ended_by=ended_by,
            error=error,
        )

    async def _sealed(self, exchange: Exchange, event_type: str) -> dict[str, Any]:
        stream_id = container_stream(exchange.container)
        key = await self._subject_key(exchange)
        sealed = {"path": seal(key, exchange.path[:MOST_PATH], Place(stream_id, event_type, "path"))}
        if exchange.client is not None:
            sealed["client"] = seal(key, exchange.client, Place(stream_id, event_type, "client"))
        return sealed

    async def _subject_key(self, exchange: Exchange) -> SubjectKey:
        """After an erasure the session may live on: what it does then is sealed with a key that nobody keeps."""
        keyring = self._recorder.keyring
        if exchange.owner_key is None:
            return await keyring.key_for(session_subject(exchange.session_id))
        return (await keyring.keys([exchange.owner_key])).get(exchange.owner_key) or SubjectKey.new()


def _cause(record: _Record) -> Cause:
    """An exchange is caused by the token that was shown; a stream's end by its beginning."""
    exchange = record.exchange
    if not record.was_stream:
        return exchange.cause
    return msgspec.structs.replace(exchange.cause, causation_id=exchange.exchange_id)


def _kind(exchange: Exchange) -> str:
    return "websocket" if exchange.kind == "websocket" else "sse"


def error_word(result: ExchangeResult) -> str | None:
    """The error's class as the word that events carry: ``ContainerBroke`` -> ``container_broke``."""
    if result.error is None:
        return None
    name = type(result.error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
