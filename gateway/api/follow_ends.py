"""Ends of followings on their way into the log: each in a task, since its reader's own was ended."""

import asyncio
import logging
from typing import Final

from events.catalogue import LogRead
from events.codec import Cause
from events.envelope import SYSTEM
from events.errors import EventError
from gateway.recorder import Recorder, Who
from projections.views import Views

log: Final = logging.getLogger("session_gateway.api")


class FollowEnds:
    """One process's."""

    def __init__(self, recorder: Recorder, views: Views) -> None:
        self._recorder = recorder
        self._views = views
        self._under_way: set[asyncio.Task[None]] = set()

    def tell(self, read: LogRead, *, who: Who, cause: Cause) -> None:
        """Append ``read`` soon. Not in a log that has forked: who knows whether the beginning is in it."""
        if self._views.forked is not None:
            return
        task = asyncio.create_task(self._append(read, who, cause), name="follow-end")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _append(self, read: LogRead, who: Who, cause: Cause) -> None:
        try:
            await self._recorder.fact(SYSTEM, read, who=who, cause=cause)
        except EventError as error:
            log.error("the end of a reader's following is not in the log: %s", error, extra={"operation": "follow"})

    async def flush(self, seconds: float) -> bool:
        """Wait until all are in the log, or in its spool; False when some are not by then, and are lost."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)
        return not self._under_way
