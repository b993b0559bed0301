"""Projectors in processes of their own, to be killed and frozen.

``python -m tests.projections.projector_child DSN run HOLDER`` carries the tables on, for ever.
``... DSN freeze HOLDER`` the same, and stops itself inside a transaction, when the checkpoint has moved.
``... DSN die HOLDER`` forks for each line of stdin, a number: the fork carries the tables on and kills itself at that
call to the database, counted before and after each; the line that answers is ``killed`` or ``done``.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from events.lease import PostgresLeases
from projections.projector import Projector
from projections.table_store import TableStore
from tests.event_fixtures import open_store

_REPOSITORY: Final = Path(__file__).parents[2]


@asynccontextmanager
async def child(dsn: str, how: str, holder: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Such a process, killed afterwards whatever state it is in."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.projections.projector_child", dsn, how, holder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # one that is frozen has its connection taken from it, and says so
        cwd=_REPOSITORY,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _carry_on(dsn: str, holder: str, *, once: bool) -> None:
    async with open_store(dsn) as store:
        projector = Projector(store, TableStore(store.pool), PostgresLeases(store.pool), holder)
        while True:
            await projector.run_once()
            if once:
                return
            await asyncio.sleep(0.001)


def _around_each_call(told: Callable[[str], None]) -> None:
    """Call ``told`` with the statement before and after each call to the database."""
    asked: Any = asyncpg.Connection._do_execute  # type: ignore[attr-defined]  # all that has arguments or an answer
    said: Any = asyncpg.Connection.execute  # begin, commit and rollback

    async def ask(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        told(query)
        answer = await asked(self, query, *arguments, **options)
        told(query)
        return answer

    async def say(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        if arguments:
            return await said(self, query, *arguments, **options)
        told(query)
        answer = await said(self, query, **options)
        told(query)
        return answer

    for name, call in {"_do_execute": ask, "execute": say}.items():
        setattr(asyncpg.Connection, name, call)


def _kill_at(number: int) -> None:
    left = number

    def count(query: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _around_each_call(count)


def _stop_when_moved() -> None:
    """Between the move of the checkpoints and the rows, with every lock of the transaction held."""
    seen = 0

    def stop(query: str) -> None:
        nonlocal seen
        seen += "insert into view.sessions " in query
        if seen == 1:
            seen += 1
            os.kill(os.getpid(), signal.SIGSTOP)

    _around_each_call(stop)


def _die(dsn: str, holder: str) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _kill_at(int(line))
            asyncio.run(_carry_on(dsn, holder, once=True))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print("killed" if os.WIFSIGNALED(status) else "done", flush=True)


if __name__ == "__main__":
    _dsn, _how, _holder = sys.argv[1:]
    if _how == "die":
        _die(_dsn, _holder)
    elif _how == "freeze":
        _stop_when_moved()
    asyncio.run(_carry_on(_dsn, _holder, once=_how == "die"))
