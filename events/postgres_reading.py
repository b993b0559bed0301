"""Reading the log on Postgres: one line of SQL a method, calling the functions in ``sql/``.

Knows no connection: ``PostgresEventStore`` gives it ``fetch``, which bounds a call and says when Postgres is away.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

from events.envelope import RecordedEvent
from events.filter import SCAN, EventFilter, Found
from events.store import Head, in_utc, is_text

Fetch: TypeAlias = Callable[..., Awaitable[Sequence[Any]]]
# Columns of an event; a later release may have added some, which this one does not read.
_COLUMNS = tuple(name for name in RecordedEvent.__struct_fields__ if name not in ("log_id", "actor"))
_INT4, _INT8 = 2**31 - 1, 2**63 - 1
# Beside what is read: a pooler may lead a connection to another log without our learning it.
_LOG = "(select log_id from log.identity) as log_id"
LOOKS: Final = 2_000  # events that one search looks at singly, at most, where the index or a stream leads it
STEP: Final = 2_000  # events that are indexed at once: 0.03 s, and a few times that on a busy machine
_BY_READING: Final = "\\"  # the name under which the index has what only a reader of JSON can tell
_SEARCH: Final = f"select reached, (event).*, {_LOG} from log.search_log($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12)"


class PostgresReading:
    """The reading half of an EventStore, whose promises ``events.store`` tells."""

    def __init__(self, log_id: UUID, fetch: Fetch) -> None:
        self._log_id = log_id
        self._ask = fetch

    @property
    def log_id(self) -> UUID:
        return self._log_id

    async def head(self) -> Head:
        row = await self._ask(f"select position, recorded_at, {_LOG} from log.tip order by position desc limit 1")
        position = row[0]["position"]
        return Head(position, row[0]["recorded_at"] if position else None)

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int = 1000, backwards: bool = False
    ) -> list[RecordedEvent]:
        after, limit = _within(after, _INT4), _within(limit, _INT4)
        query = f"select *, {_LOG} from log.read_stream($1,$2,$3,$4)"
        rows = await self._ask(query, _name(stream_id), after, limit, backwards)
        return [self._recorded(row) for row in rows]

    async def read_log(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), stream_id: str | None = None
    ) -> list[RecordedEvent]:
        patterns = [_pattern(wanted) for wanted in types] or None
        after, limit = _within(after, _INT8 - 1), _within(limit, _INT4)
        if stream_id is None:
            rows = await self._ask(f"select *, {_LOG} from log.read_log($1,$2,$3)", after, limit, patterns)
        else:
            query = f"select *, {_LOG} from log.read_log_stream($1,$2,$3,$4)"
            rows = await self._ask(query, _name(stream_id), after, limit, patterns)
        return [self._recorded(row) for row in rows]

    async def search(self, wanted: EventFilter, *, after: int = 0, until: int | None = None, limit: int = 100) -> Found:
        rows = await self._ask(
            _SEARCH,
            _within(after, _INT8 - 1),
            None if until is None else _within(until, _INT8 - 1),
            _within(limit, _INT4),
            LOOKS,
            SCAN if wanted.session_id is None else LOOKS,  # which is looked for in payloads
            None if wanted.stream_id is None else _name(wanted.stream_id),
            [_name(each) for each in wanted.types] or None,
            None if wanted.session_id is None else _name(wanted.session_id, _BY_READING),
            None if wanted.actor is None else _name(wanted.actor, _BY_READING),
            wanted.trace_id,
            wanted.correlation_id,
            wanted.causation_id,
        )
        events = [self._recorded(row) for row in rows if row["position"] is not None]
        # What the database proposes may not be what is meant: of names that it cannot read it gives every event.
        return Found([event for event in events if wanted.matches(event)], max(after, rows[0]["reached"]))

    async def index(self) -> int:
        rows = await self._ask(f"select log.index_events($1) as left, {_LOG}", STEP)
        return rows[0]["left"] or 0

    async def find(self, event_id: UUID) -> RecordedEvent | None:
        rows = await self._ask(f"select *, {_LOG} from log.find_event($1)", event_id)
        return self._recorded(rows[0]) if rows else None

    async def position_at(self, moment: datetime) -> int:
        rows = await self._ask(f"select log.position_at($1) as position, {_LOG}", in_utc(moment))
        return int(rows[0]["position"])

    def _recorded(self, row: Any) -> RecordedEvent:
        columns = {name: row[name] for name in _COLUMNS}
        return RecordedEvent(log_id=self._log_id, actor=row["actor"].encode(), **columns)


def _within(number: int, most: int) -> int:
    return max(0, min(number, most))


def _name(wanted: str, instead: str = "") -> str:
    """What Postgres can be asked for; no stream and no type has an empty name."""
    return wanted if is_text(wanted) else instead


def _pattern(wanted: str) -> str:
    """A tag or a family (``session.*``) as a LIKE pattern."""
    escaped = _name(wanted).replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    return escaped[:-1] + "%" if escaped.endswith(".*") else escaped
