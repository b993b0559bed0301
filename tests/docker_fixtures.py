"""Fixtures with a real Docker daemon behind mutual TLS.

DOCKER_HOST is used when it is set and answers; else a daemon of our own is started where that can be done; else the
tests are skipped with the reason, or failed under REQUIRE_DOCKER=1.
"""

import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from docker import image, names
from docker.aiodocker_service import AiodockerService
from docker.errors import BadDockerSettings, ImageUnbuildable
from docker.image_archive import Image, install
from docker.settings import DockerSettings, from_environment
from tests.docker.daemon import PrivateDaemon, answers, ask, missing

# Kept between runs: what was fetched from npm is 185 MB.
CACHE = Path(os.environ.get("SESSION_GATEWAY_TEST_CACHE", str(Path(tempfile.gettempdir()) / "session-gateway-cache")))


class DockerDaemon(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon that answers. Tests label what they make with ``owner``, so that it can be removed afterwards."""

    settings: DockerSettings
    owner: str
    enter: tuple[str, ...] = ()  # put before a command, it runs in the daemon's network namespace
    gateway: str = ""  # this machine as containers see it; see ``host_address``

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that give a gateway process these settings."""
        differing = {
            field.name: getattr(self.settings, field.name)
            for field in msgspec.structs.fields(DockerSettings)
            if getattr(self.settings, field.name) != field.default
        }
        return {
            name.upper(): str(value).lower() if value in (True, False) else str(value)
            for name, value in differing.items()
        }

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request to the daemon, past the client that is under test."""
        return ask(self.settings, method, path, body)

    def run_in(self, container: str, *command: str, wait: bool = True) -> str:
        """Run a command in a running container, as its user and within its limits; what it said, if waited for."""
        asked = {"Cmd": command, "AttachStdout": wait, "AttachStderr": wait, "Tty": wait}
        status, made = self.ask("POST", f"/containers/{container}/exec", asked)
        if status != 201:
            raise RuntimeError(f"{command[0]} in {container}: {made}")
        status, said = self.ask("POST", f"/exec/{made['Id']}/start", {"Detach": not wait, "Tty": wait})
        if status != 200:
            raise RuntimeError(f"{command[0]} in {container}: {said}")
        return str(said).replace("\r\n", "\n")

    def host_address(self) -> str:
        """Where a container reaches this machine, such as a stub model; needs the session network to exist."""
        return self.gateway or str(
            self.ask("GET", f"/networks/{self.settings.session_network}")[1]["IPAM"]["Config"][0]["Gateway"]
        )


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[DockerDaemon]:
    """A daemon for this test run; started in about a second, stopped in one or two."""
    given = _given_daemon()
    if given is not None:
        daemon = _handle(given)
        yield daemon
        _clean(daemon)
        return
    reason = missing()
    if reason:
        without_docker(f"no Docker daemon over mutual TLS: DOCKER_HOST answers not, and {reason}")
    private = PrivateDaemon()
    try:
        private.start()
    except RuntimeError as error:
        without_docker(str(error))
    try:
        yield _handle(private.settings, tuple(private.enter), private.gateway)
    finally:
        private.stop()


@pytest.fixture(scope="session")
def echo_image(docker_daemon: DockerDaemon) -> str:
    """The echo agent's image, on the daemon."""
    try:
        _install(docker_daemon, image.echo_image)
    except ImageUnbuildable as error:
        without_docker(f"no echo image: {error}")
    return image.ECHO_IMAGE


@pytest.fixture(scope="session")
def opencode_image(docker_daemon: DockerDaemon) -> str:
    """The real OpenCode's image, on the daemon; fetched once, then from the cache."""
    try:
        _install(docker_daemon, lambda: image.opencode_image(CACHE))
    except ImageUnbuildable as error:
        without_docker(f"no OpenCode image: {error}")
    return image.OPENCODE_IMAGE


@contextlib.contextmanager
def daemon_of_its_own(nth: int, *flags: str) -> Iterator[tuple[PrivateDaemon, DockerDaemon]]:
    """A daemon beside the run's, which a test may restart, with the echo image. ``nth``: of this process, from 1."""
    if reason := missing():
        without_docker(f"no Docker daemon that can be restarted: {reason}")
    private = PrivateDaemon(nth, flags)
    private.start()
    try:
        daemon = _handle(private.settings, tuple(private.enter), private.gateway)
        _install(daemon, image.echo_image)
        yield private, daemon
    finally:
        private.stop()


def without_docker(reason: str) -> NoReturn:
    """Skip, saying why; fail where Docker is required."""
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1, but {reason}")
    pytest.skip(f"NOT TESTED: {reason}")


def _given_daemon() -> DockerSettings | None:
    if not os.environ.get("DOCKER_HOST"):
        return None
    try:
        settings = from_environment(os.environ)
    except BadDockerSettings:
        return None
    return settings if answers(settings) else None


def _handle(settings: DockerSettings, enter: tuple[str, ...] = (), gateway: str = "") -> DockerDaemon:
    run = secrets.token_hex(4)
    own = msgspec.structs.replace(settings, session_network=f"session-gateway-test-{run}")
    return DockerDaemon(settings=own, owner=f"test-{run}", enter=enter, gateway=gateway)


def _install(daemon: DockerDaemon, build: Callable[[], Image]) -> None:
    wanted = build()

    async def give() -> None:
        async with AiodockerService(daemon.settings) as service:
            await install(service, wanted)

    _run(give)


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On a thread: a session's fixture may be asked for by a test whose own loop is running."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(work())).result()


def _clean(daemon: DockerDaemon) -> None:
    async def remove_containers() -> None:
        async with AiodockerService(daemon.settings) as service:
            for info in await service.list_containers(all=True, labels=names.owned_by(daemon.owner)):
                await service.remove_container(info.id, force=True)

    _run(remove_containers)
    daemon.ask("DELETE", f"/networks/{daemon.settings.session_network}")
