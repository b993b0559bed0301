"""Recorder: from a payload and who did it to an event ready to append, with the person behind it sealed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec

from events import codec
from events.catalogue import Payload
from events.codec import Cause
from events.envelope import ANY, Actor, ActorKind, Assurance, EventData, Sealed, StreamWrite
from events.keyring import Keyring
from events.registry import tag_of
from events.sealing import Place, SubjectKey, seal
from events.store import Appended, EventStore, Outcome, Spooled
from gateway import telemetry
from gateway.spool_room import SpoolRoom

ACTOR_FIELD: Final = "actor.on_behalf_of"


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts, in clear, for the time of one request or job; never stored like this."""

    kind: ActorKind
    id: str
    key_id: str | None = None
    person: str | None = None  # whom the frontend acts for, as it says


def utc_now() -> datetime:
    return datetime.now(UTC)


def unattributed(now: datetime) -> str:
    """The subject of facts about nobody we know (a refused client's address): one a day, so one key a day."""
    return f"unattributed:{now:%Y-%m-%d}"


def session_subject(session_id: str) -> str:
    """The subject of a session that was opened for nobody in particular."""
    return f"session:{session_id}"


async def session_key(keyring: Keyring, session_id: str, owner_key: str | None) -> SubjectKey:
    """What is said of a session is sealed with: its owner's key, or its own, made when it was opened for nobody.

    A session may outlive its subject's erasure: what is said of it then is sealed with a key that nobody keeps, by
    every process. Raises StoreUnavailable when nobody can tell.
    """
    if owner_key is None:
        return await keyring.key_of(session_subject(session_id)) or SubjectKey.new()
    return (await keyring.keys([owner_key])).get(owner_key) or SubjectKey.new()


class Recorder:
    """Builds events; appends facts. ``now`` is the writer's clock; ``spool_bytes`` what the spool may hold."""

    def __init__(
        self,
        store: EventStore,
        keyring: Keyring,
        now: Callable[[], datetime] = utc_now,
        *,
        spool_bytes: int | None = None,
    ) -> None:
        self.store = store
        self.keyring = keyring
        self.now = now
        self._room = SpoolRoom(store, spool_bytes)

    async def event(
        self,
        stream_id: str,
        payload: Payload,
        *,
        who: Who,
        cause: Cause = codec.NO_CAUSE,
        event_id: UUID | None = None,
        occurred_at: datetime | None = None,
    ) -> EventData:
        """The event to append to ``stream_id``. Raises StoreUnavailable when a subject's key cannot be had."""
        person = None
        if who.person is not None:
            person = await self.sealed(who.person, who.person, stream_id, tag_of(payload), ACTOR_FIELD)
        actor = Actor(
            kind=who.kind,
            id=who.id,
            key_id=who.key_id,
            on_behalf_of=person,
            assurance=Assurance.NONE if person is None else Assurance.ASSERTED,
        )
        return codec.event(payload, actor=actor, occurred_at=occurred_at or self.now(), cause=cause, event_id=event_id)

    async def sealed(self, subject: str, clear: str, stream_id: str, event_type: str, field: str) -> Sealed:
        """``clear`` sealed under the subject's key for exactly that place."""
        return seal(await self.keyring.key_for(subject), clear, Place(stream_id, event_type, field))

    async def fact(
        self,
        stream_id: str,
        payload: Payload,
        *,
        who: Who,
        cause: Cause = codec.NO_CAUSE,
        event_id: UUID | None = None,
        occurred_at: datetime | None = None,
    ) -> int | None:
        """Append one fact, true in any order; durable when this returns.

        Its position (the first one, when it was told before); None while the log is away and it waits in the spool.
        """
        event = await self.event(stream_id, payload, who=who, cause=cause, event_id=event_id, occurred_at=occurred_at)
        position = await self.append(stream_id, event)
        if position is not None:
            telemetry.event_positions(position)
        return position

    async def append(self, stream_id: str, event: EventData) -> int | None:
        """One fact that is made already: its position, or None while it waits in the spool. Raises StoreUnavailable."""
        with self._room.taken(event):
            return accepted(await self.store.append(StreamWrite(stream_id, ANY, (event,))))


class NotAppended(Exception):
    """A unit that could not have been refused was: a fault of ours, with the outcome as its text."""


def accepted(outcome: Outcome) -> int | None:
    """The last position of a unit that expects nothing; None while it waits in the spool. Raises NotAppended."""
    match outcome:
        case Appended():
            return outcome.position
        case Spooled():
            return None
        case _:
            raise NotAppended(f"a fact was not appended: {outcome}")
