"""TableReport: how every table stands: its fold and place, who carries it on, who rebuilds it, when it was last proved.

Asked of the database alone, in a time that does not grow with it. Of a log that has no tables: what its events make.
Changes nothing and needs no lease.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal, cast

import msgspec

from events.dialling import Connection, Pool
from events.errors import StoreUnavailable
from events.postgres import UNSURE
from events.store import EventStore
from projections.comparison import LONG_SECONDS
from projections.projection import fold
from projections.projector import LEASE as PROJECTOR
from projections.rebuild import LEASE as REBUILD
from projections.table import SCHEMA, Table

COUNTED_BYTES: Final = 8 * 2**20  # of a table whose rows are counted in any case: that takes milliseconds
_CHECKPOINTS: Final = "select name, version, position, updated_at from view.projection_checkpoint"
_LEASES: Final = """
select name, holder, expires_at from view.lease
 where (name = $1 or starts_with(name, $2)) and expires_at > clock_timestamp()
"""
_REBUILDS: Final = (
    "select name, version, position, reason, started_at from view.projection_rebuild where told_id is null"
)
_PROOFS: Final = """
select name, version, position, rows, differing, missing, extra, changed, verified_at from view.projection_proof
"""


class Holder(msgspec.Struct, frozen=True):
    """Who has a lease, and until when if it is not renewed."""

    holder: str
    expires_at: datetime


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """A rebuild that was begun and is not done. ``holder``: who is at it, until ``expires_at`` or, if it lives, longer;
    None when it was interrupted."""

    version: int
    position: int
    reason: str
    started_at: datetime
    holder: str | None
    expires_at: datetime | None


class Proved(msgspec.Struct, frozen=True, kw_only=True):
    """The last comparison of a table with the log; a rebuild is one too. ``rows``: of the table."""

    version: int
    position: int
    rows: int
    differing: int
    missing: int = 0
    extra: int = 0
    changed: int = 0
    verified_at: datetime


class TableReport(msgspec.Struct, frozen=True, kw_only=True):
    """One table, or what a fold of a log without tables came to.

    ``table_version``: the fold that made the table; None: it was never made. ``rows_exact``: they were counted, and are
    not Postgres' estimate.
    """

    name: str
    version: int  # the fold of this release
    table_version: int | None
    position: int
    lag: int  # events of the log that it does not hold
    rows: int
    rows_exact: bool
    updated_at: datetime | None
    rebuild: Rebuild | None
    proved: Proved | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``source``: where it was read: the tables, or for want of them a fold of all events, made for this report."""

    source: Literal["tables", "fold"]
    log_id: str
    head: int
    projector: Holder | None
    projections: tuple[TableReport, ...]


async def report(store: EventStore, pool: Pool, tables: Sequence[Table[Any]], *, exact: bool = False) -> Report:
    """How ``tables`` stand now. ``exact``: the rows of large ones are counted too. Raises StoreUnavailable."""
    try:
        async with pool.acquire() as connection:
            found = {row["name"]: row for row in await connection.fetch(_CHECKPOINTS)}
            leases = {row["name"]: row for row in await connection.fetch(_LEASES, PROJECTOR, REBUILD)}
            rebuilds = {row["name"]: row for row in await connection.fetch(_REBUILDS)}
            proofs = {row["name"]: row for row in await connection.fetch(_PROOFS)}
            counts = {table.name: await _rows(cast(Connection, connection), table, exact=exact) for table in tables}
    except UNSURE as error:
        raise StoreUnavailable(f"the tables cannot be read: {str(error) or type(error).__name__}") from error
    head = (await store.head()).position  # after the checkpoints: a lag is never below 0
    projector = leases.get(PROJECTOR)
    return Report(
        source="tables",
        log_id=str(store.log_id),
        head=head,
        projector=None if projector is None else Holder(projector["holder"], projector["expires_at"]),
        projections=tuple(
            _table(
                table,
                head=head,
                rows=counts[table.name],
                checkpoint=found.get(table.name),
                rebuild=_rebuild(rebuilds.get(table.name), leases.get(REBUILD + table.name)),
                proof=proofs.get(table.name),
            )
            for table in tables
        ),
    )


async def folded(store: EventStore, tables: Sequence[Table[Any]]) -> Report:
    """What a log without tables makes, one projection after the other: the states of one are in memory at a time.
    Raises StoreUnavailable."""
    head = (await store.head()).position
    counts = {table.name: (await _states(store, table), True) for table in tables}
    return Report(
        source="fold",
        log_id=str(store.log_id),
        head=head,
        projector=None,
        projections=tuple(
            msgspec.structs.replace(
                _table(table, head=head, rows=counts[table.name], checkpoint=None, rebuild=None, proof=None),
                position=head,
                lag=0,
            )
            for table in tables
        ),
    )


async def _states(store: EventStore, table: Table[Any]) -> int:
    states: dict[str, Any] = {}
    after, types = 0, sorted(table.projection.types)
    while page := await store.read_log(after=after, types=types):
        fold(table.projection, states, page)
        after = page[-1].position
    return len(states)


async def _rows(connection: Connection, table: Table[Any], *, exact: bool) -> tuple[int, bool]:
    """Of a table, and whether they were counted."""
    relation = f"{SCHEMA}.{table.name}"
    if exact or await connection.fetchval("select pg_relation_size($1::text::regclass)", relation) <= COUNTED_BYTES:
        return await connection.fetchval(f"select count(*) from {relation}", timeout=LONG_SECONDS), True
    plan = await connection.fetchval(f"explain (format json) select from {relation}")
    return round(msgspec.json.decode(plan)[0]["Plan"]["Plan Rows"]), False


async def proofs(pool: Pool) -> dict[str, Proved]:
    """The last comparison of each table that was ever compared. Raises StoreUnavailable."""
    try:
        return {row["name"]: _proved(row) for row in await pool.fetch(_PROOFS)}
    except UNSURE as error:
        raise StoreUnavailable(f"the proofs cannot be read: {str(error) or type(error).__name__}") from error


def _table(
    table: Table[Any], *, head: int, rows: tuple[int, bool], checkpoint: Any, rebuild: Rebuild | None, proof: Any
) -> TableReport:
    position = 0 if checkpoint is None else checkpoint["position"]
    return TableReport(
        name=table.name,
        version=table.projection.version,
        table_version=None if checkpoint is None else checkpoint["version"],
        position=position,
        lag=max(0, head - position),
        rows=rows[0],
        rows_exact=rows[1],
        updated_at=None if checkpoint is None else checkpoint["updated_at"],
        rebuild=rebuild,
        proved=None if proof is None else _proved(proof),
    )


def _rebuild(row: Any, lease: Any) -> Rebuild | None:
    if row is None:
        return None
    told = {name: row[name] for name in ("version", "position", "reason", "started_at")}
    holder = (None, None) if lease is None else (lease["holder"], lease["expires_at"])
    return Rebuild(**told, holder=holder[0], expires_at=holder[1])


def _proved(row: Any) -> Proved:
    return Proved(**{name: row[name] for name in Proved.__struct_fields__})
