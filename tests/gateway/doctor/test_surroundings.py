"""What rows look at is made once, and what is not there is told."""

import asyncio
from pathlib import Path

import pytest

from docker.authority import Authority
from gateway.doctor.surroundings import DaemonUnusable, NoDaemon
from tests.docker.stub_daemon import daemon_context, docker_answers, furnish, over_tls, peer
from tests.gateway.doctor.world import here


async def test_without_a_daemon_there_is_nothing_to_look_at() -> None:
    with pytest.raises(NoDaemon, match="without Docker"):
        await here().diagnosis()


async def test_a_daemon_that_must_be_there_is_looked_for() -> None:
    found = await here({"SESSION_RUNTIME": "docker"}).diagnosis()
    assert found.verdict == "bad-settings"


async def test_a_daemon_is_diagnosed_once_for_all_rows(tmp_path: Path) -> None:
    folder, asked = furnish(tmp_path / "certs", Authority()), []

    def answer(request: bytes) -> bytes:
        asked.append(request.split(b" ")[1])
        return docker_answers(request)

    with peer(over_tls(daemon_context(folder), answer)) as port:
        world = here({"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_CERT_PATH": str(folder)})
        one, other = await asyncio.gather(world.diagnosis(), world.diagnosis())
    assert one is other
    assert one.usable
    assert asked == [b"/_ping", b"/version"]


async def test_a_daemon_that_cannot_be_used_ends_a_row(tmp_path: Path) -> None:
    world = here({"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_CERT_PATH": str(tmp_path)})
    with pytest.raises(DaemonUnusable) as caught:
        async with world.docker():
            pass
    assert caught.value.diagnosis.verdict == "files-missing"
