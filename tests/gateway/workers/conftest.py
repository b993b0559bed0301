"""A world for the workers' tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway import lifespan
from gateway.workers import reconcile
from tests.gateway.world import Gateway, World, world


@pytest_asyncio.fixture
async def earth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Where silence is believed at once, since leases in memory do not run out by themselves."""
    monkeypatch.setattr(reconcile, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(lifespan, "RECONCILE_SECONDS", 0.1)
    async with world(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def gateway(earth: World) -> AsyncIterator[Gateway]:
    async with earth.gateway() as started:
        yield started
