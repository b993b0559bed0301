"""Folders of the host as mounts: a runtime gives a container exactly the folder that is meant, or refuses."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from docker import host_dirs, names
from docker.errors import HostDirRefused
from docker.host_dirs import Folder
from docker.service import Capability, HostDir, Volume
from tests.contracts.runtimes import (
    MockRuntime,
    ProcessRuntime,
    Runtime,
    daemon_runtime,
    local_runtime,
    mock_runtime,
)
from tests.docker_fixtures import DockerDaemon

USER = "1000:1000" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
SEEN_AT = "/workspace"


@pytest.fixture(params=["mock", "local", pytest.param("daemon", marks=pytest.mark.docker)])
async def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Runtime]:
    if request.param == "daemon":
        request.getfixturevalue("echo_image")
        opened: Any = daemon_runtime(request.getfixturevalue("docker_daemon"))
    else:
        opened = local_runtime(tmp_path / "local") if request.param == "local" else mock_runtime()
    async with opened as given:
        yield given


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "workspaces"
    made.mkdir(mode=0o700)
    return made


def mounted(runtime: Runtime) -> None:
    if Capability.HOST_DIRS not in runtime.service.capabilities:
        pytest.skip(f"{runtime.service.runtime} does not declare {Capability.HOST_DIRS}")


async def refused(runtime: Runtime, source: Path | str) -> str:
    name = names.container_name()
    with pytest.raises(HostDirRefused) as raised:
        await runtime.create(name, volumes=(HostDir(str(source), SEEN_AT),))
    assert await runtime.service.get_container_info(name) is None
    return str(raised.value)


def note(folder: Folder, name: str) -> Path:
    return Path(folder.path, name)


async def said(runtime: ProcessRuntime, script: str, *mounts: HostDir | Volume) -> list[str]:
    """What a container with the mounts prints."""
    return await runtime.said("/bin/sh", "-c", script, volumes=mounts)


async def test_a_container_reads_and_writes_the_folder(runtime: Runtime, root: Path) -> None:
    mounted(runtime)
    folder = host_dirs.prepare(str(root), "ada", USER, "log ada")
    note(folder, "from-outside").write_text("hello in there\n")
    mount = HostDir(folder.path, SEEN_AT)
    if isinstance(runtime, MockRuntime):
        made = await runtime.create(names.container_name(), volumes=(mount,))
        assert runtime.mock.folders_of(made.name) == {SEEN_AT: folder.path}
        return
    assert isinstance(runtime, ProcessRuntime)
    script = "cat /workspace/from-outside; echo hello out there > /workspace/from-inside; ls /workspace"
    lines = await said(runtime, script, mount)
    assert lines == ["hello in there", "from-inside", "from-outside"]
    assert note(folder, "from-inside").read_text() == "hello out there\n"
    assert os.stat(note(folder, "from-inside")).st_uid == int(USER.split(":")[0])


async def test_a_folder_that_is_not_there_is_refused_and_not_made(runtime: Runtime, root: Path) -> None:
    """A daemon of old would make it, as root, on whatever machine it runs."""
    mounted(runtime)
    assert "does not see the folder" in await refused(runtime, root / "absent")
    assert os.listdir(root) == []


@pytest.mark.parametrize("runtime", ["local"], indirect=True)
async def test_a_runtime_without_folders_says_so(runtime: Runtime, root: Path) -> None:
    assert Capability.HOST_DIRS not in runtime.service.capabilities
    assert "no folders of the host" in await refused(runtime, root)


@pytest.mark.docker
async def test_what_is_mounted_beneath_stays_out_and_nothing_is_gained(
    docker_daemon: DockerDaemon, echo_image: str, root: Path
) -> None:
    """What the daemon made of it: private, no mounts beneath; a setuid program and a device are worth nothing."""
    folder = host_dirs.prepare(str(root), "ada", USER, "log ada")
    python, device = note(folder, "python"), note(folder, "fuse")
    mount = HostDir(folder.path, SEEN_AT)
    async with daemon_runtime(docker_daemon) as runtime:
        copy = 'cp "$(readlink -f "$(command -v python3)")" /workspace/python && echo copied'
        assert await said(runtime, copy, mount) == ["copied"]
        os.chown(python, 0, 0)
        os.chmod(python, 0o4755)
        os.mknod(device, 0o20666, os.makedev(10, 229))
        os.chmod(device, 0o666)
        asked = "PYTHONHOME=/usr /workspace/python -S -c 'import os; print(os.geteuid())'; cat /workspace/fuse"
        lines = await said(runtime, asked, mount)
        assert lines[0] == USER.split(":")[0]
        assert "Operation not permitted" in lines[-1], "the device list, since its mode would let everybody in"
        made = await runtime.create(names.container_name(), volumes=(HostDir(folder.path, SEEN_AT),))
        _, shown = docker_daemon.ask("GET", f"/containers/{made.id}/json")
        (mount,) = shown["Mounts"]
        assert (mount["Type"], mount["Source"], mount["Propagation"]) == ("bind", folder.path, "rprivate")
        assert shown["HostConfig"]["Mounts"][0]["BindOptions"]["NonRecursive"] is True
        assert not shown["HostConfig"].get("Binds")
