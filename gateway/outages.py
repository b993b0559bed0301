"""Outages: what this process does about a log that is away, beside spooling: trust its views for a while, and tell.

``stale`` is asked before a session token or an API key opens anything. The alerts are facts: ``alert.raised`` waits in
the spool with the others, ``alert.cleared`` follows when all of them are in the log.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from events.catalogue import AlertCleared, AlertRaised
from events.envelope import ActorKind, gateway_stream
from events.ids import uuid7
from events.store import StoreStatus
from gateway import context, telemetry
from gateway.errors import Refused
from gateway.recorder import Recorder, Who
from gateway.sessions.observe import until_stored

NAME: Final = "log_away"
DETAIL: Final = "The event log cannot be reached; facts wait in the spool."
STALE_SECONDS: Final = 5  # until who was refused for it should ask again
STRANGERS: Final = 1_000  # denials of callers without a key or token that one outage has room for
FOR_WANT_OF_THE_LOG: Final = frozenset({"store-unavailable", "view-stale"})
log = logging.getLogger("session_gateway.outages")


class _Turn(msgspec.Struct, frozen=True):
    """The log went away, or came back."""

    status: StoreStatus
    at: datetime
    replayed: int  # writes that had left the spool by then
    turned_away: int  # requests that had been refused by then


class Outages:
    """One process's. ``unseen``: for how many seconds it has not known all of the log; ``replayed``: writes that have
    left its spool since it started."""

    def __init__(
        self,
        recorder: Recorder,
        instance: str,
        *,
        stale_limit: float,
        unseen: Callable[[], float],
        replayed: Callable[[], int] = lambda: 0,
    ) -> None:
        self._recorder = recorder
        self._instance = instance
        self._stale_limit = stale_limit
        self.unseen = unseen
        self._replayed = replayed
        self._turns: asyncio.Queue[_Turn] = asyncio.Queue()
        self._strangers = 0  # denials of theirs since the log went away
        self.turned_away = 0  # requests that were answered 503 for want of the log, since the process started

    @property
    def is_stale(self) -> bool:
        """Whether a token or key may have been revoked for longer than STALE_LIMIT without this process seeing it."""
        return self.unseen() > self._stale_limit

    def refuse_stale(self) -> None:
        """Raise Refused (503) while ``is_stale``; it ends as soon as the log is seen again."""
        if self.is_stale:
            detail = "This process has not seen the event log for too long to know what was revoked."
            raise Refused("view-stale", detail, retry_after=STALE_SECONDS)

    def count(self, refusal: Refused) -> None:
        """A request is answered with ``refusal``."""
        if refusal.slug in FOR_WANT_OF_THE_LOG:
            self.turned_away += 1

    def has_room_for_stranger(self) -> bool:
        """Whether the next denial of somebody unknown is told in the log: anybody can cause any number of them."""
        if not self._recorder.store.status.available:
            self._strangers += 1
            if self._strangers == STRANGERS + 1:
                log.warning(
                    "denials of unknown callers are in the security log alone until the event log is back",
                    extra={"operation": NAME},
                )
        return self._strangers <= STRANGERS

    def changed(self, status: StoreStatus) -> None:
        """A hook for ``FallbackEventStore.on_change``."""
        self._strangers = 0
        self._turns.put_nowait(_Turn(status, self._recorder.now(), self._replayed(), self.turned_away))

    async def run(self) -> None:
        """Tell every outage from beginning to end, until cancelled."""
        while True:
            raised = await self._turns.get()
            if raised.status.available:
                continue
            alert = await self._raise(raised)
            await self._clear(raised, await self._turns.get(), alert)

    async def _raise(self, raised: _Turn) -> UUID:
        log.error("the event log is away: facts are spooled, commands are refused", extra={"operation": NAME})
        return await self._tell(AlertRaised(instance=self._instance, name=NAME, detail=DETAIL))

    async def _clear(self, raised: _Turn, cleared: _Turn, alert: UUID) -> None:
        since = raised.status.away_since or raised.at
        payload = AlertCleared(
            instance=self._instance,
            name=NAME,
            since=since,
            lasted_ms=max(0, round((cleared.at - since).total_seconds() * 1000)),
            replayed=cleared.replayed - raised.replayed,
            refused=cleared.turned_away - raised.turned_away,
        )
        log.warning(
            "the event log is back after %.1f s: %d writes were replayed, %d requests had been refused",
            payload.lasted_ms / 1000,
            payload.replayed,
            payload.refused,
            extra={"operation": NAME},
        )
        await self._tell(payload, alert)

    async def _tell(self, payload: AlertRaised | AlertCleared, causation_id: UUID | None = None) -> UUID:
        """The event's id."""
        who, event_id = Who(kind=ActorKind.GATEWAY, id=self._instance), uuid7()
        stream_id = gateway_stream(self._instance)
        with telemetry.span("gateway.alert", root=True):
            cause = msgspec.structs.replace(context.cause(), causation_id=causation_id)
            await until_stored(lambda: self._recorder.fact(stream_id, payload, who=who, cause=cause, event_id=event_id))
        return event_id
