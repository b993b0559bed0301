"""Pytest plugin: says loudly, just before the closing line, what did not run and why.

Under REQUIRE_DOCKER=1 a skipped test with the mark ``docker`` or ``opencode`` has failed, whatever skipped it.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest
from _pytest.terminal import TerminalReporter

_REQUIRED = ("docker", "opencode")
# Marks that `make quick` and `make test` leave out by, and the command that runs them.
_LEFT_OUT = {
    "slow": "make test-all",
    "patient": "make test",
    "opencode": "make test",
    "docker": "make test",
    "postgres": "make test",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    needed = [mark for mark in _REQUIRED if item.get_closest_marker(mark)]
    if report.skipped and needed and os.environ.get("REQUIRE_DOCKER") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_DOCKER=1, but this {needed[0]} test was skipped: {reason_of(report)}"
    return report


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    lines = [*_skipped(terminalreporter), *_deselected(terminalreporter)]
    if not lines:
        return
    terminalreporter.section("NOT RUN", sep="!", yellow=True, bold=True)
    for line in lines:
        terminalreporter.write_line(line, yellow=True)


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a report was skipped."""
    where = report.longrepr
    said = where[2] if isinstance(where, tuple) else str(where)
    return said.removeprefix("Skipped: ") or "no reason was given"


def _skipped(reporter: TerminalReporter) -> list[str]:
    reports = reporter.stats.get("skipped", [])
    reasons = Counter(reason_of(report) for report in reports)
    files: dict[str, Counter[str]] = {reason: Counter() for reason in reasons}
    for report in reports:
        files[reason_of(report)][report.nodeid.partition("::")[0]] += 1
    return [
        f"{count} skipped: {reason}\n"
        + "\n".join(f"      {number} in {name}" for name, number in files[reason].items())
        for reason, count in reasons.most_common()
    ]


def _deselected(reporter: TerminalReporter) -> list[str]:
    """Tests left out by their mark; those chosen away by name were left out knowingly."""
    expression = str(reporter.config.getoption("markexpr"))
    counts: Counter[str] = Counter()
    for item in reporter.stats.get("deselected", []):
        mark = next((mark for mark in _LEFT_OUT if mark in expression and item.get_closest_marker(mark)), None)
        if mark:
            counts[mark] += 1
    return [f"{count} left out, marked {mark}: run them with `{_LEFT_OUT[mark]}`" for mark, count in counts.items()]
