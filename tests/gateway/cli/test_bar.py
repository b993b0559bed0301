"""Bar: what a person sees of a long command: a line now and then, or a bar that moves."""

import os
import pty
import select
import sys

import pytest

from gateway.cli.bar import Lines, Rate, bar
from projections.rebuild import Progress, Step


def at(position: int, step: Step = "folded") -> Progress:
    return Progress(name="sessions", step=step, position=position, goal=10_000)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_of_this_run_and_not_of_the_one_before() -> None:
    """A rebuild that goes on from position 5,000 has not folded those in the first second."""
    clock = Clock()
    rate = Rate(clock)
    assert rate.look(at(5_000)) == (0.0, None)
    clock.now = 2.0
    assert rate.look(at(6_000)) == (500.0, 8.0)


def test_lines_come_at_turns_and_every_few_seconds() -> None:
    clock, said = Clock(), list[str]()
    lines = Lines("Rebuilding", said.append, clock)
    for seconds, progress in enumerate(
        [
            at(2_000, "resumed"),
            *(at(2_000 + 1_000 * n) for n in range(1, 8)),
            at(9_500, "caught_up"),
            at(9_999, "waiting"),
        ]
    ):
        clock.now = float(seconds)
        lines.look(progress)
    assert said == [
        "Rebuilding sessions: going on from position 2,000",
        "Rebuilding sessions: 7,000 of 10,000 events, 1,000/s, 3 s left",
        "Rebuilding sessions: complete; waiting for whoever reads the former table",
    ]


def test_a_pipe_gets_lines_and_a_program_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("Rebuilding") as look:
        look(at(0, "begun"))
    assert capsys.readouterr().err == "Rebuilding sessions: from the first event\n"
    with bar("Rebuilding", silent=True) as look:
        look(at(0, "begun"))
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Position, goal, rate and the time that is left are drawn while it moves."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with open(theirs, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with bar("Rebuilding") as look:
            for progress in (at(2_000, "begun"), at(6_000), at(9_999, "waiting")):
                look(progress)
        drawn = ""
        while "waiting for whoever reads" not in drawn and select.select([ours], [], [], 10)[0]:
            drawn += os.read(ours, 65_536).decode(errors="replace")
    os.close(ours)
    assert "Rebuilding sessions" in drawn and "6,000/10,000" in drawn and "events/s" in drawn and " left" in drawn
    assert "waiting for whoever reads" in drawn
