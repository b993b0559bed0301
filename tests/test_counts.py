"""The report of what tests counted: a figure that nobody sees is not told."""

from pathlib import Path

import pytest

INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\naddopts = -p tests.counts\n"
SUITE = """
def test_b(tell):
    tell("2 of 2 kept")

def test_a(tell):
    tell("1 of 2 kept")
    assert False

def test_c(): ...
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeini(INI)
    return pytester


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "in workers"])
def test_what_was_counted_is_told_at_the_end(suite: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """In order of place, also by a test that failed, and from the processes that ran them."""
    suite.makepyfile(SUITE)
    result = suite.runpytest_subprocess(*workers)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*COUNTS*", "1 of 2 kept", "2 of 2 kept", "*1 failed, 2 passed*"])


def test_nothing_is_told_where_nothing_was_counted(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_plain(): ...")
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert "COUNTS" not in result.stdout.str()
