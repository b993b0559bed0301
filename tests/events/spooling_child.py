"""A process that spools until it is killed: ``python -m tests.events.spooling_child DIRECTORY LOG_ID``.

Prints the id of each event that was acknowledged, a line each.
"""

import asyncio
import sys
from pathlib import Path
from uuid import UUID

from events.spool import Spool
from tests.factories import write


async def main(directory: str, log_id: str) -> None:
    spool = Spool(Path(directory), "gw-child", UUID(log_id), 2**30)
    while True:
        units = [(write("session-child"),) for _ in range(8)]
        await asyncio.gather(*(spool.append(unit) for unit in units))
        for (one,) in units:
            print(one.events[0].event_id, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
