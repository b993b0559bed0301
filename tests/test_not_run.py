"""The report of what did not run: nobody takes a green run for more than it was."""

import pytest

SUITE = """
import pytest

@pytest.mark.docker
def test_container():
    pytest.skip("no daemon answers")

@pytest.mark.docker
@pytest.mark.xfail
def test_known_fault():
    assert False

@pytest.mark.slow
def test_long(): ...

def test_plain(): ...
"""
INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
addopts = -p tests.not_run -p no:randomly
markers =
    docker: x
    slow: x
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("REQUIRE_DOCKER", raising=False)
    pytester.makeini(INI)
    pytester.makepyfile(SUITE)
    return pytester


def test_skipped_tests_are_told_with_reason_and_place(suite: pytest.Pytester) -> None:
    said = suite.runpytest_inprocess("-m", "not slow").stdout
    said.fnmatch_lines(["*NOT RUN*", "1 skipped: no daemon answers", "*1 in test_skipped_tests*.py"])
    said.fnmatch_lines(
        ["1 left out, marked slow: run them with `make test-all`", "*1 passed, 1 skipped, 1 deselected*"]
    )


def test_a_whole_run_says_nothing(suite: pytest.Pytester) -> None:
    suite.runpytest_inprocess("-m", "not docker").stdout.no_fnmatch_line("*skipped:*")


def test_where_docker_is_required_a_skipped_docker_test_has_failed(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a fixture skips by itself; an expected failure is something else."""
    monkeypatch.setenv("REQUIRE_DOCKER", "1")
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=2, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*REQUIRE_DOCKER=1, but this docker test was skipped: no daemon answers*"])
