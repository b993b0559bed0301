"""Printing: aligned, in local time, and safe against what others wrote."""

import io
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.cli import printing


@pytest.fixture
def in_nepal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_nepal")
def test_a_time_is_local_with_its_offset() -> None:
    assert printing.when("2026-01-18T22:29:04.123456Z") == "2026-01-19 04:14:04+05:45"
    assert printing.when("2026-01-18T22:29:04.123456Z", exact=True) == "2026-01-19 04:14:04.123+05:45"
    assert printing.when(None) == "-"


def test_what_others_wrote_cannot_move_the_cursor() -> None:
    """An owner's name or a path could hide an event, or set the terminal's title."""
    assert printing.shown("a\x1b[2Jb\nc") == "a\\u001b[2Jb\\nc"
    assert printing.shown({"k": "\x9b"}) == '{"k":"\\u009b"}'
    assert printing.paragraph("one\x1b\ntwo\r") == "one\\u001b\ntwo\\r"


def test_facts_leave_out_what_says_nothing() -> None:
    found: dict[str, object] = {
        "image": "echo",
        "owner": None,
        "volumes": [],
        "container_id": "0123456789abcdef",
        "oom_killed": False,
    }
    assert printing.facts(found) == "image=echo container_id=0123456789ab oom_killed=false"


def test_a_piped_table_is_aligned_and_keeps_every_row_on_one_line() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        printing.table(["name", "meaning"], [["a", "x" * 300], ["longer", "[bold]not markup[/]"]])
    first, second, third = out.getvalue().splitlines()
    assert first.index("meaning") == second.index("x") == third.index("[bold]not markup[/]")
    assert second.rstrip().endswith("x" * 300)


def test_a_terminal_gets_a_table_of_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    rows = [["ses_745sdb5xwdb9f96rtzb46t55m4", "2026-12-01 09:31:35+00:00"]]
    with redirect_stdout(Terminal()) as out:
        printing.table(["session", "created"], rows)
    assert out.getvalue() == f"\x1b[1msession\x1b[0m\n{rows[0][0]}\n    created: {rows[0][1]}\n"
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stdout(Terminal()) as out:
        printing.table(["session", "created"], rows)
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(("number", "told"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows")])
def test_a_number_of_things(number: int, told: str) -> None:
    assert printing.count(number, "row") == told


def test_a_time_is_shown_in_the_zone_that_was_asked_for() -> None:
    moment = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert printing.when(moment, zone=ZoneInfo("Europe/Berlin")) == "2026-10-25 02:30:00+01:00"
    assert printing.when("2026-10-25T00:30:00Z", zone=ZoneInfo("Europe/Berlin")) == "2026-10-25 02:30:00+02:00"
