"""The way to the log itself, for the commands that need no gateway: settings, an open log, and who it is that acts."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

import msgspec

from events.embedded import EmbeddedPostgresFailed
from events.envelope import ActorKind
from events.errors import EventError, LogForked
from events.fallback import FallbackEventStore
from events.store import EventStore
from gateway import forks
from gateway.cli import printing
from gateway.cli.exits import Exit, Failure
from gateway.recorder import Recorder, Who
from gateway.settings import BadSettings, Settings, load
from gateway.storage import Storage, is_made, open_storage

CLI: Final = Who(kind=ActorKind.OPERATOR, id="cli")


class Direct(msgspec.Struct, frozen=True, kw_only=True):
    """An open log and what writes to it."""

    settings: Settings
    storage: Storage
    recorder: Recorder


def settings() -> Settings:
    """The settings of the environment. Raises Failure with every problem."""
    try:
        return load(os.environ)
    except BadSettings as error:
        raise Failure(Exit.USAGE, *error.problems) from error


@asynccontextmanager
async def open_log(*, if_forked: Literal["refuse", "warn", "open"] = "refuse") -> AsyncIterator[Direct]:
    """The log that the settings name; the embedded Postgres is started when no gateway runs on it, and stopped again.

    A log that is not there is not made, and the schema of one of a former release is left as it is: whoever reads one
    in the wrong place must hear of it, and only ``serve`` and ``schema apply`` change a database. One that has lost
    what this data directory has seen is refused, as a gateway refuses to start on it; who only reads is warned. Raises
    Failure.
    """
    chosen = settings()
    try:
        if not is_made(chosen):
            raise Failure(
                Exit.LOG_UNAVAILABLE, f"There is no log in {chosen.data_dir}: a gateway makes it when it first starts."
            )
        async with open_storage(chosen, printing.note, migrate=False) as storage:
            if if_forked != "open":
                await _check(chosen, storage.store, warn=if_forked == "warn")
            recorder = Recorder(_past_the_spool(storage.store), storage.keyring)
            yield Direct(settings=chosen, storage=storage, recorder=recorder)
    except BadSettings as error:  # a secret file that holds no secret
        raise Failure(Exit.USAGE, *error.problems) from error
    except (EventError, EmbeddedPostgresFailed) as error:
        raise Failure(Exit.LOG_UNAVAILABLE, sentence(error)) from error
    except OSError as error:
        raise Failure(Exit.LOG_UNAVAILABLE, f"The log in {chosen.data_dir} cannot be opened: {error}.") from error


async def _check(chosen: Settings, store: EventStore, *, warn: bool) -> None:
    """Raises LogForked unless it is enough to ``warn``."""
    try:
        for remark in await forks.check(chosen.data_dir, store):
            printing.note(remark)
    except LogForked as forked:
        if not warn:
            raise
        printing.note(f"THE LOG HAS FORKED: {sentence(forked)}")


def _past_the_spool(store: EventStore) -> EventStore:
    """Who revokes a key or erases a person must hear that the log is away, and not that it will be true some day."""
    return store.inner if isinstance(store, FallbackEventStore) else store


def sentence(error: Exception) -> str:
    """The text of an error as a sentence."""
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!")) else ".")
