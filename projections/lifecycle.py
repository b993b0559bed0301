"""The lifecycle of a session: every rule of the machine stands in this table.

``decide`` refuses a move that is not here; ``evolve`` is total and counts it as an anomaly, since facts come late and
twice. Code, tests and the diagram in the docs read the same table.
"""

import enum
from collections.abc import Mapping
from typing import Final


class Phase(enum.StrEnum):
    """Our state of a session."""

    ABSENT = "absent"  # no event yet
    CREATING = "creating"  # granted; its container is being made, started, waited for
    READY = "ready"  # answers requests
    STOPPING = "stopping"  # told to end; nothing is proxied
    STOPPED = "stopped"  # its container is gone, its data is kept
    FAILED = "failed"  # unusable; its data is kept


class Status(enum.StrEnum):
    """The customer's four words (spec row C3)."""

    CREATING = "creating"
    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"


TRANSITIONS: Final[Mapping[Phase, Mapping[str, Phase]]] = {
    Phase.ABSENT: {"session.requested": Phase.CREATING, "session.imported": Phase.STOPPED},
    Phase.CREATING: {
        "session.ready": Phase.READY,
        "session.failed": Phase.FAILED,
        "session.stop_requested": Phase.STOPPING,
    },
    Phase.READY: {"session.failed": Phase.FAILED, "session.stop_requested": Phase.STOPPING},
    Phase.STOPPING: {"session.stopped": Phase.STOPPED},
    Phase.STOPPED: {"session.resumed": Phase.CREATING},
    Phase.FAILED: {"session.resumed": Phase.CREATING, "session.stop_requested": Phase.STOPPING},
}

STATUS: Final[Mapping[Phase, Status]] = {
    Phase.CREATING: Status.CREATING,
    Phase.READY: Status.RUNNING,
    Phase.STOPPING: Status.RUNNING,  # until its container is gone
    Phase.STOPPED: Status.STOPPED,
    Phase.FAILED: Status.ERROR,
}

SEATED: Final = frozenset({Phase.CREATING, Phase.READY, Phase.STOPPING})  # phases that hold an admission seat
ENDED: Final = frozenset({Phase.STOPPED, Phase.FAILED})  # phases from which a session is resumed, or gives its data up


def next_phase(phase: Phase, event_type: str) -> Phase | None:
    """Where an event leads from ``phase``; None when the table does not allow it."""
    return TRANSITIONS[phase].get(event_type)
