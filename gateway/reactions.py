"""Reactions: what a process does at once when the log tells of something that concerns what it holds in memory.

Hooks of the views (``Views.on_event``): they neither wait nor raise. Each is only the quick way: what it begins is also
found by a job that compares, should the event have come before the process began.
"""

from collections.abc import Callable

from docker.service import Address
from events.catalogue import (
    ContainerEvent,
    Payload,
    SessionFailed,
    SessionStopped,
    SessionStopRequested,
    SubjectErased,
)
from events.envelope import RecordedEvent
from gateway.services import Services
from gateway.workers.worker import Worker
from projections.session_state import SessionState

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


def on_moves(services: Services) -> Reaction:
    """A container that is gone leaves its port to another one: what is still being dialled there for it ends.

    Connections that are open are its own, and end with it: what a slow client has not read yet is not cut off.
    """
    sessions = services.views.sessions
    known = {session_id: at for session_id, state in sessions.items() if (at := _reached(state)) is not None}

    def follow(event: RecordedEvent, payload: Payload) -> None:
        if not isinstance(payload, ContainerEvent | SessionStopped | SessionFailed):
            return
        before, now = known.pop(payload.session_id, None), _reached(sessions.get(payload.session_id))
        if now is not None:
            known[payload.session_id] = now
        if before is not None and before != now and before not in known.values():
            services.pool.dials.close_address(before)

    return follow


def _reached(state: SessionState | None) -> Address | None:
    if state is None or state.host is None or state.port is None:
        return None
    return Address(state.host, state.port)


def on_erasures(services: Services) -> Reaction:
    """Another process destroyed a subject's keys: drop our copies too."""

    def follow(event: RecordedEvent, payload: Payload) -> None:
        if isinstance(payload, SubjectErased):
            services.keyring.forget(payload.key_ids)
            services.followers.forget()

    return follow
