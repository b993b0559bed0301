"""A terminal sees which rows are done; a pipe and a program see nothing."""

import io
import sys

import pytest

from gateway.cli.rows_seen import rows_seen
from gateway.doctor.row import Report, State

REPORT = Report(row="settings", state=State.PASS, sentence="", todo="", facts={}, milliseconds=1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "silent"), [(io.StringIO(), False), (Terminal(), True)])
def test_no_terminal_sees_nothing(stream: io.StringIO, silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with rows_seen(3, silent=silent) as seen:
        seen(REPORT)
    assert stream.getvalue() == ""


def test_a_terminal_sees_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with rows_seen(3) as seen:
        seen(REPORT)
    assert "settings: pass" in stream.getvalue()
    assert "1/3" in stream.getvalue()
