"""Comparison: a new table against the one in use, nearly all of it while both go on.

In a snapshot that has both at one position they are compared whole. What the log touches afterwards is noted as it is
folded in; at the exchange, for which the projector stands still, those rows alone are looked at again. What comes of
both is exact, as if all had been compared then; only a hand that alters other rows in between is not seen.
"""

from array import array
from bisect import bisect_left
from collections.abc import Collection
from typing import Any, Final

import msgspec

from events.dialling import Connection
from projections.checkpoint import Checkpoint
from projections.table import SCHEMA, Table, bounded

SUFFIX: Final = "_next"
LONG_SECONDS: Final = 3600.0  # for a comparison of all rows
MOST_TOUCHED: Final = 10_000  # keys, after which a rebuild that has to wait compares all once more
_FETCH: Final = 10_000


class Compared(msgspec.Struct, frozen=True):
    """The new table against the former one at the same position."""

    rows: int
    differing: int


class _Whole(msgspec.Struct, frozen=True):
    """Both tables as one snapshot had them. ``which``: the hashes of the keys that differ, ascending; 8 bytes each."""

    former: Checkpoint | None
    compared: Compared
    which: "array[int]"

    def differed(self, key_hash: int) -> bool:
        at = bisect_left(self.which, key_hash)
        return at < len(self.which) and self.which[at] == key_hash


class Comparison:
    """Of one run of a rebuild."""

    def __init__(self, table: Table[Any]) -> None:
        self._table = table
        self._whole: _Whole | None = None
        self._touched: dict[str, bool] = {}  # keys since then, as they stand, and whether they had a row in the new one

    @property
    def made(self) -> bool:
        return self._whole is not None

    @property
    def far(self) -> bool:
        """Whether much was touched since."""
        return len(self._touched) > MOST_TOUCHED

    def forget(self) -> None:
        self._whole = None
        self._touched.clear()

    def touch(self, keys: Collection[str], found: Collection[str]) -> None:
        """Before they are changed: those of ``found`` have a row in the new table. A second time changes nothing."""
        if self._whole is not None:
            for key in keys:
                self._touched.setdefault(bounded(key), key in found)

    async def all(self, connection: Connection, former: Checkpoint | None) -> None:
        """Compare whole, in a transaction whose snapshot has both at one position."""
        self.forget()
        compared, which = await whole(connection, self._table), array("q")
        if compared.differing:
            async for row in connection.cursor(different(self._table), prefetch=_FETCH, timeout=LONG_SECONDS):
                which.append(row[0])
        self._whole = _Whole(former, compared, which)

    async def at_last(self, connection: Connection, former: Checkpoint | None, *, follows: bool) -> Compared:
        """Both as they are now, while nobody moves ``former``. ``follows``: that is a place in this log."""
        if self._whole is None or not _led_to(self._whole.former, former, follows=follows):
            return await whole(connection, self._table)
        rows, differing = self._whole.compared.rows, self._whole.compared.differing
        query = touched(self._table)
        for key, key_hash, there, differs in await connection.fetch(query, list(self._touched), timeout=LONG_SECONDS):
            rows += there - self._touched[key]
            differing += differs - self._whole.differed(key_hash)
        return Compared(rows, differing)


def _led_to(then: Checkpoint | None, now: Checkpoint | None, *, follows: bool) -> bool:
    """Whether nothing but events that came between has changed the table in use."""
    if then is None or now is None or not follows:
        return then == now
    return (then.version, then.log_id) == (now.version, now.log_id) and then.position <= now.position


async def whole(connection: Connection, table: Table[Any]) -> Compared:
    """Row by row, all columns."""
    row = await connection.fetchrow("select * from view.compare_rebuild($1)", table.name, timeout=LONG_SECONDS)
    assert row is not None
    return Compared(row["rows"], row["differing"])


def different(table: Table[Any]) -> str:
    """The hashes of the keys whose rows are not the same on both sides."""
    key, old = table.key.name, f"{SCHEMA}.{table.name}"
    return (
        f"select hashtextextended(coalesce(o.{key}, n.{key})::text, 0) from {old} o"
        f" full join {old}{SUFFIX} n on n.{key} = o.{key} where row(o.*) is distinct from row(n.*) order by 1"
    )


def touched(table: Table[Any]) -> str:
    """An array of keys in; each with its hash, whether the new table has it, and whether the two differ in it."""
    key, old = table.key, f"{SCHEMA}.{table.name}"
    return (
        f"select k, hashtextextended(k::text, 0), n.{key.name} is not null, row(o.*) is distinct from row(n.*)"
        f" from unnest($1::{key.kind}[]) k"
        f" left join {old} o on o.{key.name} = k left join {old}{SUFFIX} n on n.{key.name} = k"
    )
