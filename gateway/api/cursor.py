"""Cursor: a place in a reading of the log, as text that its reader need not understand.

It knows which log it is of, which event stood at its place, and what was asked for. So it goes on in no other log, in
none that has lost that event since, and for no other question. Its hash tells a damaged one; it is no credential, and
keys decide what may be read. There is nothing secret in it and no person: keys, sessions and streams name nobody.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from events.envelope import RecordedEvent
from events.filter import EventFilter
from events.mark import Mark
from events.store import EventStore
from gateway.errors import Refused

MAX_CHARACTERS: Final = 4096
_RELEASE: Final = 1
_HASH_BYTES: Final = 12
_LABEL: Final = b"session-gateway/cursor\0"


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """``mark`` is the event at ``position``; there is none at 0. ``of``: a word for what is read, by its route."""

    of: str
    log_id: UUID
    position: int
    mark: Mark | None
    until: int | None  # where the reading ends; None: nowhere
    wanted: EventFilter
    release: int = _RELEASE


_DECODER: Final = msgspec.msgpack.Decoder(Cursor)


async def at(
    store: EventStore,
    position: int,
    *,
    of: str,
    wanted: EventFilter,
    until: int | None = None,
    seen: Sequence[RecordedEvent] = (),
) -> str:
    """The text of a cursor that goes on beyond ``position``; its event is looked up unless it is the last ``seen``."""
    is_seen = bool(seen) and seen[-1].position == position
    mark = Mark.of(seen[-1]) if is_seen else await _mark(store, position)
    return encode(Cursor(of=of, log_id=store.log_id, position=position, mark=mark, until=until, wanted=wanted))


def encode(cursor: Cursor) -> str:
    """The cursor as text for a query: no character that would have to be escaped."""
    body = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(_hash(body) + body).rstrip(b"=").decode()


def decode(text: str, *, of: str) -> Cursor:
    """The cursor of a text that ``encode`` gave for the same kind of reading. Raises Refused."""
    try:
        if len(text) > MAX_CHARACTERS:
            raise ValueError
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        body = raw[_HASH_BYTES:]
        if raw[:_HASH_BYTES] != _hash(body):
            raise ValueError
        cursor = _DECODER.decode(body)
    except ValueError:  # that is binascii.Error and msgspec.DecodeError too
        raise Refused("bad-cursor", "The cursor is damaged, or of another release. Begin again without it.") from None
    if cursor.of != of or encode(cursor) != text:
        raise Refused("bad-cursor", "The cursor is of another reading. Begin again without it.")
    return cursor


async def verify(store: EventStore, cursor: Cursor) -> None:
    """Look whether the log still holds the event at the cursor's place. Raises Refused, StoreUnavailable."""
    if cursor.log_id != store.log_id:
        raise Refused("bad-cursor", f"The cursor is of the log {cursor.log_id}; this is {store.log_id}.")
    if cursor.mark != await _mark(store, cursor.position):
        raise Refused(
            "bad-cursor",
            f"The log does not hold the event any more that the cursor saw at position {cursor.position}: it has lost "
            "events since. Begin again, and compare what you have.",
        )


async def _mark(store: EventStore, position: int) -> Mark | None:
    there = await store.read_log(after=position - 1, limit=1) if position > 0 else []
    return Mark.of(there[0]) if there and there[0].position == position else None


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(_LABEL + body).digest()[:_HASH_BYTES]
