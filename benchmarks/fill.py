"""Fill: the mix of events into a log that is to be measured."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from benchmarks.mix import Mix
from benchmarks.rounds import progress
from events.envelope import StreamWrite
from events.postgres import PostgresEventStore

IN_FLIGHT: Final = 8  # units on their way


def _as_made(write: StreamWrite) -> StreamWrite:
    return write


async def fill(store: PostgresEventStore, events: int, change: Callable[[StreamWrite], StreamWrite] = _as_made) -> None:
    """Units enter the log in the order they are made, ``change``d: the store's writer takes them as they come."""
    flying: set[asyncio.Task[Any]] = set()
    with progress() as bar:
        task = bar.add_task("fill the log", total=events)
        for unit in Mix().units(events):
            if len(flying) >= IN_FLIGHT:
                done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
            flying.add(asyncio.create_task(store.append(*map(change, unit))))
            await asyncio.sleep(0)  # it is in the writer's queue now
            bar.advance(task, sum(len(write.events) for write in unit))
        await asyncio.gather(*flying)
