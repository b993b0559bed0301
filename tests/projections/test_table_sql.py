"""The statements of the tables, as text; ``tests/plans`` shows how Postgres carries them out."""

from projections import table_sql
from projections.tables import GATEWAYS


def test_rows_may_lie_beside() -> None:
    """A rebuild writes by the same statements as the projector, elsewhere."""
    for statement in (table_sql.upsert, table_sql.delete, table_sql.load, table_sql.load_all, table_sql.empty):
        assert "view.gateways" in statement(GATEWAYS)
        beside = statement(GATEWAYS, "view.gateways_next")
        assert "view.gateways_next" in beside and beside.replace("_next", "") == statement(GATEWAYS)


def test_rows_come_as_one_array_a_column() -> None:
    assert table_sql.upsert(GATEWAYS) == (
        "insert into view.gateways (instance, started_at, ended_at, crashed, state) select * from"
        " unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::boolean[], $5::bytea[])"
        " on conflict (instance) do update set started_at = excluded.started_at, ended_at = excluded.ended_at,"
        " crashed = excluded.crashed, state = excluded.state"
    )
