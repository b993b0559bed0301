"""Alerts: which tables are known to differ from the log, and how far that is told. One row a table that differs.

A row stands before its event is appended and goes after its end is, each under an id of its own: who dies between
leaves it to the next holder of the lease, who appends under the same id. A former holder changes nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from events.dialling import Pool
from events.envelope import Fence
from events.errors import StoreUnavailable
from events.postgres import UNSURE
from projections.errors import Superseded

_HELD: Final = "exists (select from view.lease l where l.name = $1 and l.epoch = $2)"
_STANDING: Final = "select name, alert_id, instance, since, detail, cause, told, cleared_id from view.projection_alert"
_OPEN: Final = f"""
insert into view.projection_alert as a (name, alert_id, instance, since, detail, cause)
select $3, $4, $5, $6, $7, $8 where {_HELD}
on conflict on constraint projection_alert_pk do nothing
returning a.name
"""
_TOLD: Final = f"""
update view.projection_alert a set told = true where {_HELD} and a.name = $3 and a.alert_id = $4 returning a.name
"""
_END: Final = f"""
update view.projection_alert a set cleared_id = $5 where {_HELD} and a.name = $3 and a.alert_id = $4 returning a.name
"""
_FORGET: Final = f"""
delete from view.projection_alert a where {_HELD} and a.name = $3 and a.alert_id = $4 returning a.name
"""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``view.projection_alert``."""

    name: str
    alert_id: UUID
    instance: str
    since: datetime
    detail: str
    cause: UUID | None
    told: bool = False
    cleared_id: UUID | None = None


class Alerts:
    """Every method raises StoreUnavailable; those that change something Superseded, when the lease is another's now."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def standing(self) -> Mapping[str, Alert]:
        """Those that are not over, or whose end is not told, by the table's name."""
        try:
            rows = await self._pool.fetch(_STANDING)
        except UNSURE as error:
            raise _away(error) from error
        return {row["name"]: Alert(**dict(row)) for row in rows}

    async def open(self, alert: Alert, fence: Fence) -> None:
        """Note what is going to be told."""
        figures = (alert.alert_id, alert.instance, alert.since, alert.detail, alert.cause)
        await self._change(_OPEN, fence, alert.name, *figures)

    async def told(self, alert: Alert, fence: Fence) -> None:
        """Its event is in the log."""
        await self._change(_TOLD, fence, alert.name, alert.alert_id)

    async def end(self, alert: Alert, cleared_id: UUID, fence: Fence) -> None:
        """Note that it is over, and under which id that is going to be told."""
        await self._change(_END, fence, alert.name, alert.alert_id, cleared_id)

    async def forget(self, alert: Alert, fence: Fence) -> None:
        """Its end is in the log."""
        await self._change(_FORGET, fence, alert.name, alert.alert_id)

    async def _change(self, query: str, fence: Fence, name: str, *arguments: Any) -> None:
        try:
            changed = await self._pool.fetchval(query, fence.lease, fence.epoch, name, *arguments)
        except UNSURE as error:
            raise _away(error) from error
        if changed is None:
            raise Superseded(name)


def _away(error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(f"the alerts of the tables cannot be reached: {str(error) or type(error).__name__}")
