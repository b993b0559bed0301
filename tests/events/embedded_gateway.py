"""A process that uses an embedded Postgres as a gateway does: one JSON command a line in, one JSON answer a line out.

The tests run it as root and as a plain user, and kill it.
"""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg

from events import embedded


class Gateway:
    def __init__(self) -> None:
        self._server: embedded.EmbeddedPostgres | None = None

    async def start(self, data_dir: str) -> dict[str, object]:
        said: list[str] = []
        self._server = await embedded.start(Path(data_dir), report=said.append)
        return {
            "how": self._server.how,
            "version": self._server.version,
            "admin_dsn": self._server.admin_dsn,
            "role_dsn": self._server.dsn_for("gateway"),
            "said": said,
        }

    async def stop(self) -> None:
        assert self._server is not None
        await self._server.stop()
        await self._server.stop()  # a second call does nothing

    async def remove(self, data_dir: str) -> None:
        await embedded.remove(Path(data_dir))

    async def sql(self, dsn: str, statement: str) -> list[list[str]]:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            return [[str(value) for value in row.values()] for row in await connection.fetch(statement)]
        finally:
            await connection.close()


async def main() -> None:
    gateway = Gateway()
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, *arguments = json.loads(line)
        try:
            answer = {"answer": await getattr(gateway, name)(*arguments)}
        except embedded.EmbeddedPostgresFailed as failure:
            answer = {"failed": str(failure)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
