"""The SQL of the tables, made from their columns: whole sets at a time, by the key's index.

``relation`` is where the rows lie when it is not ``view.NAME``: a rebuild writes beside.
"""

from typing import Any

from projections.table import SCHEMA, Table


def relation(table: Table[Any]) -> str:
    return f"{SCHEMA}.{table.name}"


def upsert(table: Table[Any], into: str = "") -> str:
    """Arrays in, one a column and then ``state``; each key at most once."""
    names = [column.name for column in table.columns] + ["state"]
    kinds = [column.kind for column in table.columns] + ["bytea"]
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, start=1))
    changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    return (
        f"insert into {into or relation(table)} ({', '.join(names)}) select * from unnest({arrays})"
        f" on conflict ({table.key.name}) do update set {changes}"
    )


def delete(table: Table[Any], of: str = "") -> str:
    """An array of keys in."""
    return f"delete from {of or relation(table)} where {table.key.name} = any($1::{table.key.kind}[])"


def empty(table: Table[Any], of: str = "") -> str:
    """Every row. No truncate: the gateway may not, and whoever reads meanwhile would wait."""
    return f"delete from {of or relation(table)}"


def load(table: Table[Any], of: str = "") -> str:
    """An array of keys in; key and state of those that are there."""
    key = table.key
    return f"select {key.name}, state from {of or relation(table)} where {key.name} = any($1::{key.kind}[])"


def load_all(table: Table[Any], of: str = "") -> str:
    """Key and state of all, in no order."""
    return f"select {table.key.name}, state from {of or relation(table)}"


CHECKPOINTS = "select * from view.projection_checkpoint"
# A new holder puts its epoch on every checkpoint. It waits for a former one's last write; later ones fail (MOVE).
CLAIM = "update view.projection_checkpoint set epoch = $1 where epoch < $1"
# The epoch of a lease that was deleted begins at 1 again: that of its holder is put above the checkpoints'.
RAISE = """
update view.lease l
   set epoch = greatest(l.epoch, (select coalesce(max(c.epoch), 0) + 1 from view.projection_checkpoint c
                                   where c.epoch > l.epoch))
 where l.name = $1 and l.epoch = $2 and l.holder = $3
returning l.epoch
"""
# A table that cannot be gone on from is as one of a fold before the first.
CONDEMN = """
update view.projection_checkpoint c set version = 0, updated_at = clock_timestamp()
 where c.name = $1 and c.epoch = $3 and exists (select from view.lease l where l.name = $2 and l.epoch = $3)
"""
# How a table is made: emptied, at the beginning of the log. $1 name, $2 version, $3 log, $4 lease, $5 its epoch.
BEGIN = """
insert into view.projection_checkpoint as c (name, version, log_id, position, epoch)
select $1, $2, $3, 0, $5 from view.lease l where l.name = $4 and l.epoch = $5
on conflict on constraint projection_checkpoint_pk do update
   set version = excluded.version, log_id = excluded.log_id, position = 0, event_id = null, recorded_at = null,
       epoch = excluded.epoch, updated_at = clock_timestamp()
 where c.epoch <= excluded.epoch and c.version <= excluded.version
returning *
"""
# Moves checkpoints that are as they were seen, under the epoch of the lease's present holder. The rows stay locked
# until the commit, so of two writers the second sees that it is late: it moves fewer than it named and rolls back.
# $1 names, $2 their updated_at as seen, $3 position, $4 event, $5 its time, $6 lease, $7 epoch.
MOVE = """
update view.projection_checkpoint c
   set position = $3, event_id = $4, recorded_at = $5, updated_at = clock_timestamp()
  from unnest($1::text[], $2::timestamptz[]) as seen(name, updated_at)
 where c.name = seen.name
   and c.updated_at = seen.updated_at
   and c.epoch = $7
   and exists (select from view.lease l where l.name = $6 and l.epoch = $7)
returning c.name, c.updated_at
"""
# Lost in a crash together, rows and checkpoint are made again from the log: no wait for the disk. A holder that is
# frozen inside a transaction must not keep its locks. To the end of the transaction only: a pooler may stand between.
BOUNDED = """
select set_config('synchronous_commit', 'off', true), set_config('idle_in_transaction_session_timeout', '3s', true),
       set_config('lock_timeout', '4s', true)
"""
