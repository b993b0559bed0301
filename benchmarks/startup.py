"""``python -m benchmarks.startup DSN ADMIN_DSN DATA_DIR``: a gateway's process until it may serve; told as JSON then.

A process of its own, so that the interpreter's start and every import are in the time. It does what ``serve`` does on a
database that is given: schema, log, spool, keyring, views from the tables, its beginning told, jobs, routes. Only the
containers are mock ones. Then it ends as by ``kill -9``, before a job has begun: what the next one finds is the same.
"""

import asyncio
import json
import os
import sys

from gateway.app import application
from gateway.lifespan import running
from gateway.settings import load


async def main(dsn: str, admin_dsn: str, data_dir: str) -> None:
    settings = load(
        {
            "DATABASE_URL": dsn,
            "DB_ADMIN_URL": admin_dsn,
            "GATEWAY_DATA_DIR": data_dir,
            "SESSION_RUNTIME": "mock",
            "SESSION_IMAGE": "echo",
        }
    )
    async with running(settings, lambda said: None) as process:
        application(process.services)
        views = process.services.views
        print(json.dumps({"sessions": len(views.sessions), "position": views.position}), flush=True)
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
