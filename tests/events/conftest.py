"""What the tests of the spooling store share: it, around a log that wavers, with looks every few milliseconds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from events import breaker
from events.fallback import FallbackEventStore
from tests.events.wavering import Changes, WaveringStore, spooling


@pytest.fixture
def inner(monkeypatch: pytest.MonkeyPatch) -> WaveringStore:
    """The log; whoever spools for it looks often."""
    monkeypatch.setattr(breaker, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(breaker, "PROBE_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(breaker, "TAKEOVER_SECONDS", 0.05)
    return WaveringStore()


@pytest_asyncio.fixture
async def spooling_store(inner: WaveringStore, tmp_path: Path) -> AsyncIterator[FallbackEventStore]:
    """A store on ``inner`` with its spool in ``tmp_path``."""
    async with spooling(inner, tmp_path) as opened:
        yield opened


@pytest.fixture
def changes(spooling_store: FallbackEventStore) -> Changes:
    """What it tells of itself."""
    return Changes(spooling_store)
