"""TableReport: what is told of each table is what stands in the database."""

import pytest

from projections import table_report
from projections.errors import UnderWay
from projections.proof import Prover
from projections.table_report import Proved, folded, proofs, report
from projections.tables import SESSIONS, TABLES
from tests.event_fixtures import LogDatabase
from tests.projections.rebuilding import ground

pytestmark = pytest.mark.postgres


async def test_a_report_tells_place_holder_rebuild_and_proof(empty_log: LogDatabase) -> None:
    async def tell(event: object) -> None:
        pass

    async with ground(empty_log) as on:
        store, pool, head = on.store, on.store.pool, (await on.store.head()).position
        found = await report(store, pool, TABLES)
        assert (found.head, found.log_id) == (head, str(store.log_id))
        assert found.projector is not None and found.projector.holder.startswith("p-")
        assert {(one.version == one.table_version, one.position, one.lag) for one in found.projections} == {
            (True, head, 0)
        }
        assert {one.name: one.rows for one in found.projections} == {
            table.name: len(await on.rows(table)) for table in TABLES
        }
        assert all((one.rebuild, one.proved) == (None, None) for one in found.projections)

        await on.killed_at(SESSIONS, "compared")
        await on.live("b", sessions=1, exchanges=1)
        await Prover(store, pool, tell=tell).prove(SESSIONS)
        found = await report(store, pool, TABLES)
        one = next(one for one in found.projections if one.name == "sessions")
        assert one.lag == found.head - head > 0
        assert one.rebuild is not None and (one.rebuild.holder, one.rebuild.reason) == (None, "asked")
        assert one.proved is not None and (one.proved.position, one.proved.differing) == (head, 0)
        assert await proofs(pool) == {"sessions": one.proved}
        assert isinstance(one.proved, Proved)

        await on.leases.claim("rebuild-sessions", "somebody")
        with pytest.raises(UnderWay, match="somebody"):
            await on.rebuild(SESSIONS)
        found = await report(store, pool, TABLES)
        (under_way,) = [one.rebuild for one in found.projections if one.rebuild]
        assert under_way.holder == "somebody" and under_way.expires_at is not None
        assert one.rebuild.expires_at is None


async def test_rows_of_a_large_table_are_estimated(empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_report, "COUNTED_BYTES", 8192)
    async with ground(empty_log) as on:
        await on.live("b", sessions=60, exchanges=5)
        await on.carry()
        for table in TABLES:
            await on.sql(f"analyze view.{table.name}")
        counted = {table.name: len(await on.rows(table)) for table in TABLES}
        for exact in (False, True):
            found = await report(on.store, on.store.pool, TABLES, exact=exact)
            assert {one.name: one.rows for one in found.projections} == counted
            assert {one.name for one in found.projections if not one.rows_exact} >= (
                set() if exact else {"exchanges", "sessions"}
            )
        assert all(one.rows_exact for one in found.projections)
        await on.sql("delete from view.exchanges where ctid in (select ctid from view.exchanges limit 9)")
        found = await report(on.store, on.store.pool, TABLES)
        assert {one.name: one.rows for one in found.projections}["exchanges"] == counted["exchanges"]


async def test_a_log_without_tables_is_folded_to_what_they_would_hold(empty_log: LogDatabase) -> None:
    async with ground(empty_log) as on:
        found, held = await folded(on.store, TABLES), await report(on.store, on.store.pool, TABLES)
        assert (found.source, found.head, found.log_id) == ("fold", held.head, held.log_id)
        for one, other in zip(found.projections, held.projections, strict=True):
            assert (one.name, one.rows, one.position, one.lag) == (other.name, other.rows, other.position, 0)
