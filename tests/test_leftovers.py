"""The guard on leftovers: a test that leaves something running spoils the next one, at random."""

import pytest

from tests import leftovers

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
addopts = -p tests.leftovers -p no:randomly
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setattr(leftovers, "CHILD_SECONDS", 0.1)
    monkeypatch.setattr(leftovers, "TASK_SECONDS", 0.1)
    pytester.makeini(INI)
    return pytester


def test_a_child_that_outlives_its_test_fails_it(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import subprocess, pytest
        kept = []

        @pytest.fixture(scope="module", autouse=True)
        def server():
            process = subprocess.Popen(["sleep", "60"])
            yield
            for child in (process, *kept):
                child.kill()
                child.wait()

        def test_leaves_one():
            kept.append(subprocess.Popen(["sleep", "61"]))

        def test_waits_for_its_own():
            subprocess.run(["true"])
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaves_one*", "*left child processes behind: *sleep 61*"])


def test_a_task_that_outlives_its_test_fails_it(suite: pytest.Pytester) -> None:
    """A fixture's own task may run until the fixture ends; one that was cancelled is given time to end."""
    suite.makepyfile(
        """
        import asyncio, pytest_asyncio
        kept = []

        @pytest_asyncio.fixture
        async def ticking():
            task = asyncio.create_task(asyncio.sleep(60))
            yield
            task.cancel()

        async def test_leaves_one():
            kept.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))

        async def test_cancels(ticking):
            asyncio.create_task(asyncio.sleep(60)).cancel()
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaves_one*", "*left tasks behind: *forgotten*"])
