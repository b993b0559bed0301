"""Short words for what the cases of the store's contract say often."""

from events.envelope import StreamWrite
from events.store import Appended, EventStore


async def head_of(store: EventStore) -> int:
    return (await store.head()).position


async def appended(store: EventStore, *writes: StreamWrite) -> Appended:
    outcome = await store.append(*writes)
    assert isinstance(outcome, Appended) and not outcome.duplicate, outcome
    return outcome
