"""Outages: told in the log from beginning to end, and trusted views only for as long as STALE_LIMIT."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from events.catalogue import AccessDenied, AlertCleared, AlertRaised
from events.codec import decode
from events.envelope import SYSTEM, gateway_stream
from events.fallback import FallbackEventStore
from events.keyring import MemoryKeyring
from gateway.errors import Refused
from gateway.outages import Outages
from gateway.recorder import Recorder
from tests.event_fixtures import until
from tests.factories import payload
from tests.gateway.faulty import FaultyStore, spooled
from tests.gateway.world import ORIGIN, eventually


class Process:
    """The outages of instance g1, on a log with a spool."""

    def __init__(self, inner: FaultyStore, store: FallbackEventStore) -> None:
        self.inner, self.store, self.unseen = inner, store, 0.0
        self.recorder = Recorder(store, MemoryKeyring())
        self.outages = Outages(
            self.recorder, "g1", stale_limit=900.0, unseen=lambda: self.unseen, replayed=lambda: store.replayed
        )
        store.on_change(self.outages.changed)

    async def fact(self) -> int | None:
        return await self.recorder.fact(SYSTEM, payload(AccessDenied), who=ORIGIN.who)

    async def go_away(self) -> None:
        """A fact finds out; the alert follows it into the spool."""
        self.inner.away = True
        assert await self.fact() is None
        await eventually(lambda: self.store.status.spooled_units == 2)

    async def come_back(self) -> None:
        """Until the log holds the end of the outage."""
        self.inner.away = False
        before = len(await self.types())

        async def told() -> bool:
            return "alert.cleared" in (await self.types())[before:]

        await until(told, 10.0)

    async def types(self) -> list[str]:
        return [event.type for event in await self.inner.read_log()]

    async def alerts(self) -> list[Any]:
        return [decode(event) for event in await self.inner.read_stream(gateway_stream("g1"))]


@asynccontextmanager
async def on_a_spool(tmp_path: Path) -> AsyncIterator[Process]:
    inner = FaultyStore()
    async with spooled(inner, tmp_path) as store:
        made = Process(inner, store)
        running = asyncio.create_task(made.outages.run())
        try:
            yield made
        finally:
            inner.away = False
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    await inner.close()


async def test_an_outage_is_in_the_log_with_what_it_cost(tmp_path: Path) -> None:
    """Raised among the first facts that waited, cleared behind the last: an auditor sees from where to where."""
    async with on_a_spool(tmp_path) as made:
        made.outages.count(Refused("store-unavailable", "before"))
        await made.go_away()
        await made.fact()
        for slug in ("store-unavailable", "view-stale", "session-unknown"):
            made.outages.count(Refused(slug, "meanwhile"))
        since = made.store.status.away_since
        await made.come_back()
        assert await made.types() == ["access.denied", "alert.raised", "access.denied", "alert.cleared"]
        raised, cleared = await made.alerts()
        assert isinstance(raised, AlertRaised) and isinstance(cleared, AlertCleared)
        assert (raised.instance, raised.name) == (cleared.instance, cleared.name) == ("g1", "log_away")
        assert (cleared.replayed, cleared.refused, cleared.since) == (3, 2, since)
        (began, event) = await made.inner.read_stream(gateway_stream("g1"))
        assert event.causation_id == began.event_id
        assert abs(event.occurred_at - cleared.since - timedelta(milliseconds=cleared.lasted_ms)) < timedelta(seconds=1)


async def test_every_outage_is_told_for_itself(tmp_path: Path) -> None:
    """What the second one cost is not the first one's."""
    async with on_a_spool(tmp_path) as made:
        for _ in range(2):
            await made.go_away()
            await made.come_back()
        _, first, _, second = await made.alerts()
        assert (first.replayed, second.replayed) == (2, 2)
        assert second.since > first.since


async def test_views_are_trusted_for_as_long_as_the_limit(tmp_path: Path) -> None:
    async with on_a_spool(tmp_path) as made:
        made.unseen = 900.0
        made.outages.refuse_stale()
        made.unseen = 900.1
        assert made.outages.is_stale
        with pytest.raises(Refused) as raised:
            made.outages.refuse_stale()
        assert (raised.value.slug, raised.value.status, raised.value.denial) == ("view-stale", 503, None)
        made.unseen = 0.0
        made.outages.refuse_stale()
