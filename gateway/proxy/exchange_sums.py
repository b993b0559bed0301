"""Exchange sums: records folded into one ``exchange.summarized`` a container, reason and token, until they are told.

A sum of the reason ``interval`` (ACCESS_EVENTS=summary) is due when its interval or its session ends; every other, of
records that could not be kept singly, at once. A sum that is due takes further records until the log takes it: away
for long, the log gets one sum a container and not one an interval, and its times say so.
"""

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Final
from uuid import UUID

import msgspec

from events.catalogue import ExchangeSummarized
from events.ids import uuid7
from gateway.proxy.exchange_records import Record

INTERVAL: Final = "interval"
Key = tuple[str, str, UUID | None]  # container, reason, and what the exchanges are caused by: the token they showed


class Due(msgspec.Struct, frozen=True):
    """A sum to tell, as the event of this id."""

    event_id: UUID
    summary: ExchangeSummarized
    causation_id: UUID | None


class Sums:
    """Used inside the event loop. ``on_due`` is called when there is a sum to tell."""

    def __init__(self, seconds: float, on_due: Callable[[], object]) -> None:
        self._seconds = seconds
        self._on_due = on_due
        self._open: dict[Key, ExchangeSummarized] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}  # of those that are not due yet
        self._telling: dict[UUID, Due] = {}

    @property
    def due(self) -> bool:
        """Whether there is a sum to tell."""
        return bool(self._telling) or len(self._open) > len(self._timers)

    @property
    def waiting(self) -> int:
        """Records in the sums that are to be told."""
        sums = [due.summary for due in self._telling.values()]
        sums += [each for key, each in self._open.items() if key not in self._timers]
        return sum(each.exchanges + each.closed for each in sums)

    def add(self, record: Record, reason: str) -> None:
        """Count the record in the container's sum of this reason."""
        key = record.exchange.container, reason, record.exchange.cause.causation_id
        before = self._open.get(key)
        self._open[key] = _counted(before or _nothing(record, reason), record)
        if before is None and reason == INTERVAL:
            self._timers[key] = asyncio.get_running_loop().call_later(self._seconds, self._end, key)
        elif key not in self._timers:
            self._on_due()

    def end(self, session_id: str | None = None) -> None:
        """The intervals of this session (None: of all) end now."""
        for key in list(self._timers):
            if session_id in (None, self._open[key].session_id):
                self._end(key)

    def take(self, most: int) -> list[Due]:
        """What is to be told next, the oldest first. It stays, closed to further records, until ``told``.

        So a sum whose answer was lost is told again as the same event.
        """
        if not self._telling:
            ended = [key for key in self._open if key not in self._timers]
            dues = [Due(uuid7(), self._open.pop(key), key[2]) for key in ended]
            self._telling = {due.event_id: due for due in dues}
        return list(islice(self._telling.values(), most))

    def told(self, event_id: UUID) -> None:
        del self._telling[event_id]

    def _end(self, key: Key) -> None:
        self._timers.pop(key).cancel()
        self._on_due()


def _nothing(record: Record, reason: str) -> ExchangeSummarized:
    return ExchangeSummarized(
        session_id=record.exchange.session_id,
        container=record.exchange.container,
        exchanges=0,
        failed=0,
        bytes_in=0,
        bytes_out=0,
        reason=reason,
        first_at=record.occurred_at,
    )


def _counted(before: ExchangeSummarized, record: Record) -> ExchangeSummarized:
    result = record.result
    return msgspec.structs.replace(
        before,
        exchanges=before.exchanges + (not record.was_opened),
        closed=before.closed + record.was_opened,
        failed=before.failed + (result is not None and result.error is not None),
        bytes_in=before.bytes_in + (result.bytes_in if result else 0),
        bytes_out=before.bytes_out + (result.bytes_out if result else 0),
        last_at=record.occurred_at,
    )
