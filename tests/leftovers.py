"""Pytest plugin: a test that leaves a child process or an asyncio task behind has failed.

What a fixture of a wider scope starts may stay; what the test and its own fixtures start may not. Only direct children
are seen: a daemon that detaches itself is the business of the test that starts it.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

TASK_SECONDS = 0.5  # a task that was just told to end is given this long
CHILD_SECONDS = 2.0  # and so is a process: the kernel may still be taking it down
_shared: set[int] = set()  # children of fixtures wider than a test


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    if fixturedef.scope == "function":
        return (yield)
    before = children()
    value = yield
    _shared.update(children() - before)
    return value


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First in, last out: the check for tasks sees what is left after all other fixtures of an async test ended."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_task_left")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    item.stash[_BEFORE] = children()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield
    _, alive = psutil.wait_procs(_born_since(item.stash[_BEFORE]), timeout=CHILD_SECONDS)
    if alive:
        told = ", ".join(f"{process.pid} ({' '.join(_command(process))[:120]})" for process in alive)
        pytest.fail(f"the test left child processes behind: {told}", pytrace=False)


@pytest_asyncio.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Fails the test when a task of its loop outlives it by more than half a second."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=TASK_SECONDS)
    if left:
        pytest.fail(f"the test left tasks behind: {', '.join(sorted(map(repr, left)))}", pytrace=False)


def children() -> set[int]:
    """Pids of our direct children, ended ones too when nobody waited for them. Some microseconds on Linux."""
    try:
        return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}
    except OSError:  # a thread ended between glob and read
        return {process.pid for process in psutil.Process().children()}


_BEFORE = pytest.StashKey[set[int]]()


def _born_since(before: set[int]) -> list[psutil.Process]:
    found = []
    for pid in children() - before - _shared:
        try:
            found.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    return found


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() or [process.name()]
    except psutil.Error:
        return ["ended meanwhile"]
