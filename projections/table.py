"""Table: how the states of one projection stand in Postgres, one row a key, for SQL and for the start of a process.

The columns are for people and queries. What a process goes on from is ``state``, the whole state as canonical JSON: so
a table is as true as the fold, and a column never has to be turned back into one.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, Final, Generic, cast

import msgspec

from events import codec
from projections.errors import UnreadableState
from projections.projection import Projection, State

SCHEMA: Final = "view"
LONGEST: Final = 1000  # bytes of a text in an index: Postgres takes 2,704 a row, of all its columns
_SHOWN: Final = 50  # characters of a longer one, before its hash
_MARK: Final = "#sha256:"
_NO_NUL: Final = "\ufffd"
_INT8: Final = 2**63 - 1
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class Column(msgspec.Struct, frozen=True):
    """A column and its type in Postgres, as ``sql/`` makes it. ``indexed``: a text that stands in an index."""

    name: str
    kind: str
    indexed: bool = False


def _as_it_is(key: str, state: Any) -> Any:
    return state


class Table(msgspec.Struct, Generic[State], frozen=True, kw_only=True):
    """``view.NAME``, named as its projection. ``columns``: the first one is the key's; ``state`` follows them."""

    projection: Projection[State]
    state: type[State]
    columns: tuple[Column, ...]
    row: Callable[[str, State], tuple[Any, ...]]  # the values of ``columns``; pure; jsonb: as text
    lean: Callable[[str, State], State] = _as_it_is  # an equal state that shares its texts with others: for memory
    bounded: tuple[int, ...] = ()  # which columns are indexed; counted once

    def __post_init__(self) -> None:
        indexed = tuple(n for n, column in enumerate(self.columns) if column.indexed)
        msgspec.structs.force_setattr(self, "bounded", indexed)

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def key(self) -> Column:
        return self.columns[0]

    def kept(self, state: State) -> bytes:
        """What the column ``state`` holds: equal states are equal bytes."""
        return _ENCODER.encode(state)

    def state_of(self, kept: bytes) -> State:
        """Raises UnreadableState for bytes of another shape, which a fold of another version may have left, and for
        any that no fold writes."""
        try:
            state: State = _decoder(cast(Any, self.state)).decode(kept)
        except (ValueError, RecursionError) as error:  # no JSON of that shape, no UTF-8, nested too deep
            raise UnreadableState(self.name, type(error).__name__) from error
        return state

    def values(self, key: str, state: State) -> tuple[Any, ...]:
        """``row`` and ``state``, as Postgres takes them whatever an event said: one odd text must not stop a table."""
        row = self.row(key, state)
        values = [storable(value) for value in row]
        for place in self.bounded:
            if type(value := row[place]) is str:
                values[place] = bounded(value)
        return (*values, self.kept(state))

    def key_of(self, stored: str, state: State) -> str:
        """The key of a row, whose column may hold its hash. Raises UnreadableState when the state does not tell it."""
        if _MARK not in stored:
            return stored
        key = getattr(state, self.key.name, None)
        if not isinstance(key, str) or bounded(key) != stored:
            raise UnreadableState(self.name, "its key is a hash, and it does not say of what")
        return key


def storable(value: Any) -> Any:
    """A value of a column as Postgres can hold it: no NUL in a text, no number beyond eight bytes."""
    kind = type(value)
    if kind is str:
        return value.replace("\0", _NO_NUL) if "\0" in value else value
    if kind is int and abs(value) > _INT8:
        return None
    return value


def bounded(text: str) -> str:
    """A text as an index of Postgres can hold it, and other texts as others: of one that is too long, or holds a NUL,
    the beginning and its SHA-256."""
    if len(text) <= LONGEST // 4 and "\0" not in text and _MARK not in text:
        return text
    whole = text.encode()
    if len(whole) <= LONGEST and "\0" not in text and _MARK not in text:
        return text
    return f"{text[:_SHOWN].replace(chr(0), _NO_NUL)}{_MARK}{hashlib.sha256(whole).hexdigest()}"


def as_jsonb(value: Any) -> str:
    """Canonical JSON as ``jsonb`` takes it, which refuses a NUL in a text, escaped or not."""
    text = codec.canonical(value)
    if b"\\u0000" in text:
        text = codec.canonical(_without_nul(msgspec.to_builtins(value)))
    return text.decode()


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", _NO_NUL)
        case list() | tuple():
            return [_without_nul(each) for each in value]
        case dict():
            return {_without_nul(name): _without_nul(each) for name, each in value.items()}
    return value


@functools.cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)
