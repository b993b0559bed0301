"""A store that spools, on a Postgres that a test takes away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from events.fallback import FallbackEventStore
from events.store import EventStore
from tests.event_fixtures import until

_MAX_BYTES: Final = 64 << 20


@asynccontextmanager
async def spooling(inner: EventStore, directory: Path, name: str = "here") -> AsyncIterator[FallbackEventStore]:
    """``inner`` with a spool, closed afterwards."""
    store = await FallbackEventStore.open(inner, directory, name=name, max_bytes=_MAX_BYTES)
    try:
        yield store
    finally:
        await store.close()


async def recovered(store: FallbackEventStore) -> None:
    """Wait until the log is back, and all that was spooled is in it."""

    async def is_back() -> bool:
        return store.status.available and not store.status.spooled_units

    await until(is_back)


def spools(directory: Path) -> list[Path]:
    """The spool files of living and dead processes."""
    return sorted(directory.glob("*.spool.jsonl"))
