"""Reactions: what a process does at once when the log tells of something that concerns what it holds in memory.

Hooks of the views (``Views.on_event``): they neither wait nor raise. Each is only the quick way: what it begins is also
found by a job that compares, should the event have come before the process began.
"""

from collections.abc import Callable

from events.catalogue import Payload, SessionFailed, SessionStopped, SessionStopRequested, SubjectErased
from events.envelope import RecordedEvent
from gateway.services import Services
from gateway.workers.worker import Worker

Reaction = Callable[[RecordedEvent, Payload], None]


def on_stops(services: Services, worker: Worker) -> Reaction:
    """A session is stopped by the gateway that carries it, whichever was asked; at once, also while it boots."""

    def follow(event: RecordedEvent, payload: Payload) -> None:
        if isinstance(payload, SessionStopRequested) and payload.session_id in services.views.sessions:
            services.runner.stop(payload.session_id)
            owner = services.views.gateways.get(services.views.sessions[payload.session_id].instance)
            if owner is None or owner.ended_at is not None:
                worker.poke()

    return follow


def on_ends(services: Services) -> Reaction:
    """What a session did is told in full at its end, and not at the end of an interval."""

    def follow(event: RecordedEvent, payload: Payload) -> None:
        if isinstance(payload, SessionStopped | SessionFailed):
            services.exchanges.session_ended(payload.session_id)

    return follow


def on_erasures(services: Services) -> Reaction:
    """Another process destroyed a subject's keys: drop our copies too."""

    def follow(event: RecordedEvent, payload: Payload) -> None:
        if isinstance(payload, SubjectErased):
            services.keyring.forget(payload.key_ids)
            services.followers.forget()

    return follow
