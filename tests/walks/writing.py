"""Writers of facts, past every gateway: events of three types, in units of one to five, at a pace.

As a process of its own it leaves the loop of a test that measures something beside it alone. Arguments: DSN of the log,
the session that every third unit concerns, writers, events of each, events a second of all together.
"""

import asyncio
import random
import sys
from collections.abc import Iterator
from typing import Final

from events.catalogue import AccessDenied, HealthSummarized, LogRead
from events.envelope import SYSTEM, StreamWrite, container_stream
from events.store import Appended
from tests.event_fixtures import open_store
from tests.factories import event, write

MOST_TOGETHER: Final = 5


def units(writer: int, session_id: str, events: int) -> Iterator[StreamWrite]:
    """So many events of one writer, the same on every run but for their ids; all are nobody's but ``session_id``'s."""
    dice, left, turn = random.Random(writer), events, 0
    while left:
        together = min(left, dice.randint(1, MOST_TOGETHER))
        left, turn = left - together, turn + 1
        match turn % 3:
            case 0:
                facts = (
                    event(HealthSummarized, session_id=session_id, container=f"c{writer}") for _ in range(together)
                )
                yield write(container_stream(f"c{writer}"), *facts)
            case 1:
                yield write(SYSTEM, *(event(AccessDenied, session_id=None, client=None) for _ in range(together)))
            case _:
                yield write(SYSTEM, *(event(LogRead(what="test", after=turn)) for _ in range(together)))


async def written(dsn: str, session_id: str, *, writers: int, events: int, rate: float) -> None:
    """All of it, durable; a writer that is behind its pace does not wait."""
    loop = asyncio.get_running_loop()
    async with open_store(dsn) as store:
        began = loop.time()

        async def one_after_another(writer: int) -> None:
            done = 0
            for unit in units(writer, session_id, events):
                assert isinstance(await store.append(unit), Appended)
                done += len(unit.events)
                await asyncio.sleep(max(0.0, began + done * writers / rate - loop.time()))

        async with asyncio.TaskGroup() as group:
            for writer in range(writers):
                group.create_task(one_after_another(writer))


async def write_beside(dsn: str, session_id: str, *, writers: int, events: int, rate: float) -> None:
    """The same from a process of its own."""
    command = (sys.executable, "-m", "tests.walks.writing", dsn, session_id, str(writers), str(events), str(rate))
    process = await asyncio.create_subprocess_exec(*command)
    try:
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    dsn, session_id, writers, events, rate = sys.argv[1:]
    asyncio.run(written(dsn, session_id, writers=int(writers), events=int(events), rate=float(rate)))
