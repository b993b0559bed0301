"""Structured logs: one JSON object or one readable line each, on the console and in a file (spec row G1).

Below is the standard library: loggers are named ``session_gateway.*``, fields are given as ``extra=``. A line is made
in the task that logs, so that it has that task's ids; a thread of its own writes it, so that a slow disk or a full pipe
never holds up the event loop. Its queue is bounded: lines that do not fit are counted, and the number is said.
"""

import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from typing import Annotated, Final, Literal, TextIO

import msgspec
from msgspec import Meta

from gateway.log_lines import Line, as_human, as_json, line_of

ROOT_LOGGER: Final = "session_gateway"
SECURITY_LOGGER: Final = "session_gateway.security"
SERVER_LOGGER: Final = "hypercorn"
QUEUE_LINES: Final = 10_000
FLUSH_SECONDS: Final = 2.0
_MEGABYTE: Final = 1024 * 1024

log = logging.getLogger(f"{ROOT_LOGGER}.logs")


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """LOG_*: how lines look and where they go."""

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        Meta(description="least level that is written; security events are written at any"),
    ] = "INFO"
    log_format: Annotated[
        Literal["auto", "json", "human"], Meta(description="auto: human on a terminal, JSON everywhere else")
    ] = "auto"
    log_file: Annotated[str, Meta(description="file that lines are also written to, rotated by size")] = ""
    log_max_size_mb: Annotated[float, Meta(gt=0, description="MiB after which the file is rotated")] = 10
    log_backup_count: Annotated[int, Meta(ge=1, description="rotated files that are kept")] = 5
    log_console: Annotated[bool, Meta(description="write lines to the standard error output")] = True
    log_file_enabled: Annotated[bool | None, Meta(description="write LOG_FILE; unset: when LOG_FILE is given")] = None

    @property
    def writes_file(self) -> bool:
        return bool(self.log_file) and self.log_file_enabled is not False


class LogFileUnusable(Exception):
    """LOG_FILE cannot be written. The text is a whole sentence."""


def problems(settings: LogSettings) -> list[str]:
    """In what the values contradict each other, one sentence each."""
    if settings.log_file_enabled and not settings.log_file:
        return ["LOG_FILE_ENABLED is true, but LOG_FILE names no file"]
    return []


@contextmanager
def logging_to(settings: LogSettings, *, console: TextIO | None = None) -> Iterator["LineQueue"]:
    """Set up the process's logging within the block, and write all that waits at its end.

    ``console`` is the standard error output unless given. Raises LogFileUnusable.
    """
    targets = list(_targets(settings, console or sys.stderr))
    lines = LineQueue(targets)
    levels = _levels(getattr(logging, settings.log_level))
    before = {name: logging.getLogger(name).level for name in levels}
    root = logging.getLogger()
    root.addHandler(lines)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield lines
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
        root.removeHandler(lines)
        lines.close()


class Target(msgspec.Struct, frozen=True):
    """Where lines go, and how they look there."""

    handler: logging.Handler
    render: Callable[[Line], str]


class LineQueue(logging.Handler):
    """Makes each line in the task that logs and leaves the writing to a thread. Logging never waits."""

    def __init__(self, targets: list[Target]) -> None:
        super().__init__()
        self.dropped = 0
        self._unsaid = 0
        self._targets = targets
        self._lines: queue.Queue[list[str] | threading.Event | None] = queue.Queue(QUEUE_LINES)
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = line_of(record)
            self._lines.put_nowait([target.render(line) for target in self._targets])
        except queue.Full:
            self.dropped += 1
            self._unsaid += 1
        except Exception:
            self.handleError(record)
        else:
            if self._unsaid and self._lines.qsize() < QUEUE_LINES // 2:
                lost, self._unsaid = self._unsaid, 0
                log.warning("%d log lines were dropped: they came faster than they could be written", lost)

    def flush(self) -> None:
        """Wait until all lines so far are written, for at most FLUSH_SECONDS: a console may hang."""
        written = threading.Event()
        if self._thread.is_alive() and self._put(written):
            written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """Write what waits, for at most FLUSH_SECONDS, and end the thread."""
        if self._thread.is_alive() and self._put(None):
            self._thread.join(FLUSH_SECONDS)
        if not self._thread.is_alive():
            for target in self._targets:
                target.handler.close()
        super().close()

    def _put(self, item: threading.Event | None) -> bool:
        try:
            self._lines.put(item, timeout=FLUSH_SECONDS)
        except queue.Full:
            return False
        return True

    def _write(self) -> None:
        while (item := self._lines.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            for target, text in zip(self._targets, item, strict=True):
                target.handler.handle(logging.makeLogRecord({"msg": text}))


def _targets(settings: LogSettings, console: TextIO) -> Iterator[Target]:
    if settings.log_console:
        human = settings.log_format == "human" or (settings.log_format == "auto" and console.isatty())
        yield Target(logging.StreamHandler(console), as_human if human else as_json)
    if settings.writes_file:
        yield Target(_file(settings), as_human if settings.log_format == "human" else as_json)


def _file(settings: LogSettings) -> logging.Handler:
    try:
        return RotatingFileHandler(
            settings.log_file,
            maxBytes=int(settings.log_max_size_mb * _MEGABYTE),
            backupCount=settings.log_backup_count,
            encoding="utf-8",
        )
    except OSError as error:
        raise LogFileUnusable(f"LOG_FILE {settings.log_file} cannot be written: {error.strerror}.") from error


def _levels(level: int) -> dict[str, int]:
    """Libraries speak up for warnings only: some say every request they send at INFO, with its URL."""
    return {
        "": max(level, logging.WARNING),
        ROOT_LOGGER: level,
        SERVER_LOGGER: max(level, logging.INFO),
        SECURITY_LOGGER: min(level, logging.INFO),
        # Tells at each try, with a traceback, that Postgres is away; the breaker says so once.
        "asyncpg.pool": max(level, logging.ERROR),
    }
