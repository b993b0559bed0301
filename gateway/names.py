"""Names: how positions, ids, types and actors are written in a question to the log.

Pure, and known to the API and to the commands alike, so that a slip is told before a request is made.
"""

import re
from collections.abc import Sequence
from typing import Final

from events.envelope import STREAM_ID, ActorKind, session_stream

MAX_TYPES: Final = 40  # at once: more than there are
MAX_ACTOR: Final = 200
# What why takes: an id, or KIND:ID; a kind is what nothing else could be taken for.
KINDED: Final = re.compile(r"(?:(?P<kind>event|session|request|trace):)?(?P<id>[0-9A-Za-z._-]{1,128})", re.ASCII)
_TYPE: Final = re.compile(r"[a-z_]{1,50}\.(?:[a-z_]{1,50}|\*)\Z")
_KEY_ID: Final = re.compile(r"[0-9A-Za-z_.-]{1,100}\Z", re.ASCII)
_POSITION: Final = re.compile(r"\d{1,18}\Z", re.ASCII)
_TRACE: Final = re.compile(r"[0-9a-f]{32}\Z")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z|[0-9a-f]{32}\Z")


def is_position(text: str) -> bool:
    return _POSITION.match(text) is not None


def is_uuid(text: str) -> bool:
    """With or without hyphens, in either case; nothing else that ``uuid.UUID`` would read."""
    return _UUID.match(text.lower()) is not None


def is_event(text: str) -> bool:
    return is_position(text) or is_uuid(text)


def is_trace(text: str) -> bool:
    return _TRACE.match(text.lower()) is not None


def is_stream(text: str) -> bool:
    return STREAM_ID.match(text) is not None


def is_session(text: str) -> bool:
    return is_stream(session_stream(text))


def is_actor(text: str) -> bool:
    """The id of a key, or KIND:ID."""
    kind, colon, name = text.partition(":")
    if not colon:
        return _KEY_ID.match(text) is not None
    return kind in set(ActorKind) and name.isprintable() and 0 < len(name) <= MAX_ACTOR


def are_types(given: Sequence[str]) -> bool:
    """Whether these are types and families, as many as may be asked for at once."""
    return len(given) <= MAX_TYPES and all(_TYPE.match(text) for text in given)
