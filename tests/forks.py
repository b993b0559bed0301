"""Logs that fork: a store behind which the log can be changed, and a log as an older backup of it has it."""

from typing import Any, cast

from events.memory import MemoryEventStore
from events.store import EventStore


class Swapped:
    """A store that stands for ``behind``, as a pool that reconnects in silence stands for another server."""

    def __init__(self, behind: EventStore) -> None:
        self.behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    @property
    def store(self) -> EventStore:
        return cast(EventStore, self)


def restored(store: MemoryEventStore, position: int) -> MemoryEventStore:
    """The log as a backup has it that was made at ``position``."""
    former = MemoryEventStore(log_id=store.log_id)
    former.ledger.log = store.ledger.log[:position]
    for event in former.ledger.log:
        former.ledger.streams.setdefault(event.stream_id, []).append(event)
        former.ledger.known[event.event_id] = store.ledger.known[event.event_id]
    return former
