"""The tests marked ``each_call``, which alone are run over the blocking door to a real daemon, leave no call out."""

import functools
import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from docker import names
from docker.blocking import BlockingDockerService
from docker.image import ECHO_IMAGE
from docker.mock import MockDockerService
from docker.service import DockerService
from tests.contracts.runtimes import MockRuntime
from tests.contracts.threads import ThreadedService

CALLS = {name for name, member in vars(DockerService).items() if callable(member) and not name.startswith("_")}


class Recorded(BlockingDockerService):
    """The door itself, which remembers what was called."""

    def __init__(self, service: DockerService, called: set[str]) -> None:
        super().__init__(service)
        self._called = called

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS:
            return found

        @functools.wraps(found)
        def recorded(*given: Any, **named: Any) -> Any:
            self._called.add(name)
            return found(*given, **named)

        return recorded


def marked_tests() -> Iterator[Callable[..., Awaitable[None]]]:
    for path in sorted(Path(__file__).parent.glob("test_docker_*.py")):
        module = importlib.import_module(f"tests.contracts.{path.stem}")
        for member in vars(module).values():
            if any(mark.name == "each_call" for mark in getattr(member, "pytestmark", ())):
                yield member


async def called_by(test: Callable[..., Awaitable[None]]) -> set[str]:
    mock, called = MockDockerService(images={ECHO_IMAGE}), set[str]()
    async with ThreadedService(lambda: Recorded(mock, called)) as threaded:
        given = {"runtime": MockRuntime(mock, threaded), "name": names.container_name()}
        await test(**{name: given[name] for name in inspect.signature(test).parameters})
    return called


async def test_the_marked_tests_make_every_call_of_the_contract() -> None:
    called = [await called_by(test) for test in marked_tests()]
    assert set().union(*called) == CALLS
    assert len(CALLS) == 11
