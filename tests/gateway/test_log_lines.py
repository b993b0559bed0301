"""How one line looks, in both formats, and that nobody can forge another one."""

import json
import logging
import re
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import context, telemetry
from gateway.context import RequestContext, correlation_id_of
from gateway.log_lines import MAX_CHARACTERS, as_human, as_json, line_of

FIELDS = [
    *("timestamp", "level", "logger", "message", "request_id", "session_id", "operation", "duration_ms"),
    *("trace_id", "span_id"),
]
REQUEST = RequestContext(
    request_id="req-abc123",
    correlation_id=correlation_id_of("req-abc123"),
    trace_id=bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736"),
    span_id=bytes.fromhex("00f067aa0ba902b7"),
    session_id="ses-xyz789",
)


class Schema(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every line of JSON without extra fields."""

    timestamp: str
    level: str
    logger: str
    message: str
    request_id: str | None
    session_id: str | None
    operation: str | None
    duration_ms: float | None
    trace_id: str | None
    span_id: str | None


def record(message: str, *args: object, **extra: Any) -> logging.LogRecord:
    logger = logging.getLogger("session_gateway.main")
    made = logger.makeRecord(logger.name, logging.INFO, "main.py", 145, message, args, None, "create_session", extra)
    made.created = 1705314645.123
    return made


def test_json_has_the_fields_of_the_handbook_in_their_order() -> None:
    """Row G1: a line of the handbook's own example."""
    with context.begin(REQUEST):
        line = line_of(record("Session created successfully", operation="create_session", duration_ms=245.67))
    told = json.loads(as_json(line))
    assert list(told) == FIELDS
    assert told == {
        "timestamp": "2024-01-15T10:30:45.123Z",
        "level": "INFO",
        "logger": "session_gateway.main",
        "message": "Session created successfully",
        "request_id": "req-abc123",
        "session_id": "ses-xyz789",
        "operation": "create_session",
        "duration_ms": 245.67,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
    }


def test_human_is_the_line_of_the_handbook() -> None:
    with context.begin(REQUEST):
        told = as_human(line_of(record("Session created %s", "successfully", operation="create_session")))
    assert told == (
        "2024-01-15 10:30:45 [INFO   ] session_gateway.main:create_session:145 [req-abc123]"
        " - Session created successfully"
    )


def test_outside_of_a_request_the_fields_are_there_and_empty() -> None:
    line = line_of(record("started"))
    told = msgspec.json.decode(as_json(line), type=Schema)
    assert (told.request_id, told.session_id, told.trace_id) == (None, None, None)
    assert " [-] - started" in as_human(line)


def test_a_line_names_the_innermost_span_and_the_session_that_is_given() -> None:
    with context.begin(REQUEST), telemetry.span("job") as span:
        line = line_of(record("x", session_id="ses-other"))
    assert (line.trace_id, line.span_id) == (span.trace_id.hex(), span.span_id.hex())
    assert line.session_id == "ses-other"


def test_what_the_caller_adds_comes_after_and_takes_no_fields_place() -> None:
    """An extra called ``level`` or ``timestamp`` would make a line say what it does not."""
    line = line_of(record("x", status=201, path=b"/a", level="CRITICAL", request_id="forged", huge=1 << 80))
    told = json.loads(as_json(line))
    assert list(told) == [*FIELDS, "status", "path", "huge"]
    assert (told["status"], told["path"], told["level"]) == (201, "b'/a'", "INFO")
    assert told["request_id"] is None


def failing(message: str) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise ValueError(message)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_a_traceback_is_told_without_breaking_the_line() -> None:
    line = line_of(failing("boom"))
    told = as_json(line)
    assert "\n" not in told
    assert json.loads(told)["exception"].endswith("ValueError: boom")
    head, *rest = as_human(line).split("\n")
    assert head.endswith(" - it failed")
    assert all(part.startswith("    ") for part in rest)
    assert rest[-1] == "    ValueError: boom"


FORGED = "x\r\n2024-01-15 10:30:45 [CRITICAL] session_gateway.main:f:1 [-] - forged\u2028{}\x1b[2K"


@pytest.mark.parametrize("made", [record(FORGED), record("%s", FORGED), record("x", path=FORGED), failing(FORGED)])
def test_nobody_can_write_a_line_of_his_own(made: logging.LogRecord) -> None:
    line = line_of(made)
    whole = as_json(line)
    assert json.loads(whole)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e]", whole)
    for part in as_human(line).split("\n")[1:]:
        assert part.startswith("    ")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", as_human(line))


@given(st.text(), st.text())
def test_any_text_gives_one_json_line_that_says_it(message: str, extra: str) -> None:
    told = json.loads(as_json(line_of(record("%s", message, note=extra))))
    assert set(told) == {*FIELDS, "note"}


def test_a_name_that_is_not_unicode_is_shown() -> None:
    line = line_of(record("file %s", "a\udcffb", name_of="\udcff"))
    assert json.loads(as_json(line))["message"] == "file a\\udcffb"
    assert as_human(line).endswith("file a\\udcffb")


SECRET = "gwt_Q0mR-t5Zx_9LkPz3aB7cD1eF2gH4iJ6k"


@pytest.mark.parametrize(
    "made",
    [
        record("a %s", SECRET),
        record("a", headers={"authorization": f"Bearer {SECRET}"}),
        failing(f"got {SECRET}"),
        record("x" * (MAX_CHARACTERS - 20) + SECRET + "y" * 99),
    ],
)
def test_a_planted_token_is_found_nowhere(made: logging.LogRecord) -> None:
    line = line_of(made)
    assert SECRET[4:12] not in as_json(line)
    assert SECRET[4:12] not in as_human(line)


def test_a_line_is_bounded() -> None:
    told = as_json(line_of(record("x" * 1_000_000, note="y" * 1_000_000)))
    assert len(told) < 3 * MAX_CHARACTERS
