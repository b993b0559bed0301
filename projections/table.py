"""Table: how the states of one projection stand in Postgres, one row a key, for SQL and for the start of a process.

The columns are for people and queries. What a process goes on from is ``state``, the whole state as canonical JSON: so
a table is as true as the fold, and a column never has to be turned back into one.
"""

import functools
from collections.abc import Callable
from typing import Any, Final, Generic, cast

import msgspec

from projections.projection import Projection, State

SCHEMA: Final = "view"
_INT8: Final = 2**63 - 1
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class Column(msgspec.Struct, frozen=True):
    """A column and its type in Postgres, as ``sql/`` makes it."""

    name: str
    kind: str


def _as_it_is(key: str, state: Any) -> Any:
    return state


class Table(msgspec.Struct, Generic[State], frozen=True, kw_only=True):
    """``view.NAME``, named as its projection. ``columns``: the first one is the key's; ``state`` follows them."""

    projection: Projection[State]
    state: type[State]
    columns: tuple[Column, ...]
    row: Callable[[str, State], tuple[Any, ...]]  # the values of ``columns``; pure; jsonb: as text
    lean: Callable[[str, State], State] = _as_it_is  # an equal state that shares its texts with others: for memory

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
        """Raises msgspec.DecodeError for bytes of another shape, which a fold of another version may have left."""
        state: State = _decoder(cast(Any, self.state)).decode(kept)
        return state

    def values(self, key: str, state: State) -> tuple[Any, ...]:
        """``row`` and ``state``, as Postgres takes them whatever an event said: one odd text must not stop a table."""
        return (*map(storable, self.row(key, state)), self.kept(state))


def storable(value: Any) -> Any:
    """A value of a column as Postgres can hold it: no NUL in a text, no number beyond eight bytes."""
    kind = type(value)
    if kind is str:
        return value.replace("\0", "\ufffd") if "\0" in value else value
    if kind is int and abs(value) > _INT8:
        return None
    return value


@functools.cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(kind)
