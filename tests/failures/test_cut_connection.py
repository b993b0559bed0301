"""A connection that is cut after the append was sent and before it was answered: nobody knows whether it is written.

Shown: it always was. The retry with the same ids says so (``duplicate``, with the first positions), whoever retries.
"""

import pytest

from events import writer
from tests.counts import Tell
from tests.event_fixtures import open_store
from tests.failures.cutting_proxy import CuttingProxy
from tests.failures.load import loaded
from tests.failures.server import OwnServer
from tests.failures.verdict import judge

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("retried_by", ["writer", "caller"])
async def test_lost_answer_is_told_again_as_a_duplicate(
    own_server: OwnServer, tell: Tell, monkeypatch: pytest.MonkeyPatch, retried_by: str
) -> None:
    """Without the ids every such retry would be a false conflict or a second event. Half a command writes nothing."""
    if retried_by == "caller":
        monkeypatch.setattr(writer, "RETRY_FOR_SECONDS", -1.0)
    proxy = CuttingProxy(own_server.database.app_dsn, every=3)
    async with proxy.running() as dsn, open_store(dsn) as store, loaded(store) as load:
        await load.progress(250)
    counts = await judge(own_server.database, load.ledger)
    tell(
        f"{proxy.sent} connections cut after send ({proxy.committed} had committed) and {proxy.torn} within it, "
        f"retried by the {retried_by}: {counts}"
    )
    assert proxy.sent >= 5 and proxy.torn >= 5
    assert proxy.committed == proxy.sent
    assert counts.duplicates >= proxy.sent, "each cut batch had a unit at least"
    assert (counts.retried > 0) is (retried_by == "caller")
