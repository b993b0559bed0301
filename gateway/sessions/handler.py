"""Handler: load, decide, append; again on conflict. The only way by which a session's state changes."""

import asyncio
import contextlib
import logging
from typing import Final
from uuid import UUID

import msgspec

from events import codec
from events.catalogue import AdmissionDenied
from events.codec import Cause
from events.envelope import ADMISSION, ANY, NEW, SYSTEM, EventData, ExpectedVersion, StreamWrite, session_stream
from events.errors import StoreUnavailable
from events.ids import named
from events.store import Appended, Conflict, Outcome, Spooled
from gateway import telemetry
from gateway.errors import Refused
from gateway.recorder import NotAppended, Recorder, Who
from gateway.sessions.commands import Command, Ending, OpenSession, ResumeSession
from gateway.sessions.decide import Decision, decide
from projections.session_state import SessionState
from projections.views import Views

PERSON_SECONDS: Final = 2.0  # that an end waits for a person's key: a frozen log makes it wait for its append, too
TRIES: Final = 100  # every conflict means that another writer got through
log = logging.getLogger("session_gateway.sessions")


class Handled(msgspec.Struct, frozen=True):
    """What a command came to. ``position``: hold it to see the change; None while it waits in the spool, where this
    process shows it already. ``changed``: False when it was so already."""

    state: SessionState
    position: int | None
    changed: bool


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Who gives a command, and because of what. ``repeat``: an id that makes a second giving the same unit."""

    who: Who
    cause: Cause = codec.NO_CAUSE
    repeat: UUID | None = None


class SessionHandler:
    """Commands of one process. Two processes agree through expected versions."""

    def __init__(self, recorder: Recorder, views: Views, limit: int) -> None:
        self._recorder = recorder
        self._views = views
        self._limit = limit
        self._granting = asyncio.Lock()  # our own grants need not conflict with each other

    async def handle(self, command: Command, origin: Origin) -> Handled:
        """Raises Refused, StoreUnavailable, ProjectionBehind.

        A refusal, and that there is nothing to do, are believed only at the head of the log: we look there once. While
        the log is away an end (``commands.Ending``) is decided from what this process knows, and told as a fact.
        """
        looked, unread = False, 0
        for _ in range(TRIES):
            async with self._granting if isinstance(command, OpenSession | ResumeSession) else contextlib.nullcontext():
                outcome = await self._attempt(command, origin, unread)
            if isinstance(outcome, Handled):
                return outcome
            if looked and not isinstance(outcome, Conflict):
                return await self._settled(outcome, command, origin)
            try:
                await self._views.catch_up_to_head()  # not in our turn: a flood of refusals shares one look
            except StoreUnavailable:
                if not isinstance(command, Ending):
                    raise
            looked = True
            if isinstance(outcome, Conflict) and outcome.stream_id == session_stream(command.session_id):
                # What we hold now and still do not count are events of a later release, which this one may pass over.
                unread = outcome.head
        raise Refused("store-unavailable", "Too many writers at once; nothing was done.", retry_after=1)

    def foreseen(self, command: Command) -> bool:
        """Whether it would be granted as far as this process knows: asked before a check that costs the daemon work."""
        state = self._views.sessions.get(command.session_id)
        views, sharing = self._views, self._sharing(command, state)
        decision = decide(command, state, views.seats, self._limit, sharing=sharing, erased=views.erased)
        return not isinstance(decision, Refused)

    async def _attempt(self, command: Command, origin: Origin, unread: int) -> Handled | Refused | Decision | Conflict:
        """What was written, or why nothing was: refused, nothing to do (an empty decision), another was first."""
        state = self._views.sessions.get(command.session_id)
        sharing = self._sharing(command, state)
        views = self._views
        decision = decide(command, state, views.seats, self._limit, sharing=sharing, erased=views.erased)
        if isinstance(decision, Refused) or not decision.session:
            return decision
        outcome = await self._append(command, await self._unit(command, state, decision, origin, unread))
        if isinstance(outcome, Conflict):
            return outcome
        if isinstance(outcome, Spooled):
            return Handled(self._views.sessions[command.session_id], None, True)
        if not isinstance(outcome, Appended):
            raise NotAppended(f"{type(command).__name__} was answered {outcome}")
        telemetry.event_positions(*range(outcome.first_position, outcome.position + 1))
        await self._views.catch_up(outcome.position)
        return Handled(self._views.sessions[command.session_id], outcome.position, not outcome.duplicate)

    def _sharing(self, command: Command, state: SessionState | None) -> list[SessionState]:
        """The sessions with the folder that the command takes as a workspace: as old, or as new, as the seats."""
        mac = None
        if isinstance(command, OpenSession):
            mac = command.host_dir_mac
        elif isinstance(command, ResumeSession) and state is not None:
            mac = state.host_dir_mac
        if mac is None:
            return []
        return [other for other in self._views.sessions.values() if other.host_dir_mac == mac]

    async def _append(self, command: Command, writes: list[StreamWrite]) -> Outcome:
        """An end that cannot be checked is told as a fact: with the same ids, since the first try may have arrived."""
        store = self._recorder.store
        try:
            return await store.append(*writes)
        except StoreUnavailable:
            if not isinstance(command, Ending):
                raise
        return await store.append(*(msgspec.structs.replace(write, expected_version=ANY) for write in writes))

    async def _unit(
        self, command: Command, state: SessionState | None, decision: Decision, origin: Origin, unread: int
    ) -> list[StreamWrite]:
        """An end does not wait for long for the key of the person behind it: then it is told without the person."""
        if not isinstance(command, Ending) or origin.who.person is None:
            return await self._writes(command.session_id, state, decision, origin, unread)
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(PERSON_SECONDS):
                return await self._writes(command.session_id, state, decision, origin, unread)
        log.warning("an end is told without the person behind it, whose key cannot be had", extra=_about(command))
        nobody = msgspec.structs.replace(origin, who=msgspec.structs.replace(origin.who, person=None))
        return await self._writes(command.session_id, state, decision, nobody, unread)

    async def _settled(self, outcome: Refused | Decision, command: Command, origin: Origin) -> Handled:
        if isinstance(outcome, Refused):
            await self._denied(outcome, origin)
            raise outcome
        state = self._views.sessions[command.session_id]
        return Handled(state, state.position, False)

    async def _writes(
        self, session_id: str, state: SessionState | None, decision: Decision, origin: Origin, unread: int
    ) -> list[StreamWrite]:
        stream_id = session_stream(session_id)
        events = await self._events(stream_id, decision, origin)
        count = len(decision.session)
        writes = [StreamWrite(stream_id, max(state.version, unread) if state else NEW, events[:count])]
        if decision.admission:
            expected: ExpectedVersion = (self._views.seats.version or NEW) if decision.grants else ANY
            writes.append(StreamWrite(ADMISSION, expected, events[count:]))
        return writes

    async def _events(self, stream_id: str, decision: Decision, origin: Origin) -> tuple[EventData, ...]:
        """The first event of a unit is caused by what the command says, the others by the first."""
        events: list[EventData] = []
        cause = origin.cause
        for nth, payload in enumerate((*decision.session, *decision.admission)):
            stream = stream_id if nth < len(decision.session) else ADMISSION
            event_id = named(str(origin.repeat), str(nth)) if origin.repeat else None
            events.append(await self._recorder.event(stream, payload, who=origin.who, cause=cause, event_id=event_id))
            cause = msgspec.structs.replace(cause, causation_id=events[0].event_id)
        return tuple(events)

    async def _denied(self, refusal: Refused, origin: Origin) -> None:
        if refusal.slug == "too-many-sessions":
            denied = AdmissionDenied(
                key_id=origin.who.key_id or origin.who.id,
                reason="limit",
                taken=len(self._views.seats.taken),
                limit=self._limit,
            )
            await self._recorder.fact(SYSTEM, denied, who=origin.who, cause=origin.cause)


def _about(command: Command) -> dict[str, str]:
    return {"session_id": command.session_id, "operation": type(command).__name__}
