"""``python -m benchmarks.startup DSN``: what a gateway's process does until it may serve; told as JSON when it has.

A process of its own, so that the interpreter's start and every import are in the time.
"""

import asyncio
import json
import sys

from benchmarks import server
from events.postgres import PostgresEventStore
from projections.table_store import TableStore
from projections.views import Views


async def main(dsn: str) -> None:
    store = await PostgresEventStore.connect(dsn, server.FEW)
    views = Views(store, rows=TableStore(store.pool))
    await views.load()
    print(json.dumps({"sessions": len(views.sessions), "position": views.position}), flush=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
