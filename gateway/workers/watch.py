"""Watch: the runtime's own word of what happened to a container, as it happens. A hint: the list is the truth."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from docker import names
from docker.errors import DockerError
from docker.service import ContainerEvent, DockerService

AGAIN_SECONDS: Final = 1.0
log = logging.getLogger("session_gateway.watch")


async def watch(
    docker: DockerService, owner: str, *, exhausted: Callable[[ContainerEvent], bool], changed: Callable[[], None]
) -> None:
    """Call ``changed`` when a container of ``owner`` ended, until cancelled.

    When the kernel killed a process in one for want of memory, only if ``exhausted`` says that it is news: a session
    can make such kills by the thousand.
    """
    while True:
        try:
            async for event in docker.events(past=True):
                if event.labels.get(names.OWNER) != owner:
                    continue
                if event.kind != "oom" or exhausted(event):
                    changed()
            return  # the runtime was closed
        except DockerError as error:
            log.warning("the runtime's events stopped: %s", error, extra={"operation": "watch"})
            await asyncio.sleep(AGAIN_SECONDS)
            changed()
