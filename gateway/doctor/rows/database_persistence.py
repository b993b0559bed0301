"""Whether the log can be opened, read and read again, and how far it is away. Nothing is written."""

import time
from typing import Final

from events.codec import decode
from events.errors import JournalLocked, LogForked
from events.store import EventStore
from gateway import forks
from gateway.doctor.row import Finding, Row, failed, passed, skipped, warned
from gateway.doctor.surroundings import Surroundings
from gateway.storage import Storage, is_made, open_storage

TAIL: Final = 20
START: Final = "A gateway makes it when it first starts (python -m gateway serve)."


async def _look(here: Surroundings) -> Finding:
    settings = here.settings()
    if not is_made(settings):
        return skipped(f"There is no log in {settings.data_dir} yet.", START)
    try:
        async with open_storage(settings, migrate=False) as storage:
            await forks.check(settings.data_dir, storage.store)
            return await _read(storage)
    except LogForked as error:
        return failed(f"{error}.", "See 'After a restore' in docs/operator.md.")
    except JournalLocked as error:  # a log in a file is one process's: a gateway that runs
        return skipped(
            f"The log cannot be looked at from here: {error}.", "Ask that gateway: the row container-health."
        )


async def _read(storage: Storage) -> Finding:
    store = storage.store
    began = time.perf_counter()
    head = await store.head()
    took = round((time.perf_counter() - began) * 1000, 2)
    last = await store.read_log(after=max(0, head.position - TAIL), limit=TAIL)
    again = await store.read_log(after=max(0, head.position - TAIL), limit=TAIL)
    if last != again[: len(last)]:
        return failed("The log's end reads differently twice.", "Look at the database's disk and its own log.")
    for event in last:
        decode(event)
    size = await storage.size()
    sentence = f"The log ({storage.label}) has {head.position:,} events in {size:,} bytes and answers in {took} ms."
    facts = {"kept_in": storage.label, "head": head.position, "bytes": size, "milliseconds": took}
    if _spooled(store):
        return warned(
            sentence + " Facts wait in the spool.", "See 'When Postgres is away' in docs/operator.md.", **facts
        )
    return passed(sentence, **facts)


def _spooled(store: EventStore) -> bool:
    return store.status.spooled_units > 0


ROW: Final = Row(name="database-persistence", look=_look, seconds=30)
