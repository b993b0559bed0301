"""What the walks share: a place for a gateway's data that leaves nothing behind, wherever the gateway put it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.walks import process


@pytest_asyncio.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory to be made. Afterwards nothing runs on it, and what lies outside for it is gone."""
    yield tmp_path / "var"
    for left in process.using(tmp_path / "var"):
        left.kill()
        left.wait(5)
    await process.forget(tmp_path / "var")
