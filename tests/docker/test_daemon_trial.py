"""Certificates of a daemon, tried as a client would."""

import asyncio
import datetime as dt
import shutil
import socket
from pathlib import Path

import pytest

from docker import certs, daemon_trial
from tests.docker.certified_daemon import certified_daemon


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certs")
    certs.generate(made, hosts=["127.0.0.1", "box"], days=2)
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "box", ""])
def test_files_that_serve_have_no_problem(folder: Path, host: str) -> None:
    assert daemon_trial.problem(folder, host) == ""


def test_each_problem_is_named(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    certs.generate(other, hosts=["127.0.0.1"], days=2)
    for change, word in {
        "name": "IP address mismatch",
        "ca.pem": "a client would refuse",
        "server-key.pem": "cannot be used together",
        "server-cert.pem": "cannot be used together",
    }.items():
        mixed = tmp_path / change.replace(".", "-")
        shutil.copytree(folder, mixed)
        if change != "name":
            (mixed / change).unlink()
            shutil.copy(other / change, mixed / change)
        assert word in daemon_trial.problem(mixed, "10.0.0.5" if change == "name" else "127.0.0.1")


def test_a_clients_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    for kind in ("cert", "key"):
        (mixed / f"server-{kind}.pem").unlink()
        shutil.copy(folder / f"client-{kind}.pem", mixed / f"server-{kind}.pem")
    assert "would refuse" in daemon_trial.problem(mixed, "")


def test_a_missing_or_damaged_file_is_named(folder: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    (mixed / "ca.pem").unlink()
    assert "ca.pem cannot be read" in daemon_trial.problem(mixed, "")
    (mixed / "ca.pem").write_text("no certificate")
    assert "ca.pem cannot be used" in daemon_trial.problem(mixed, "")


async def test_a_daemon_that_answers_is_known_by_its_certificate(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    certs.generate(other, days=2)
    async with certified_daemon(folder) as daemon:
        address = ("127.0.0.1", daemon.port)
        assert await asyncio.to_thread(daemon_trial.answers, folder, address, seconds=5)
        assert not await asyncio.to_thread(daemon_trial.answers, other, address, seconds=0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    began = dt.datetime.now()
    assert not daemon_trial.answers(folder, ("127.0.0.1", closed), seconds=0.2)
    assert dt.datetime.now() - began < dt.timedelta(seconds=3)
