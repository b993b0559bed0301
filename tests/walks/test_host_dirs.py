"""Folders and volumes on a real daemon: one file system is proved, volumes tell whose they are and go, folders stay."""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from docker import names
from docker.aiodocker_service import AiodockerService
from docker.errors import HostDirRefused
from docker.host_dir_marks import file_of
from docker.settings import DockerSettings, from_environment
from events.keyring import MemoryKeyring
from gateway.sessions.folders import Folders
from tests.docker_fixtures import DockerDaemon
from tests.event_fixtures import until
from tests.gateway_fixtures import start_gateway

pytestmark = [pytest.mark.docker, pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: folders are given away")]
# What ``main`` below is told, in a mount namespace where another file system lies over the root.
ELSEWHERE: Final = 'mount -t tmpfs -o mode=700 none "$HOST_DIR_ROOT" && exec "$0" -m tests.walks.test_host_dirs'


@pytest.fixture
def root(tmp_path: Path, docker_daemon: DockerDaemon) -> Path:
    if not docker_daemon.enter:
        pytest.skip("NOT TESTED: the daemon of DOCKER_HOST may run on another machine")
    made = tmp_path / "workspaces"
    made.mkdir(mode=0o700)
    return made


async def test_a_session_works_in_its_folder_and_its_volumes_go(
    docker_daemon: DockerDaemon, echo_image: str, root: Path, tmp_path: Path
) -> None:
    """Opened, seen from inside and outside, ended; with nothing to keep the volume goes, and the folder stays."""
    environment = {
        **docker_daemon.environment,
        "SESSION_RUNTIME": "docker",
        "SESSION_IMAGE": echo_image,
        "HOST_DIR_ROOT": str(root),
        "SESSION_DATA_KEEP_DAYS": "0",
    }
    async with start_gateway(tmp_path / "data", environment) as gateway:
        ours = names.owned_by(str(gateway.services.store.log_id))
        docker = gateway.services.docker
        in_folder = await gateway.open({"host_dir": "ada", "owner": "ada"})
        plain = await gateway.open({"owner": "bob"})
        state = gateway.services.views.sessions[in_folder.session_id]
        _, shown = docker_daemon.ask("GET", f"/containers/{state.container}/json")
        mounts = {mount["Destination"]: (mount["Type"], mount["Source"]) for mount in shown["Mounts"]}
        assert mounts["/workspace"] == ("bind", str(root / "ada"))
        assert mounts["/home/app"][0] == "volume"
        kept = await docker.list_volumes(ours)
        whose = sorted((each.labels[names.SESSION], each.name.rsplit("-")[-1]) for each in kept)
        assert whose == sorted(
            [(in_folder.session_id, "home"), (plain.session_id, "home"), (plain.session_id, "workspace")]
        )
        for session in (in_folder, plain):
            await gateway.stop(session)

        async def volumes_are_gone() -> bool:
            return await docker.list_volumes(ours) == []

        await until(volumes_are_gone, 30)
        assert sorted(os.listdir(root)) == [file_of("ada"), "ada"], "no probe is left"
        removed = await gateway.payloads("session.data_removed")
        assert sorted(each.session_id for each in removed) == sorted((in_folder.session_id, plain.session_id))


async def test_a_daemon_that_sees_another_file_system_is_found_out(
    docker_daemon: DockerDaemon, echo_image: str, root: Path
) -> None:
    """There is a root of that name on both sides; only what lies in it differs."""
    shell, unshare = shutil.which("sh"), shutil.which("unshare")
    assert shell and unshare
    given = {**os.environ, **docker_daemon.environment, "HOST_DIR_ROOT": str(root), "IMAGE": echo_image}
    process = await asyncio.create_subprocess_exec(
        *(unshare, "--mount", shell, "-c", ELSEWHERE, sys.executable),
        env=given,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert said.decode().strip() == (
        "The daemon does not see the folder: it runs on another machine, or in another file system, than the gateway."
    )
    here = msgspec.structs.replace(docker_daemon.settings, host_dir_root=str(root))
    assert await _prove(here, echo_image) == "proved", "where both see the same"
    async with AiodockerService(docker_daemon.settings) as service:
        left = await service.list_containers(all=True, labels=names.owned_by("elsewhere"))
    assert left == [] and os.listdir(root) == []


async def _prove(settings: DockerSettings, image: str) -> str:
    async with AiodockerService(settings) as service:
        folders = Folders(service, MemoryKeyring(), settings, b"s", image=image, owner="elsewhere")
        try:
            await folders.prove()
        except HostDirRefused as refusal:
            return str(refusal)
    return "proved"


if __name__ == "__main__":
    print(asyncio.run(_prove(from_environment(os.environ), os.environ["IMAGE"])))
