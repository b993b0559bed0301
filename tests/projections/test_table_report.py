"""TableReport: what is told of each table is what stands in the database."""

import pytest

from projections.errors import UnderWay
from projections.proof import Prover
from projections.table_report import Proved, proofs, report
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
        assert {one.rebuild.holder for one in found.projections if one.rebuild} == {"somebody"}
