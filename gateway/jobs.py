"""Jobs: what runs beside the requests of one process, by name. Which there are says ``gateway/lifespan.py``."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

log = logging.getLogger("session_gateway.jobs")


class Jobs:
    """What runs beside the requests until it is cancelled. One that ends by itself leaves the process unfit to serve:
    ``on_death`` is told at once, and ``dead`` says which and why."""

    def __init__(self, stack: AsyncExitStack, on_death: Callable[[], object]) -> None:
        self._stack = stack
        self._on_death = on_death
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.dead: list[str] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``; it is cancelled when the stack unwinds to here."""
        task = self._tasks[name] = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._stack.push_async_callback(self.end, name)

    async def end(self, *names: str) -> None:
        """End some of the jobs now; those that were never started have ended."""
        tasks = [self._tasks[name] for name in names if name in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the job %s ended: %s", task.get_name(), error, exc_info=error)
            self.dead.append(f"The job {task.get_name()} ended: {error}")
            self._on_death()
