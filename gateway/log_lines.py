"""One log line: what it says, and how that looks as JSON and for people (the two formats of spec row G1).

A line names the request, session and span of the task that logs. Whatever it holds is redacted, and control characters
are escaped: who sends a request with line breaks in it cannot write lines of his own.
"""

import logging
import time
import traceback
from typing import Any, Final

import msgspec

from gateway import context, telemetry
from gateway.redaction import escape, redact

MAX_CHARACTERS: Final = 16_384  # of a message, and of a traceback; what is longer is cut
# What every record has, and what is told under a name of its own: all else was given as ``extra=``.
_NOT_EXTRA: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "request_id", "session_id", "operation", "duration_ms"),
    *("timestamp", "level", "logger", "trace_id", "span_id", "exception"),
}


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What a line says. ``None``: there is no such thing at this place."""

    created: float  # seconds since the epoch
    level: str
    logger: str
    function: str
    number: int  # line of the source
    message: str
    request_id: str | None
    session_id: str | None
    operation: str | None
    duration_ms: float | None
    trace_id: str | None
    span_id: str | None
    extra: dict[str, Any]
    exception: str | None


def line_of(record: logging.LogRecord) -> Line:
    """The line for ``record``, with the ids of the calling task. ``extra=`` goes before the context's session."""
    given = record.__dict__
    request = context.current()
    ids = telemetry.current_ids() or ((request.trace_id, request.span_id) if request else None)
    return Line(
        created=record.created,
        level=record.levelname,
        logger=record.name,
        function=record.funcName or "?",
        number=record.lineno,
        message=_cut(record.getMessage()),
        request_id=request.request_id if request else None,
        session_id=given.get("session_id") or (request.session_id if request else None),
        operation=given.get("operation"),
        duration_ms=given.get("duration_ms"),
        trace_id=ids[0].hex() if ids else None,
        span_id=ids[1].hex() if ids else None,
        extra={name: _plain(value) for name, value in given.items() if name not in _NOT_EXTRA},
        exception=_exception(record),
    )


def as_json(line: Line) -> str:
    """One JSON object: the fields in their order, then what the caller added, then the traceback if there is one."""
    fields = {
        "timestamp": f"{_utc(line.created, '%Y-%m-%dT%H:%M:%S')}.{_milliseconds(line.created):03d}Z",
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
        "request_id": line.request_id,
        "session_id": line.session_id,
        "operation": line.operation,
        "duration_ms": line.duration_ms,
        "trace_id": line.trace_id,
        "span_id": line.span_id,
        **line.extra,
    }
    if line.exception is not None:
        fields["exception"] = line.exception
    # Escapes of JSON hold no raw control character, so what ``escape`` still finds stands inside a string.
    return escape(redact(_encoded(fields)))


def as_human(line: Line) -> str:
    """``2024-01-15 10:30:45 [INFO   ] logger:function:145 [req-abc123] - message`` (UTC); a traceback is indented."""
    head = f"{_utc(line.created, '%Y-%m-%d %H:%M:%S')} [{line.level:<7}] {line.logger}:{line.function}:{line.number}"
    told = f"{head} [{line.request_id or '-'}] - {line.message}"
    text = escape(redact(_writable(told)))
    if line.exception is None:
        return text
    indented = (f"    {escape(part)}" for part in redact(_writable(line.exception)).splitlines())
    return "\n".join([text, *indented])


def _exception(record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return _cut("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return _cut(record.stack_info) if record.stack_info else None


def _cut(text: str) -> str:
    """Redacted first: half a secret would not be known as one."""
    return text if len(text) <= MAX_CHARACTERS else f"{redact(text)[:MAX_CHARACTERS]}... [cut]"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    return _cut(str(value))


def _encoded(fields: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(fields).decode()
    except UnicodeEncodeError:  # a lone surrogate, such as in a file name that is not UTF-8
        return msgspec.json.encode(
            {name: _writable(value) if isinstance(value, str) else value for name, value in fields.items()}
        ).decode()


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _utc(created: float, form: str) -> str:
    return time.strftime(form, time.gmtime(created))


def _milliseconds(created: float) -> int:
    return int(created * 1000) % 1000
