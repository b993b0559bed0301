"""What every test of failures has: a server of its own, and a place to tell its counts."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.failures import server
from tests.failures.server import OwnServer

# Small, so that a load crosses several and the keeper's work is done under it.
PARTITION_SIZE = 1_000

Tell = Callable[[object], None]


@pytest_asyncio.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[OwnServer]:
    """A Postgres of this test alone, with an empty log."""
    async with server.started(tmp_path, partition_size=PARTITION_SIZE) as own:
        yield own


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Print a figure: at the test, and under COUNTS at the end of the run."""

    def told(what: object) -> None:
        print(what)
        record_property("counts", str(what))

    return told
