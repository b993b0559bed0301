"""The images that sessions run are built of this machine's files."""

import io
import tarfile
from pathlib import Path

import httpx
import pytest

from docker import names
from docker.image import ECHO_IMAGE, echo_image, main
from docker.service import Volume
from tests.contracts.runtimes import daemon_runtime, until
from tests.docker_fixtures import DockerDaemon


def test_the_echo_image_has_what_a_session_needs() -> None:
    out = io.BytesIO()
    echo_image().files.write(out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        found = {f"/{entry.name}": entry for entry in archive.getmembers()}
    assert {"/bin/sh", "/usr/bin/python3", "/agent/echo.py"} <= set(found)
    assert [found[path].uid for path in ("/home/app", "/workspace")] == [1000, 1000]
    assert found["/tmp"].mode == 0o1777
    assert sum(entry.size for entry in found.values()) < 120 << 20
    assert [path for path in found if "/site-packages/" in path or path.endswith(".opt-1.pyc")] == []


def test_without_a_daemon_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_HOST_IP", raising=False)
    assert main(["echo", "--cache", str(tmp_path)]) == 1
    assert "DOCKER_HOST is empty" in capsys.readouterr().err


@pytest.mark.docker
@pytest.mark.opencode
async def test_the_opencode_image_serves_has_a_terminal_and_searches(
    docker_daemon: DockerDaemon, opencode_image: str
) -> None:
    """A terminal needs libutil and an executable /tmp, a search needs ripgrep; without them it answers a bare 500."""
    volumes = (Volume(names.volume_name("home"), "/home/app"), Volume(names.volume_name("work"), "/workspace"))
    async with daemon_runtime(docker_daemon) as runtime:
        made = await runtime.create(names.container_name(), image=opencode_image, volumes=volumes)
        await runtime.service.start_container(made.id)
        info = await runtime.service.get_container_info(made.id)
        assert info is not None
        assert info.address is not None
        base = f"http://{info.address.host}:{info.address.port}"

        async def healthy() -> bool:
            # What arrives just as the port opens is never answered: a short time-out and a new connection each time.
            async with httpx.AsyncClient(base_url=base, timeout=0.5) as client:
                try:
                    return bool((await client.get("/global/health")).json()["healthy"])
                except httpx.TransportError:
                    return False

        await until(healthy, 90)
        async with httpx.AsyncClient(base_url=base, timeout=30) as client:
            assert (await client.post("/session", json={"title": "t"})).status_code == 200
            assert (await client.post("/pty", json={"command": "/bin/sh", "args": []})).status_code == 200
            assert (await client.get("/find", params={"pattern": "x"})).status_code == 200
        await runtime.service.stop_container(made.id)
        stopped = await runtime.service.get_container_info(made.id)
        assert stopped is not None
        assert stopped.exit_code == 143, "ended by SIGTERM, not killed after the time-out"
        await runtime.service.remove_container(made.id)
        for volume in volumes:
            await runtime.service.remove_volume(volume.name)


@pytest.mark.docker
async def test_python_in_the_echo_image_is_whole(docker_daemon: DockerDaemon, echo_image: str) -> None:
    """Its own library, TLS and the database engine load in the image, not only on the machine that built it."""
    assert echo_image == ECHO_IMAGE
    script = "import asyncio, ctypes, decimal, json, sqlite3, ssl; print(ssl.create_default_context().verify_mode)"
    async with daemon_runtime(docker_daemon) as runtime:
        _, lines = await runtime.ran("python3", "-c", script)
        assert lines == ["2"]
