"""The scripts of the first description are all there, each is a thin door that opens, and a page lists them."""

import asyncio
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from docker.verdicts import VERDICTS
from gateway.doctor.rows import ROWS
from tests.docker_fixtures import DockerDaemon
from tests.house import pages

SCRIPTS: Final = Path(__file__).resolve().parents[3] / "docker" / "scripts"
# The first description's list of scripts that test something.
DESCRIBED: Final = {
    "test-docker-service.py": "docker-service",
    "test-tls-connection.py": "docker.diagnose",
    "test-host-ip-detection.py": "docker.host_report",
    "test-integration.sh": "make test",
    "test-structured-logging.py": "structured-logging",
    "test-database-persistence.py": "database-persistence",
    "test-container-health.py": "container-health",
    "test-session-auth.py": "session-auth",
    "test-auth-end-to-end.sh": "make test",
    "test-http-connection-pool.py": "http-connection-pool",
    "test-http-pool-load.sh": "make test",
    "test-async-docker.py": "async-docker",
    "test-async-docker-load.sh": "make test",
    "test-resource-limits.py": "resource-limits",
    "test-resource-limits-load.sh": "make test",
}
LINES: Final = 15
CHEAP: Final = sorted(name for name, door in DESCRIBED.items() if door != "make test")
SKIPPED: Final = 77
SECONDS: Final = 60.0


def text(name: str) -> str:
    return (SCRIPTS / name).read_text()


async def run(name: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """A script as a user runs it, from another folder, with no settings but those given; its exit code and output."""
    return await run_in(Path("/"), name, *arguments, **environment)


async def run_in(folder: Path, name: str, *arguments: str, **environment: str) -> tuple[int, str]:
    plain = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, **environment}
    process = await asyncio.create_subprocess_exec(
        str(SCRIPTS / name),
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=plain,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()


def test_the_folder_and_the_description_are_one() -> None:
    there = {path.name for path in SCRIPTS.iterdir() if path.name.startswith("test-")}
    assert there == set(DESCRIBED)


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_each_is_a_thin_door_that_can_be_run(name: str) -> None:
    assert stat.S_IMODE((SCRIPTS / name).stat().st_mode) & 0o111 == 0o111
    assert len(text(name).splitlines()) <= LINES
    door = DESCRIBED[name]
    assert door in text(name)
    assert door in ROWS or "." in door or door == "make test"


def test_the_page_lists_each() -> None:
    told = pages.table("docker/README.md", "script")
    assert {name for name in told if name.startswith("test-")} == set(DESCRIBED)
    rows = {name: cells[-1] for name, cells in told.items() if cells[-1].startswith("row")}
    assert rows == {name: f"row `{door}`" for name, door in DESCRIBED.items() if door in ROWS}


@pytest.mark.parametrize("name", sorted(name for name, door in DESCRIBED.items() if door == "make test"))
async def test_a_door_to_tests_names_tests_that_are_there(name: str) -> None:
    code, out = await run(name, "--help")
    assert code == 0
    assert "Runs: make test" in out
    named = re.findall(r"tests/[\w/.]+", out)
    assert named
    assert [path for path in named if not pages.exists(path)] == []


async def all_of(names: Iterable[str], **environment: str) -> dict[str, tuple[int, str]]:
    gate = asyncio.Semaphore(2)

    async def one(name: str) -> tuple[int, str]:
        async with gate:
            return await run(name, **environment)

    chosen = list(names)
    return dict(zip(chosen, await asyncio.gather(*map(one, chosen)), strict=True))


async def test_a_door_of_each_kind_opens_where_nothing_is_set_up(tmp_path: Path) -> None:
    """Each starts a Python: the others are opened by the test below."""
    settings = next(verdict for verdict in VERDICTS.values() if verdict.word == "bad-settings")
    wanted = {"test-tls-connection.py": settings.exit_code, "test-session-auth.py": SKIPPED}
    found = await all_of(wanted, GATEWAY_DATA_DIR=str(tmp_path))
    assert {name: code for name, (code, _) in found.items()} == wanted
    assert "DOCKER_HOST is empty" in found["test-tls-connection.py"][1]
    assert "session-auth  skip   There is no key" in found["test-session-auth.py"][1]


@pytest.mark.slow
async def test_each_tells_something_where_nothing_is_set_up(tmp_path: Path) -> None:
    """Skipped, or the sentence that says what is missing; no traceback and no success that means nothing."""
    found = await all_of(CHEAP, GATEWAY_DATA_DIR=str(tmp_path))
    assert not [name for name, (_, out) in found.items() if "Traceback" in out]
    assert found.pop("test-tls-connection.py")[0] == 10
    assert found.pop("test-host-ip-detection.py")[0] == 2
    assert found.pop("test-structured-logging.py")[0] == 0
    assert {code for code, _ in found.values()} == {SKIPPED}
    assert all("skip" in out for _, out in found.values())


async def test_help_says_what_it_becomes() -> None:
    code, out = await run("test-docker-service.py", "--help")
    assert code == 0
    assert "Runs: python -m gateway doctor docker-service" in out
    assert "--json" in out


@pytest.mark.parametrize("name", ["test-tls-connection.py", "generate-certs.sh"])
@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
async def test_a_python_without_our_packages_is_told(name: str, python: str) -> None:
    code, out = await run(name, PYTHON=python)
    assert (code, "`make venv`" in out, "Traceback" in out) == (2, True, False)


async def test_paths_are_of_the_callers_directory_and_defaults_of_the_clone(tmp_path: Path) -> None:
    """A Python that only says what it was started with; nothing is written."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "$PWD" "$*" "${DOCKER_CERT_PATH-}" "${GATEWAY_DATA_DIR-}"\n')
    python.chmod(0o755)
    clone = SCRIPTS.parents[1]
    for folder, given, told in (
        (tmp_path, {}, f"{clone}/docker/certs {clone}/var"),
        (tmp_path, {"DOCKER_CERT_PATH": "mine", "GATEWAY_DATA_DIR": "data"}, "mine data"),
        (clone, {}, " "),
    ):
        for name, module in (("generate-certs.sh", "docker.certs"), ("test-tls-connection.py", "docker.diagnose")):
            code, out = await run_in(folder, name, "--folder", "x", PYTHON=str(python), **given)
            assert (code, out) == (0, f"{folder} -m {module} --folder x {told}\n")


async def test_certificates_appear_where_the_caller_says(tmp_path: Path) -> None:
    """Also beside files that are called as our rooms are."""
    (tmp_path / "docker.py").write_text("raise SystemExit(99)")
    code, _ = await run_in(tmp_path, "generate-certs.sh", "--folder", "mine", DAYS="2")
    assert (code, (tmp_path / "mine" / "ca.pem").exists()) == (0, True)
    code, out = await run_in(
        tmp_path, "test-tls-connection.py", DOCKER_CERT_PATH="none", DOCKER_HOST="tcp://127.0.0.1:1"
    )
    assert (code, "none/ca.pem" in out) == (11, True), out


@pytest.mark.docker
async def test_with_a_daemon_they_pass(docker_daemon: DockerDaemon, echo_image: str, tmp_path: Path) -> None:
    settings = {**docker_daemon.environment, "SESSION_IMAGE": echo_image, "GATEWAY_DATA_DIR": str(tmp_path)}
    found = await all_of(("test-tls-connection.py", "test-docker-service.py"), **settings)
    assert {code for code, _ in found.values()} == {0}, found
    assert "answers over TLSv1.3" in found["test-tls-connection.py"][1]
    assert f"A container of {echo_image} was made" in found["test-docker-service.py"][1]
