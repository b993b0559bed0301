"""A whole gateway as a process of its own, whose containers are mocks behind one agent that answers all with 200.

For walks that need two gateways and thousands of sessions: no process a session, all else as ``serve`` makes it.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from gateway import logs, server
from gateway.app import application
from gateway.lifespan import running
from gateway.runtime import Runtime
from gateway.server import Address, Process
from gateway.settings import Settings, load
from gateway.storage import Report, Storage
from tests.event_fixtures import LogDatabase
from tests.gateway.world import AGENT, Answering, Mortal
from tests.walks.process import GatewayProcess, begin, on_database

COMMAND: Final = (sys.executable, "-m", "tests.walks.mock_process")
SHARED: Final = {
    "SESSION_TOKEN_SECRET": "of-both-processes-and-long-enough-to-be-one",
    "SEALING_SECRET": "of-both-processes-too-and-another-one",
    "SESSION_BOOT_CONCURRENCY": "16",
    "MAX_CONCURRENT_SESSIONS": "20000",
    "DRAIN_SECONDS": "1",
}


@contextlib.asynccontextmanager
async def two_gateways(
    place: Path, log: LogDatabase, environment: Mapping[str, str] = {}
) -> AsyncIterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two processes on one log, started at once, each with a data directory of its own; killed at the end."""
    wanted = {**SHARED, **on_database(log), **environment}
    async with AsyncExitStack() as stack:
        both = [await begin(place / name, wanted, command=COMMAND) for name in ("one", "other")]
        for each in both:
            stack.push_async_callback(each.close)
        for each in both:
            await each.listening()
        yield both[0], both[1]


async def main(settings: Settings, process: Process) -> int:
    async with Answering().serving() as agents:

        @contextlib.asynccontextmanager
        async def runtime_of(settings: Settings, storage: Storage, report: Report) -> AsyncIterator[Runtime]:
            yield Runtime(docker=Mortal(address_of=lambda name: agents.address), agent=AGENT, summary="mock")

        async with running(settings, _say, runtime_of=runtime_of, on_death=process.signalled) as started:
            made = application(started.services)
            return await server.serve(
                made.asgi, settings.server, drain=made.drain, process=process, on_listening=_listens
            )


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _listens(address: Address) -> None:
    print(f"A gateway of mocks listens on {address.url}", flush=True)


if __name__ == "__main__":
    settings = load(os.environ)
    with logs.logging_to(settings.logs):
        sys.exit(server.run(lambda process: main(settings, process)))
