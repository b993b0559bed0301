"""Departures: a session's container has other limits than a new one would have, and serves on.

It was made by an earlier release, or before settings changed: to end it would cost more than it mends. What does not
isolate is refused instead (``reconcile``).
"""

import logging
from collections.abc import Collection

from docker import names
from docker.service import ContainerInfo
from projections.lifecycle import Phase
from projections.views import Views

log = logging.getLogger("session_gateway.departures")


class Departures:
    """Tells them in the log, once a container."""

    def __init__(self, views: Views, instance: str) -> None:
        self._views, self._instance = views, instance
        self._told: set[str] = set()  # by the runtime's id

    def tell(self, containers: Collection[ContainerInfo]) -> None:
        """``containers``: all of this log; those of sessions that others carry are theirs to tell."""
        self._told &= {info.id for info in containers}
        for info in containers:
            if info.departures and info.id not in self._told and self._serves(info):
                self._told.add(info.id)
                log.warning(
                    "a session's container is not held as a new one would be, and serves on: %s",
                    told(info),
                    extra={"session_id": info.labels.get(names.SESSION, ""), "operation": "reconcile"},
                )

    def _serves(self, info: ContainerInfo) -> bool:
        state = self._views.sessions.get(info.labels.get(names.SESSION, ""))
        return (
            state is not None
            and (state.phase, state.instance, state.container) == (Phase.READY, self._instance, info.name)
            and not info.breaches
        )


def told(info: ContainerInfo) -> str:
    """What is found of a container, for the operator's log: it can name files of the host."""
    return "; ".join((*info.breaches, *info.departures))
