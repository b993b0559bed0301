"""Where lines go: terminal, pipe, rotated file; and that nobody waits for them."""

import asyncio
import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import context, logs
from gateway.context import RequestContext, correlation_id_of
from gateway.logs import LogFileUnusable, LogSettings, logging_to
from tests.gateway.test_log_lines import REQUEST

log = logging.getLogger("session_gateway.test")
security = logging.getLogger(logs.SECURITY_LOGGER)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def written(console: io.StringIO, **settings: Any) -> Iterator[logs.LineQueue]:
    with logging_to(LogSettings(**settings), console=console) as lines:
        yield lines


def messages(text: str) -> list[str]:
    return [json.loads(line)["message"] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("console", "form", "human"),
    [
        (Terminal(), "auto", True),
        (io.StringIO(), "auto", False),
        (Terminal(), "json", False),
        (io.StringIO(), "human", True),
    ],
)
def test_the_format_follows_the_terminal_unless_told(console: io.StringIO, form: str, human: bool) -> None:
    with written(console, log_format=form):
        log.info("hello")
    assert console.getvalue().startswith("{") is not human
    assert console.getvalue().endswith("\n")


def test_lines_below_the_level_are_not_written_but_security_is() -> None:
    """Row G5: who turns logging down does not turn denials off."""
    console = io.StringIO()
    with written(console, log_level="CRITICAL"):
        log.error("quiet")
        logging.getLogger("some.library").error("quiet too")
        security.info("access denied")
    assert messages(console.getvalue()) == ["access denied"]


def test_the_servers_lines_have_the_same_shape_and_libraries_only_warn() -> None:
    console = io.StringIO()
    with written(console, log_level="DEBUG"):
        logging.getLogger("hypercorn.error").info("Running on %s", "http://127.0.0.1:1")
        logging.getLogger("httpx").info("HTTP Request: GET http://x/?q=1")
        logging.getLogger("asyncio").warning("slow")
        logging.getLogger("asyncpg.pool").warning("Failed to restore the pool connection floor")
        log.debug("details")
    assert messages(console.getvalue()) == ["Running on http://127.0.0.1:1", "slow", "details"]


def test_a_file_named_is_written_beside_the_console(tmp_path: Path) -> None:
    console, file = Terminal(), tmp_path / "gateway.log"
    with written(console, log_file=str(file)):
        log.warning("both")
    assert "[WARNING]" in console.getvalue()
    assert messages(file.read_text()) == ["both"]


@pytest.mark.parametrize(("enabled", "there"), [(None, True), (True, True), (False, False)])
def test_the_file_can_be_switched_off(tmp_path: Path, enabled: bool | None, there: bool) -> None:
    file = tmp_path / "gateway.log"
    with written(io.StringIO(), log_file=str(file), log_file_enabled=enabled, log_console=False):
        log.warning("x")
    assert file.exists() is there


def test_a_file_enabled_without_a_name_is_a_problem() -> None:
    assert logs.problems(LogSettings(log_file_enabled=True)) == ["LOG_FILE_ENABLED is true, but LOG_FILE names no file"]
    assert logs.problems(LogSettings()) == logs.problems(LogSettings(log_file="x", log_file_enabled=True)) == []


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    unusable = written(io.StringIO(), log_file=str(tmp_path / "none" / "gateway.log"))
    with (
        pytest.raises(LogFileUnusable, match=r"^LOG_FILE .* cannot be written: No such file or directory\.$"),
        unusable,
    ):
        pass
    assert not any(isinstance(handler, logs.LineQueue) for handler in logging.getLogger().handlers)


def test_the_file_is_rotated_by_size_and_no_line_is_torn(tmp_path: Path) -> None:
    file = tmp_path / "gateway.log"
    with written(io.StringIO(), log_file=str(file), log_max_size_mb=0.01, log_backup_count=2, log_console=False):
        for number in range(200):
            log.info("line %d %s", number, "x" * 100)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["gateway.log", "gateway.log.1", "gateway.log.2"]
    assert all(path.stat().st_size <= 0.01 * 1024 * 1024 for path in files)
    kept = [message.split()[1] for path in reversed(files) for message in messages(path.read_text())]
    assert kept == [str(number) for number in range(200 - len(kept), 200)]


def test_the_end_writes_what_waits_and_brings_back_what_was() -> None:
    before = (logging.getLogger().handlers[:], logging.getLogger().level, logging.getLogger("hypercorn").level)
    console = io.StringIO()
    with written(console):
        for number in range(500):
            log.info("%d", number)
    assert messages(console.getvalue()) == [str(number) for number in range(500)]
    assert before == (
        logging.getLogger().handlers[:],
        logging.getLogger().level,
        logging.getLogger("hypercorn").level,
    )


def test_flush_waits_until_lines_are_written() -> None:
    """Before the process ends by force."""
    console = io.StringIO()
    with written(console) as lines:
        for _ in range(200):
            log.info("x")
        lines.flush()
        assert len(messages(console.getvalue())) == 200


async def test_each_task_writes_its_own_ids() -> None:
    console = io.StringIO()

    async def request(name: str) -> None:
        one = RequestContext(
            request_id=name, correlation_id=correlation_id_of(name), trace_id=REQUEST.trace_id, span_id=b"12345678"
        )
        with context.begin(one):
            for _ in range(5):
                log.info("of %s", name)
                await asyncio.sleep(0)

    with written(console):
        await asyncio.gather(*(request(f"req-{number}") for number in range(20)))
    told = [json.loads(line) for line in console.getvalue().splitlines()]
    assert len(told) == 100
    assert all(line["message"] == f"of {line['request_id']}" for line in told)


def test_a_console_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose reader stopped: lines are dropped, and their number is said once it goes on."""
    monkeypatch.setattr(logs, "QUEUE_LINES", 500)
    reader, writer = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, reader)
        console = stack.enter_context(os.fdopen(writer, "w"))
        lines = stack.enter_context(logging_to(LogSettings(), console=console))
        longest = 0.0
        for _ in range(2_000):
            began = time.perf_counter()
            log.info("x" * 200)
            longest = max(longest, time.perf_counter() - began)
        assert longest < 0.5
        assert lines.dropped > 0
        read, told = b"", 0
        deadline = time.monotonic() + 10
        # Lines may be dropped while it recovers too: more than one number may be said, and together they are all.
        while told != lines.dropped and time.monotonic() < deadline:
            read += os.read(reader, 65536)
            told = sum(int(number) for number in re.findall(rb"(\d+) log lines were dropped", read))
            log.info("on")
        assert told == lines.dropped > 0
        os.set_blocking(reader, False)


def test_a_line_that_cannot_be_made_does_not_break_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

    console = io.StringIO()
    with written(console) as lines:
        lines.handle(logging.makeLogRecord({"msg": "%s", "args": (Bad(),)}))
        log.info("next")
    assert messages(console.getvalue()) == ["next"]
    assert "RuntimeError: no" in capsys.readouterr().err
