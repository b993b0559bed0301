"""Tag -> payload type and schema version: the list behind the codec, the event docs and the golden files."""

import difflib
from collections.abc import Sequence
from types import UnionType
from typing import Any, Final, get_args

import msgspec

from events import catalogue
from events.errors import BadEvent
from events.store import type_matches


class EventType(msgspec.Struct, frozen=True):
    """One kind of event: its tag, the struct of its newest shape, and that shape's number."""

    tag: str
    payload: type[Any]
    schema_version: int


# The newest shape of each type; absent means 1. Raise it together with an upcaster and a golden file.
_VERSIONS: dict[str, int] = {"exchange.summarized": 2, "log.read": 2}


def _members(union: UnionType) -> tuple[type[Any], ...]:
    return get_args(union)


def _tag(payload: type[Any]) -> str:
    return str(payload.__struct_config__.tag)


EVENT_TYPES: Final[dict[str, EventType]] = {
    _tag(payload): EventType(_tag(payload), payload, _VERSIONS.get(_tag(payload), 1))
    for payload in _members(catalogue.Payload)
}


def event_type(tag: str) -> EventType:
    """The type behind a tag. Raises BadEvent for a tag that this release does not know."""
    try:
        return EVENT_TYPES[tag]
    except KeyError:
        raise BadEvent(f"no event type is called {tag!r}") from None


def unknown(wanted: Sequence[str]) -> tuple[str, ...]:
    """Of types and families (``session.*``), those that this release knows no event of."""
    return tuple(one for one in wanted if not any(type_matches(tag, (one,)) for tag in EVENT_TYPES))


def near(wanted: str) -> str | None:
    """The type or family that somebody may have meant."""
    known = [*EVENT_TYPES, *{f"{tag.partition('.')[0]}.*" for tag in EVENT_TYPES}]
    return next(iter(difflib.get_close_matches(wanted, sorted(known), n=1)), None)


def tag_of(payload: catalogue.Payload) -> str:
    return _tag(type(payload))


def tags(*kinds: type[Any] | UnionType) -> frozenset[str]:
    """The tags of payload types, or of unions of them."""
    return frozenset(_tag(kind) for of in kinds for kind in (get_args(of) or (of,)))
