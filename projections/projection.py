"""Projection: a named, versioned, pure fold; and ``fold``, the only loop over events that there is.

The same ``evolve`` feeds the in-memory view of every process, the tables, the rebuild and the as-of answer.
"""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from events import codec
from events.catalogue import Payload
from events.envelope import RecordedEvent

State = TypeVar("State")


class Projection(Protocol[State]):
    """``key`` says whose state an event concerns (None: nobody's); ``evolve`` is pure and total, and never raises."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int:
        """Raised when ``evolve`` or the state changes: what was kept from the former one is rebuilt."""
        ...

    @property
    def types(self) -> frozenset[str]:
        """Tags of the events that can concern a state: of no other one is the payload read for it."""
        ...

    def key(self, payload: Payload) -> str | None: ...

    def evolve(self, state: State | None, event: RecordedEvent, payload: Payload) -> State | None: ...


def fold(projection: Projection[State], states: dict[str, State], events: Iterable[RecordedEvent]) -> dict[str, State]:
    """Fold ``events`` into ``states`` (changed in place and returned). Events of unknown types are passed over."""
    wanted, decode = projection.types, codec.decode
    for event in events:
        if event.type in wanted:
            payload = decode(event)
            if not isinstance(payload, codec.Unknown):
                apply(projection, states, event, payload)
    return states


def apply(projection: Projection[Any], states: dict[str, Any], event: RecordedEvent, payload: Payload) -> None:
    """One event into ``states``."""
    if event.type not in projection.types:
        return
    key = projection.key(payload)
    if key is None:
        return
    state = projection.evolve(states.get(key), event, payload)
    if state is None:
        states.pop(key, None)
    else:
        states[key] = state
