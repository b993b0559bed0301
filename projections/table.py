"""Table: how the states of one projection stand in Postgres, one row a key, for SQL and for the start of a process.

The columns are for people and queries. What a process goes on from is ``state``, the whole state as canonical JSON: so
a table is as true as the fold, and a column never has to be turned back into one.
"""

from collections.abc import Callable
from typing import Any, Generic

import msgspec

from projections.projection import Projection, State

SCHEMA = "view"


class Column(msgspec.Struct, frozen=True):
    """A column and its type in Postgres, as ``sql/`` makes it."""

    name: str
    kind: str


class Table(msgspec.Struct, Generic[State], frozen=True, kw_only=True):
    """``view.NAME``, named as its projection. ``columns``: the first one is the key's; ``state`` follows them."""

    projection: Projection[State]
    state: type[State]
    columns: tuple[Column, ...]
    row: Callable[[str, State], tuple[Any, ...]]  # the values of ``columns``; pure

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def key(self) -> Column:
        return self.columns[0]

    def kept(self, state: State) -> bytes:
        """What the column ``state`` holds: equal states are equal bytes."""
        return msgspec.json.encode(state, order="sorted")

    def state_of(self, kept: bytes) -> State:
        return msgspec.json.decode(kept, type=self.state)
