"""Cursor: a place in a reading, as text that its reader keeps for us and need not understand.

It is sealed under the secret of the installation: only what a gateway of it gave comes back, for the same kind of
reading. A cursor of the log knows which log it is of, which event stood at its place, and what was asked for; so it
goes on in no other log, in none that has lost that event since, and for no other question. It opens nothing: keys
decide what may be read. There is nothing secret in it and no person: keys, sessions and streams name nobody.
"""

import base64
import hmac
from collections.abc import Sequence
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from events.envelope import RecordedEvent
from events.filter import EventFilter
from events.mark import Mark
from events.store import EventStore
from gateway.access.tokens import SEAL_BYTES, Tokens
from gateway.errors import Refused

MAX_CHARACTERS: Final = 8192  # the longest filter that may be asked for makes some 7,500
_RELEASE: Final = "cursor-2"  # another one where the shape of a cursor changes
S = TypeVar("S", bound=msgspec.Struct)


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A place in the log. ``mark`` is the event at ``position``; there is none at 0."""

    log_id: UUID
    position: int
    mark: Mark | None
    until: int | None  # where the reading ends; None: nowhere
    wanted: EventFilter


async def at(
    tokens: Tokens,
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
    cursor = Cursor(log_id=store.log_id, position=position, mark=mark, until=until, wanted=wanted)
    return encode(tokens, cursor, of=of)


def encode(tokens: Tokens, cursor: msgspec.Struct, *, of: str) -> str:
    """The cursor as text for a query: no character that would have to be escaped. ``of``: what is read, in a word."""
    body = msgspec.msgpack.encode(cursor)
    return base64.urlsafe_b64encode(tokens.seal_of(f"{_RELEASE}|{of}", body) + body).rstrip(b"=").decode()


def decode(tokens: Tokens, text: str, kind: type[S], *, of: str) -> S:
    """The cursor of a text that ``encode`` gave for the same kind of reading. Raises Refused."""
    try:
        if len(text) > MAX_CHARACTERS:
            raise ValueError
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        body = raw[SEAL_BYTES:]
        if not hmac.compare_digest(raw[:SEAL_BYTES], tokens.seal_of(f"{_RELEASE}|{of}", body)):
            raise ValueError
        cursor = msgspec.msgpack.decode(body, type=kind)
        if encode(tokens, cursor, of=of) != text:  # bits that base64 leaves over
            raise ValueError
    except ValueError:  # that is binascii.Error and msgspec.DecodeError too
        raise Refused(
            "bad-cursor",
            "The cursor is damaged, or of another reading, release or SESSION_TOKEN_SECRET. Begin again without it.",
        ) from None
    return cursor


async def verify(store: EventStore, cursor: Cursor) -> None:
    """Look whether the log still holds the event at the cursor's place. Raises Refused, StoreUnavailable."""
    if cursor.log_id != store.log_id:
        raise Refused("bad-cursor", f"The cursor is of the log {cursor.log_id}; this is {store.log_id}.")
    if not _is_place(cursor):
        raise Refused("bad-cursor", "The cursor names no place that a reading can have. Begin again without it.")
    if cursor.mark != await _mark(store, cursor.position):
        raise Refused(
            "bad-cursor",
            f"The log does not hold the event any more that the cursor saw at position {cursor.position}: it has lost "
            "events since. Begin again, and compare what you have.",
        )


def _is_place(cursor: Cursor) -> bool:
    """Behind nothing, or behind the event of its mark; and before its end."""
    at = 0 if cursor.mark is None else cursor.mark.position
    return cursor.position == at >= 0 and (cursor.until is None or cursor.until >= at)


async def _mark(store: EventStore, position: int) -> Mark | None:
    there = await store.read_log(after=position - 1, limit=1) if position > 0 else []
    return Mark.of(there[0]) if there and there[0].position == position else None
