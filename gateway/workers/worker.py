"""The loop of every background job: an interval, a wake-up, a look at its own failures; never dies silently."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.errors import refused

log = logging.getLogger("session_gateway.worker")


class Worker:
    """Calls ``run_once`` every ``seconds``, and at once when poked. A failure is logged and does not end the loop."""

    def __init__(self, name: str, run_once: Callable[[], Awaitable[None]], seconds: float) -> None:
        self.name = name
        self._run_once = run_once
        self._seconds = seconds
        self._poked = asyncio.Event()
        self._away: str | None = None  # the problem that the last run ended with

    def poke(self) -> None:
        """Do not wait for the interval."""
        self._poked.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._run_once()
                self._away = None
            except Exception as error:
                self._tell(error)
            try:
                # Not wait_for: before Python 3.12 it loses the cancellation that comes together with a poke.
                async with asyncio.timeout(self._seconds):
                    await self._poked.wait()
            except TimeoutError:
                continue
            finally:
                self._poked.clear()

    def _tell(self, error: Exception) -> None:
        """What is away is away: told once and without a traceback, until the job has run again."""
        problem = refused(error)
        away = problem.slug if problem is not None else None
        if away is None or away != self._away:
            log.warning(
                "a background job failed and will run again: %s",
                error,
                exc_info=away is None,
                extra={"operation": self.name},
            )
        self._away = away
