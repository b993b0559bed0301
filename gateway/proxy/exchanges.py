"""Exchanges: what was proxied, as events, written behind the answer; an opening before the request, where asked for.

A bounded queue and one task that writes what has gathered, without a delay of its own: a record waits for the batch
before it, no longer. Nothing vanishes silently: when the queue is full (the log is away, and its spool full), records
are folded into one ``exchange.summarized`` a container, which is written when the log is back. A killed process may
lose what was not flushed yet: at most ``QUEUE`` records, in practice one batch (and with ACCESS_EVENTS=summary the
sums of the interval). With ACCESS_DURABILITY=before it loses ends, and no exchange. A record whose key cannot be had
steps aside and is tried again; what has none when the process ends is told in a sum, which needs no key.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from events.codec import Cause
from events.envelope import ActorKind, EventData, container_stream
from events.errors import StoreClosed, StoreUnavailable
from events.ids import uuid7
from gateway import telemetry
from gateway.proxy.errors import ExchangeCut, ProxyError, Unrecorded
from gateway.proxy.exchange_queue import ExchangeQueue
from gateway.proxy.exchange_records import Exchange, Record, event_of
from gateway.proxy.exchange_sums import INTERVAL, Due, Sums
from gateway.proxy.result import ExchangeResult, Opened, blame
from gateway.proxy.settings import AccessSettings
from gateway.recorder import Recorder, Who

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
        self._queue = ExchangeQueue(capacity)
        self._writing = 0
        self._retry: asyncio.TimerHandle | None = None  # of those aside
        self._ends = False
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
            while self._queue.ready or self._sums.due:
                if not (await self._write_records() and await self._write_sums()):
                    await asyncio.sleep(RETRY_SECONDS)
                if self._ends and not self._queue.ready:
                    self._sum_those_aside()
            if not self._queue.aside:
                self._empty.set()

    async def flush(self, timeout: float, *, last: bool = False) -> bool:
        """Wait until everything is written, sums too; False when ``timeout`` seconds were not enough.

        ``last``: the process ends, and what has no key now is told in a sum.
        """
        self._ends = last
        self._return_those_aside()
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
        if self._queue.full:
            return False
        self._take(record)
        return True

    def _take(self, record: Record) -> None:
        if self._queue.full:
            self._sums.add(record, "queue_full")
        else:
            self._queue.put(record)
            self._wake()

    def _wake(self) -> None:
        self._empty.clear()
        self._filled.set()

    async def _write_records(self) -> bool:
        """A batch of the queue; False when the log is away."""
        batch = self._queue.take(BATCH)
        if not batch:
            return True
        self._writing = len(batch)
        try:
            with telemetry.span("exchanges.record", root=True) as span:
                written = await self._write(batch)
                span.positions(*(outcome for _, outcome in written if isinstance(outcome, int)))
        finally:
            self._writing = 0
        return not self._put_back(written)

    async def _write(self, batch: Sequence[Record]) -> list[tuple[Record, int | BaseException | None]]:
        """For each record its position (None: it waits in the spool), or what kept it out of the log.

        One is on its way while the next one is sealed: a key that keeps us waiting keeps none of them back.
        """
        sent: list[Record] = []
        appends: list[asyncio.Task[int | None]] = []
        try:
            for record in batch:
                event = await self._sealed(record)
                if event is None:
                    continue
                sent.append(record)
                appends.append(asyncio.create_task(self._append(record.exchange.container, event)))
            return list(zip(sent, await asyncio.gather(*appends, return_exceptions=True), strict=True))
        finally:
            for append in appends:
                append.cancel()

    async def _sealed(self, record: Record) -> EventData | Exception | None:
        """The event, or why there can be none; None when the record was set aside for want of its key."""
        if not self._queue.is_held_up(record):
            try:
                return await event_of(self._recorder, record)
            except StoreUnavailable:
                pass
            except Exception as error:
                return error
        self._queue.set_aside(record)
        self._writing -= 1
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._return_those_aside)
        return None

    def _return_those_aside(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._queue.aside:
            self._queue.return_those_aside()
            self._wake()

    def _sum_those_aside(self) -> None:
        for record in self._queue.take_those_aside():
            self._sums.add(record, "no_key")

    async def _append(self, container: str, event: EventData | Exception) -> int | None:
        if isinstance(event, Exception):
            raise event
        return await self._recorder.append(container_stream(container), event)

    def _put_back(self, written: Sequence[tuple[Record, int | BaseException | None]]) -> bool:
        """Keep what the log did not take; True when it is away. Raises StoreClosed."""
        again = []
        for record, outcome in written:
            match outcome:
                case int() | None:
                    continue
                case StoreUnavailable():
                    again.append(record)  # with its id: if it got through all the same, it is a duplicate
                case StoreClosed():
                    log.error("the log was closed with %d exchange records unwritten", len(written) + len(self._queue))
                    raise outcome
                case _:
                    # A fault of ours in one of them must not end the recording of all others: it is told in a sum.
                    log.error(
                        "an exchange record could not be made",
                        exc_info=outcome,
                        extra={"operation": "record_exchanges"},
                    )
                    self._sums.add(record, "unwritable")
        self._queue.put_back(again)
        return bool(again)

    async def _write_sums(self) -> bool:
        """Every sum that is due; False when the log is away."""
        while batch := self._sums.take(BATCH):
            told = await asyncio.gather(*map(self._tell, batch), return_exceptions=True)
            for due, outcome in zip(batch, told, strict=True):
                match outcome:
                    case None:
                        self._sums.told(due.event_id)
                    case StoreUnavailable():
                        continue
                    case _:
                        raise outcome
            if any(outcome is not None for outcome in told):
                return False
        return True

    async def _tell(self, due: Due) -> None:
        """Caused, as its exchanges are, by their token; of many requests, it is of none."""
        summary = due.summary
        await self._recorder.fact(
            container_stream(summary.container),
            summary,
            who=Who(kind=ActorKind.SESSION, id=summary.session_id),
            cause=Cause(causation_id=due.causation_id),
            event_id=due.event_id,
        )


def _answered(exchange: Exchange, *, is_stream: bool) -> str:
    return "sse" if is_stream and exchange.kind == "http" else exchange.kind
