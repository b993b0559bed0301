"""A start that cannot succeed: what is wrong in plain sentences, the right exit code, no traceback, nothing left."""

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from docker import certs
from docker.errors import DaemonOfAnotherAuthority, PortClosed
from docker.verdicts import VERDICTS
from gateway.cli.exits import Exit
from tests.docker_fixtures import DockerDaemon
from tests.event_fixtures import LogDatabase
from tests.gateway import receivers
from tests.walks import process
from tests.walks.process import Ended

DATABASE_SECONDS: Final = 20.0  # a black hole is given up after 2; the rest is a slow machine
HYPERCORN: Final = """\
workerz = 3
backlog = "many"
read_timeout = 5
"""


async def test_a_taken_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    """A second gateway by mistake must not touch the first one's log."""
    with _listening() as port:
        ended = await _start(tmp_path, {"GATEWAY_BIND": f"127.0.0.1:{port}"})
    _check(ended, Exit.CANNOT_LISTEN, f"The gateway cannot listen on 127.0.0.1:{port}: address already in use.")
    assert not (tmp_path / "var").exists()


async def test_every_wrong_setting_is_told_at_once_with_its_near_name(tmp_path: Path) -> None:
    """One start for all of them, not one for each; a secret's value is not repeated."""
    wrong = {
        "GATEWAY_BINDD": "127.0.0.1:1",
        "DB_PROT": "5432",
        "DB_PORT": "many",
        "MAX_CONCURRENT_SESSIONS": "0",
        "SESSION_TOKEN_SECRET": "too short",
        "DOCKER_HOST": "unix:///run/daemon",
        "CONTAINER_PIDS_LIMIT": "none",
    }
    ended = await _start(tmp_path, wrong)
    _check(
        ended,
        Exit.USAGE,
        "DB_PROT is not a setting: did you mean DB_PORT?",
        "GATEWAY_BINDD is not a setting: did you mean GATEWAY_BIND?",
        "DB_PORT: 'many' cannot be used: expected a whole number, got text",
        "MAX_CONCURRENT_SESSIONS: '0' cannot be used: expected a whole number of at least 1",
        "CONTAINER_PIDS_LIMIT: 'none' cannot be used: expected a whole number, got text",
        "DOCKER_HOST=unix:///run/daemon is not tcp://HOST:PORT; sockets and plain HTTP are refused.",
        "SESSION_TOKEN_SECRET needs 32 characters or more, or auto",
    )
    assert not (tmp_path / "var").exists()


async def test_a_wrong_server_configuration_is_told_before_anything_is_started(tmp_path: Path) -> None:
    """hypercorn takes such keys in silence; and making a Postgres first would cost seconds for each try."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(HYPERCORN)
    ended = await _start(tmp_path, {"GATEWAY_HYPERCORN_CONFIG": str(wrong)})
    _check(
        ended,
        Exit.USAGE,
        "wrong.toml: workerz is not a key of hypercorn: did you mean workers?",
        "wrong.toml: backlog: 'many' cannot be used: expected int, got str",
        "wrong.toml: read_timeout is refused: it cuts event streams that are quiet",
    )
    assert not (tmp_path / "var").exists()


async def test_a_log_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Lines that nobody would find are worse than no start."""
    ended = await _start(tmp_path, {"LOG_FILE": str(tmp_path / "none" / "gateway.log")})
    _check(ended, Exit.USAGE, f"LOG_FILE {tmp_path}/none/gateway.log cannot be written: No such file or directory.")
    assert not (tmp_path / "var").exists()


async def test_a_data_directory_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    """The first thing that a newcomer mistypes."""
    (tmp_path / "file").touch()
    ended = await _start(tmp_path, {"GATEWAY_DATA_DIR": str(tmp_path / "file")})
    _check(ended, Exit.USAGE, f"GATEWAY_DATA_DIR {tmp_path}/file cannot be used: it is no directory.")


async def test_a_database_that_refuses_is_told_with_its_address(tmp_path: Path) -> None:
    """Where was looked is half of the answer."""
    with receivers.dead() as url:
        place = url.removeprefix("http://")
        host, port = place.split(":")
        ended = await _start(tmp_path, {"DB_HOST": host, "DB_PORT": port, "DB_PASSWORD": "not-to-be-shown"})
    _check(
        ended,
        Exit.LOG_UNAVAILABLE,
        f"Postgres cannot be reached ({place}: nothing listens there).",
    )


async def test_a_database_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A black hole must not hold the start, and whoever restarts it, for ever."""
    began = time.monotonic()
    with receivers.hung() as url:
        place = url.removeprefix("http://")
        host, port = place.split(":")
        ended = await _start(tmp_path, {"DB_HOST": host, "DB_PORT": port})
    assert time.monotonic() - began < DATABASE_SECONDS
    _check(
        ended,
        Exit.LOG_UNAVAILABLE,
        f"Postgres cannot be reached ({place}: no answer within 2 s).",
    )


@pytest.mark.postgres
async def test_a_docker_daemon_that_is_down_is_told(empty_log: LogDatabase, tmp_path: Path) -> None:
    """Local processes instead would be a fall-back that nobody asked for."""
    certs.generate(tmp_path / "certs", hosts=["127.0.0.1"], days=2)
    with receivers.dead() as url:
        host = f"tcp://{url.removeprefix('http://')}"
        settings = {"DOCKER_HOST": host, "DOCKER_CERT_PATH": str(tmp_path / "certs"), "SESSION_RUNTIME": "docker"}
        ended = await _start(tmp_path, {**process.on_database(empty_log), **settings})
    _check(
        ended,
        Exit.RUNTIME_UNAVAILABLE,
        f"Nothing listens at {host}: is the daemon running, and does DOCKER_HOST name it?",
        VERDICTS[PortClosed].todo,
    )


@pytest.mark.postgres
@pytest.mark.docker
async def test_certificates_of_another_authority_are_told(
    docker_daemon: DockerDaemon, empty_log: LogDatabase, tmp_path: Path
) -> None:
    """Mutual TLS fails in a dozen ways that all look alike: the sentence says which side refused."""
    certs.generate(tmp_path / "certs", hosts=["127.0.0.1"], days=2)
    ours = {"DOCKER_CERT_PATH": str(tmp_path / "certs"), "DOCKER_CA_CERT": str(tmp_path / "certs" / "ca.pem")}
    settings = {**docker_daemon.environment, **ours, "SESSION_RUNTIME": "docker"}
    ended = await _start(tmp_path, {**process.on_database(empty_log), **settings})
    _check(
        ended,
        Exit.RUNTIME_UNAVAILABLE,
        f"The daemon at {docker_daemon.settings.docker_host} shows a certificate that is not signed by our CA "
        "(unable to get local issuer certificate).",
        VERDICTS[DaemonOfAnotherAuthority].todo,
    )


async def _start(tmp_path: Path, environment: Mapping[str, str]) -> Ended:
    """Try it; nothing may run afterwards."""
    ended = await process.run({**process.LOCAL, **process.settings(tmp_path / "var"), **environment})
    assert process.using(tmp_path) == []
    return ended


def _check(ended: Ended, code: Exit, *sentences: str) -> None:
    assert ended.err.splitlines() == list(sentences)
    assert (ended.code, ended.out) == (code, "")


@contextlib.contextmanager
def _listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]
