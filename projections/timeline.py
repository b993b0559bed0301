"""Timeline: one session, step by step, as it went; what was proxied and checked between two steps is added up.

A fold over the session's events in order of position, page by page: what it holds does not grow with the traffic, nor
with what strangers try. Times are the log's. Reading and showing are the caller's.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from events import codec
from events.catalogue import (
    AccessDenied,
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    ExchangeSummarized,
    HealthSummarized,
    Payload,
    TokenRevealed,
)
from events.envelope import RecordedEvent
from projections.lifecycle import SEATED, Phase
from projections.projection import apply
from projections.session_state import Sessions, SessionState

QUIET: Final = timedelta(minutes=5)  # nothing for longer than this is a gap
MOST: Final = 2000  # entries of one timeline
# What it is made of. Who read the log has a page of its own; whom a denial names is for the log's readers only.
FAMILIES: Final = ("session.*", "token.*", "container.*", "admission.*", "health.*", "exchange.*")
DENIALS: Final = ("access.*",)
STATE: Final = ("session.*",)  # what phase and generation are made of
_EXCHANGE = ExchangeCompleted | ExchangeOpened | ExchangeClosed | ExchangeSummarized
_USE = _EXCHANGE | HealthSummarized | AccessDenied | TokenRevealed
_MOST_REASONS: Final = 20
_OTHER: Final = "other"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to the session. ``phase`` and ``generation`` are those after it."""

    event: RecordedEvent
    payload: Payload | codec.Unknown
    since: timedelta | None  # the step before
    phase: Phase
    generation: int


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What went through it between two steps, how its health was found meanwhile, and who was refused.

    ``exchanges`` counts requests and streams where they are first told, ``failed`` those that ended with an error,
    ``open`` those that had begun and not ended by then. ``checks`` and ``checks_failed`` are of its health.
    ``revealed`` counts how often its token was shown again to the key that it had been shown to before.
    """

    first: RecordedEvent
    last: RecordedEvent
    exchanges: int = 0
    failed: int = 0
    open: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    checks: int = 0
    checks_failed: int = 0
    revealed: int = 0
    denials: Mapping[str, int] = {}  # by reason


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing happened and nothing was told of exchanges; of ``open`` ones the end tells what went through."""

    since: datetime
    until: datetime
    open: int


class Carried(msgspec.Struct, frozen=True, array_like=True):
    """What a timeline that goes on knows of what came before, beside the session's state."""

    open: int = 0
    step_at: datetime | None = None
    active_at: datetime | None = None
    revealed: str | None = None


Entry = Step | Use | Gap


class Timeline:
    """Add the session's events in order, then ``finish``.

    One that goes on where another ``reached`` is given what that ``carried`` and, before the rest, the events of STATE
    up to there (``recall``): its entries are those that would have followed.
    """

    def __init__(self, session_id: str, *, most: int = MOST, carried: Carried | None = None) -> None:
        carried = carried or Carried()
        self.session_id = session_id
        self._most = most
        self._states: dict[str, SessionState] = {}
        self._entries: list[Entry] = []
        self._use: Use | None = None
        self._step_at = carried.step_at
        self._active_at = carried.active_at
        self._open = carried.open
        self._revealed = carried.revealed  # the token, and to whom it was shown last
        self.reached = 0  # everything up to this position is in it

    @property
    def state(self) -> SessionState | None:
        """The session after all that was added."""
        return self._states.get(self.session_id)

    @property
    def carried(self) -> Carried:
        """For one that goes on beyond ``reached``."""
        return Carried(self._open, self._step_at, self._active_at, self._revealed)

    def recall(self, events: Iterable[RecordedEvent]) -> None:
        """Make the state of them, and no entries."""
        for event in events:
            self._fold(event, codec.decode(event))

    def add(self, events: Iterable[RecordedEvent]) -> bool:
        """False when there is no room for more: the rest was left out, beyond ``reached``."""
        for event in events:
            if len(self._entries) + (self._use is not None) >= self._most:
                return False
            self._add(event, codec.decode(event))
            self.reached = event.position
        return True

    def finish(self, now: datetime | None = None) -> tuple[Entry, ...]:
        """All entries. ``now``: the log's time; for a session that lives, a gap may lead up to it."""
        self._close()
        if now is not None and self.state is not None and self.state.phase in SEATED:
            self._gap_until(now)
        return tuple(self._entries)

    def _fold(self, event: RecordedEvent, payload: Payload | codec.Unknown) -> None:
        if not isinstance(payload, codec.Unknown):
            apply(Sessions(), self._states, event, payload)

    def _add(self, event: RecordedEvent, payload: Payload | codec.Unknown) -> None:
        self._fold(event, payload)
        if isinstance(payload, _USE) and not self._reveals(event, payload):
            self._used(event, payload)
            return
        self._close()
        self._gap_until(event.recorded_at)
        since = None if self._step_at is None else event.recorded_at - self._step_at
        state = self.state
        self._entries.append(
            Step(
                event=event,
                payload=payload,
                since=since,
                phase=Phase.ABSENT if state is None else state.phase,
                generation=0 if state is None else state.generation,
            )
        )
        self._step_at = self._active_at = event.recorded_at

    def _reveals(self, event: RecordedEvent, payload: _USE) -> bool:
        """Whether the token was shown to another one than before: a step. To the same again, it is counted."""
        if not isinstance(payload, TokenRevealed):
            return False
        actor = codec.decode_actor(event)
        before, self._revealed = self._revealed, f"{payload.serial} {actor.key_id or actor.id}"
        return before != self._revealed

    def _used(self, event: RecordedEvent, payload: _USE) -> None:
        if isinstance(payload, _EXCHANGE):  # what others do to it, or try to, is nothing that it did
            if self._active_at is not None and event.recorded_at - self._active_at > QUIET:
                self._close()
                self._gap_until(event.recorded_at)
            self._active_at = event.recorded_at
        match payload:
            case ExchangeOpened():
                self._open += 1
            case ExchangeClosed():
                self._open = max(0, self._open - 1)
            case ExchangeSummarized():
                self._open = max(0, self._open - payload.closed)
        before = self._use or Use(first=event, last=event)
        self._use = msgspec.structs.replace(_counted(before, payload), last=event, open=self._open)

    def _close(self) -> None:
        if self._use is not None:
            self._entries.append(self._use)
            self._use = None

    def _gap_until(self, moment: datetime) -> None:
        if self._active_at is not None and moment - self._active_at > QUIET:
            self._entries.append(Gap(since=self._active_at, until=moment, open=self._open))


def _counted(use: Use, payload: _USE) -> Use:
    match payload:
        case ExchangeOpened():
            return msgspec.structs.replace(use, exchanges=use.exchanges + 1)
        case ExchangeClosed() | ExchangeCompleted():
            return msgspec.structs.replace(
                use,
                exchanges=use.exchanges + isinstance(payload, ExchangeCompleted),
                failed=use.failed + (payload.error is not None),
                bytes_in=use.bytes_in + payload.bytes_in,
                bytes_out=use.bytes_out + payload.bytes_out,
            )
        case ExchangeSummarized():
            return msgspec.structs.replace(
                use,
                exchanges=use.exchanges + payload.exchanges,
                failed=use.failed + payload.failed,
                bytes_in=use.bytes_in + payload.bytes_in,
                bytes_out=use.bytes_out + payload.bytes_out,
            )
        case HealthSummarized():
            return msgspec.structs.replace(
                use, checks=use.checks + payload.checks, checks_failed=use.checks_failed + payload.failed
            )
        case TokenRevealed():
            return msgspec.structs.replace(use, revealed=use.revealed + 1)
        case AccessDenied():
            known = payload.reason in use.denials or len(use.denials) < _MOST_REASONS
            reason = payload.reason if known else _OTHER
            return msgspec.structs.replace(use, denials={**use.denials, reason: use.denials.get(reason, 0) + 1})
