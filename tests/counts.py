"""Pytest plugin: prints the figures that tests told by ``tell``, just before the closing line of the run."""

from collections.abc import Callable

import pytest
from _pytest.terminal import TerminalReporter

_PROPERTY = "counts"
Tell = Callable[[object], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Tell a figure to the reader of the run, who sees it whether the test passes or not."""
    return lambda what: record_property(_PROPERTY, str(what))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    told = [
        str(text)
        for report in sorted(reports, key=lambda report: report.nodeid)
        if report.when == "call"
        for name, text in report.user_properties
        if name == _PROPERTY
    ]
    if told:
        terminalreporter.section("COUNTS", sep="-")
        for text in told:
            terminalreporter.write_line(text)
