"""What can go wrong with the log; the class name says whose fault it is. Statuses are chosen in ``gateway/errors.py``.

What a writer must expect (a conflict, a duplicate, a fence) is not here: ``store.Outcome`` returns those as data.
"""


class EventError(Exception):
    """Base of this room. The message is one sentence that a person can act on."""


class StoreUnavailable(EventError):
    """Postgres cannot be reached or did not answer in time; nothing was acknowledged. Retry with the same ids."""


class OtherLog(StoreUnavailable):
    """Postgres answers with another log than the one that this process began with. Nothing of ours may enter it, and
    nothing of it is ours; a person brings the former one back, or restarts the process to work on this one."""


class StoreClosed(EventError):
    """The store was closed by us; a caller used it after shutdown."""


class EventTooLarge(EventError):
    """A payload over 64 KiB or a unit over 128 events. The caller's fault; nothing was written."""


class BadEvent(EventError):
    """An event that may not be written: unknown type, malformed stream id, the same id twice in one unit. Or a read
    that has no meaning. The caller's fault."""


class UnreadableEvent(EventError):
    """Bytes in the log that no release of ours wrote, where they cannot be passed over: sealed fields, keys, leaves."""


class LogForked(EventError):
    """The log is not the one that a cursor or a view was read from: restored from a backup, or a lossy fail-over.

    What was read up to position ``same_until`` is still there; what was read at ``differs_from`` is not. The first
    position that differs is the one when they are neighbours, else it lies between. ``known_until``: how far was read.
    """

    def __init__(self, sentence: str, *, same_until: int, differs_from: int, known_until: int) -> None:
        super().__init__(sentence)
        self.same_until, self.differs_from, self.known_until = same_until, differs_from, known_until


class SchemaMissing(EventError):
    """The database has no log yet and this process may not create it."""


class SchemaPending(EventError):
    """The database is of a former release, or holds no log, and this process was not asked to change that."""


class JournalLocked(EventError):
    """Another process has the file open; the message says which. Stop that one, or use another directory."""


class JournalDamaged(EventError):
    """A line that is neither whole nor a torn end: the disk, or a hand. Nothing is dropped without a person."""


class JournalFull(StoreUnavailable):
    """The disk took no more (full, failing, read-only): nothing was acknowledged. What could not be taken back, as the
    message says then, may be in the file all the same. Retry with the same ids."""
