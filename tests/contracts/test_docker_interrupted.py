"""Ctrl-C during a blocking call, at whatever moment, leaves nothing half-made: the same call again does all of it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from docker import names
from docker.aiodocker_service import AiodockerService
from docker.blocking import BlockingDockerService
from docker.image import ECHO_IMAGE
from docker.local import ECHO_COMMAND
from docker.service import ContainerState, DockerService
from tests.docker.local_factory import local_service

MOMENTS: Final = (0.0, 0.002, 0.02, 0.1)  # seconds
OWNER: Final = "interrupted"


@pytest.fixture(params=["local", pytest.param("daemon", marks=[pytest.mark.docker, pytest.mark.slow])])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockingDockerService]:
    if request.param == "local":
        inner: DockerService = local_service(tmp_path, {ECHO_IMAGE: ECHO_COMMAND})
    else:
        request.getfixturevalue("echo_image")
        inner = AiodockerService(request.getfixturevalue("docker_daemon").settings)
    with BlockingDockerService(inner) as opened:
        yield opened
        for info in opened.list_containers(all=True, labels=names.owned_by(OWNER)):
            opened.remove_container(info.id, force=True)


@contextmanager
def interrupts() -> Iterator[None]:
    """SIGINT as a script has it: pytest's own would end the run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted(call: Callable[[], object], moment: float) -> None:
    """Ctrl-C after so long, whether the call is over by then or not."""
    timer = threading.Timer(moment, os.kill, (os.getpid(), signal.SIGINT))
    with interrupts(), pytest.raises(KeyboardInterrupt):
        timer.start()
        call()
        while True:
            time.sleep(0.01)
    timer.join()


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_call_is_repeated(service: BlockingDockerService, moment: float) -> None:
    """Each that changes something, in a container's life."""
    name = names.container_name()
    labels = names.labels(OWNER, "s-1", name)

    def create() -> str:
        return service.create_container(name, ECHO_IMAGE, labels=labels).id

    for call, state in (
        (create, ContainerState.CREATED),
        (lambda: service.start_container(name), ContainerState.RUNNING),
        (lambda: service.stop_container(name, timeout=5), ContainerState.EXITED),
        (lambda: service.remove_container(name, force=True), None),
    ):
        interrupted(call, moment)
        call()
        (*every,) = service.list_containers(all=True, labels={names.NAME: name})
        assert [info.state for info in every] == ([] if state is None else [state])
    assert create()
