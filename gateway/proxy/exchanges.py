"""Exchanges: what was proxied, as events, written behind the answer; an opening before the request, where asked for.

A bounded queue and one task that writes what has gathered, without a delay of its own: a record waits for the batch
before it, no longer. Nothing vanishes silently: when the queue is full (the log is away, and its spool full), records
are folded into one ``exchange.summarized`` a container, which is written when the log is back. A killed process may
lose what was not flushed yet: at most ``QUEUE`` records, in practice one batch (and with ACCESS_EVENTS=summary the
sums of the interval). With ACCESS_DURABILITY=before it loses ends, and no exchange.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from events.catalogue import ExchangeSummarized
from events.envelope import ANY, ActorKind, EventData, StreamWrite, container_stream
from events.errors import StoreClosed, StoreUnavailable
from events.ids import uuid7
from gateway import telemetry
from gateway.proxy.errors import ExchangeCut, ProxyError, Unrecorded
from gateway.proxy.exchange_records import Exchange, Record, event_of
from gateway.proxy.exchange_sums import INTERVAL, Sums
from gateway.proxy.result import ExchangeResult, Opened, blame
from gateway.proxy.settings import AccessSettings
from gateway.recorder import Recorder, Who, accepted

QUEUE: Final = 10_000
BATCH: Final = 128
RETRY_SECONDS: Final = 0.25
UNRECORDED: Final = 503  # what a client gets whose exchange was not forwarded
log = logging.getLogger("session_gateway.exchanges")


class ExchangeLog:
    """Takes records without waiting; ``run`` writes them. A record that waits in the log's spool is written."""

    def __init__(self, recorder: Recorder, settings: AccessSettings | None = None, *, capacity: int = QUEUE) -> None:
        self._recorder = recorder
        self._settings = settings or AccessSettings()
        self._capacity = capacity
        self._queue: deque[Record] = deque()
        self._writing = 0
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._sums = Sums(self._settings.access_summary_seconds, self._wake)

    @property
    def opens_before(self) -> bool:
        """Whether each exchange has to ``begin`` before it is forwarded; then ``opened`` has nothing to tell."""
        return self._settings.access_durability == "before"

    @property
    def waiting(self) -> int:
        """Records that are neither in the log nor in its spool, those of sums that are not due yet aside."""
        return len(self._queue) + self._writing + self._sums.waiting

    async def begin(self, exchange: Exchange) -> None:
        """Write the exchange's opening, durable when this returns; its end is told with ``was_opened``.

        Concurrent ones share the store's batches. Raises Unrecorded when neither the log nor its spool takes it: then
        nothing may be forwarded, and the end is told already.
        """
        opening = self._record(exchange, kind=exchange.kind)
        try:
            await self._append(exchange.container, await event_of(self._recorder, opening))
        except StoreUnavailable as away:
            refusal = Unrecorded("The exchange cannot be recorded at the moment: it was not forwarded. Ask again.")
            self._end_unbegun(opening, refusal)
            raise refusal from away
        except asyncio.CancelledError:
            self._end_unbegun(opening, ExchangeCut("The gateway ended the exchange before it was forwarded."))
            raise

    def opened(self, exchange: Exchange, opened: Opened) -> bool:
        """A stream began. False when there is no room to tell it: then its end is told like any exchange."""
        return self._take_opening(self._record(exchange, kind=_answered(exchange, is_stream=opened.is_stream)))

    def ended(self, exchange: Exchange, result: ExchangeResult, status: int, *, was_opened: bool) -> None:
        """It is over. ``was_opened``: its beginning was told, by ``begin`` or ``opened``."""
        kind = _answered(exchange, is_stream=result.is_stream)
        record = self._record(exchange, kind=kind, result=result, status=status, was_opened=was_opened)
        if self._settings.access_events == "summary" and not was_opened:
            self._sums.add(record, INTERVAL)
        else:
            self._take(record)

    def session_ended(self, session_id: str) -> None:
        """Its sums are told now; an exchange that ends yet later has a sum of its own."""
        self._sums.end(session_id)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue or self._sums.due:
                if not (await self._write_records() and await self._write_sums()):
                    await asyncio.sleep(RETRY_SECONDS)
            self._empty.set()

    async def flush(self, timeout: float) -> bool:
        """Wait until everything is written, sums too; False when ``timeout`` seconds were not enough."""
        self._sums.end()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def _record(
        self,
        exchange: Exchange,
        *,
        kind: str,
        result: ExchangeResult | None = None,
        status: int = 0,
        was_opened: bool = False,
    ) -> Record:
        return Record(
            event_id=exchange.exchange_id if result is None else uuid7(),
            occurred_at=self._recorder.now(),
            exchange=exchange,
            kind=kind,
            result=result,
            status=status,
            was_opened=was_opened,
        )

    def _end_unbegun(self, opening: Record, error: ProxyError) -> None:
        """Whether the opening got through is not known: told again with its id it is there once, and so is its end."""
        was_opened = self._take_opening(opening)
        result = ExchangeResult(ended_by=blame(error), reason=str(error), error=error)
        self.ended(opening.exchange, result, UNRECORDED, was_opened=was_opened)

    def _take_opening(self, record: Record) -> bool:
        if len(self._queue) >= self._capacity:
            return False
        self._take(record)
        return True

    def _take(self, record: Record) -> None:
        if len(self._queue) < self._capacity:
            self._queue.append(record)
            self._wake()
        else:
            self._sums.add(record, "queue_full")

    def _wake(self) -> None:
        self._empty.clear()
        self._filled.set()

    async def _write_records(self) -> bool:
        """A batch of the queue; False when the log is away."""
        batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
        if not batch:
            return True
        self._writing = len(batch)
        try:
            with telemetry.span("exchanges.record", root=True) as span:
                written = await self._write(batch)
                span.positions(*(outcome for outcome in written if isinstance(outcome, int)))
        finally:
            self._writing = 0
        return not self._put_back(batch, written)

    async def _write(self, batch: Sequence[Record]) -> list[int | BaseException | None]:
        """For each record its position (None: it waits in the spool), or what kept it out of the log."""
        made: list[EventData | Exception] = []
        for record in batch:
            try:
                made.append(await event_of(self._recorder, record))
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

    def _put_back(self, batch: Sequence[Record], written: Sequence[int | BaseException | None]) -> bool:
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
                    self._sums.add(record, "unwritable")
        self._queue.extendleft(reversed(again))
        return bool(again)

    async def _write_sums(self) -> bool:
        """Every sum that is due; False when the log is away."""
        while batch := self._sums.take(BATCH):
            told = await asyncio.gather(*(self._tell(*each) for each in batch), return_exceptions=True)
            for (event_id, _), outcome in zip(batch, told, strict=True):
                match outcome:
                    case None:
                        self._sums.told(event_id)
                    case StoreUnavailable():
                        continue
                    case _:
                        raise outcome
            if any(outcome is not None for outcome in told):
                return False
        return True

    async def _tell(self, event_id: UUID, summary: ExchangeSummarized) -> None:
        who = Who(kind=ActorKind.SESSION, id=summary.session_id)
        await self._recorder.fact(container_stream(summary.container), summary, who=who, event_id=event_id)


def _answered(exchange: Exchange, *, is_stream: bool) -> str:
    return "sse" if is_stream and exchange.kind == "http" else exchange.kind
