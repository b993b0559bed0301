"""One reader of what the views fold. That the views tell every event, and bound the queue: test_views.py."""

import asyncio

import pytest

from events.catalogue import GatewayStarted
from projections.listener import Listener
from tests.factories import payload, recorded


async def test_a_listener_ends_although_an_event_comes_at_that_moment() -> None:
    """A cancellation must not be lost with the event that it came together with."""
    listener = Listener()
    waiting = asyncio.create_task(listener.next(60))
    await asyncio.sleep(0)
    listener.tell((recorded(), payload(GatewayStarted)))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_batch_is_all_that_waits_in_order() -> None:
    listener = Listener()
    told = [(recorded(position=position), payload(GatewayStarted)) for position in (1, 2, 3)]
    for each in told:
        listener.tell(each)
    assert await listener.batch(60) == told
    assert await listener.batch(0.001) == []


async def test_waiting_has_an_end() -> None:
    assert await Listener().next(0.001) is None
