"""An image is known by its content, and given to a daemon once."""

import io
import json
import tarfile

import pytest

from docker.aiodocker_service import AiodockerService
from docker.image_archive import Image, install, write_archive
from docker.rootfs import RootFilesystem
from tests.docker_fixtures import DockerDaemon


def tiny(content: bytes) -> Image:
    files = RootFilesystem()
    files.file("/hello", content)
    return Image(name="session-gateway/test-tiny:1", files=files, command=("hello",))


def archived(image: Image) -> tuple[str, dict[str, bytes]]:
    out = io.BytesIO()
    image_id = write_archive(image, io.BytesIO(), out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        members = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return image_id, {name: file.read() for name, file in members.items() if file is not None}


def test_an_images_id_is_the_hash_of_its_content() -> None:
    assert archived(tiny(b"1")) == archived(tiny(b"1"))
    assert archived(tiny(b"1"))[0] != archived(tiny(b"2"))[0]


def test_an_image_runs_as_nobody_special_in_the_workspace() -> None:
    image_id, members = archived(tiny(b"1"))
    manifest = json.loads(members["manifest.json"])[0]
    assert manifest["RepoTags"] == ["session-gateway/test-tiny:1"]
    config = json.loads(members[manifest["Config"]])["config"]
    assert manifest["Config"] == image_id.removeprefix("sha256:") + ".json"
    assert (config["User"], config["WorkingDir"], config["Cmd"]) == ("1000:1000", "/workspace", ["hello"])
    assert config["ExposedPorts"] == {"4096/tcp": {}}


def test_what_few_images_have_is_told_too() -> None:
    files = RootFilesystem()
    more = {"Entrypoint": ["/serve"], "Volumes": {"/data": {}}}
    image = Image(name="a:1", files=files, command=("x",), user="7:7", folder="/", port=80, more=more)
    _, members = archived(image)
    config = json.loads(members[json.loads(members["manifest.json"])[0]["Config"]])["config"]
    assert (config["User"], config["WorkingDir"], config["ExposedPorts"]) == ("7:7", "/", {"80/tcp": {}})
    assert (config["Entrypoint"], config["Volumes"]) == (["/serve"], {"/data": {}})


@pytest.mark.docker
async def test_an_image_is_given_to_the_daemon_once(docker_daemon: DockerDaemon) -> None:
    said: list[str] = []
    async with AiodockerService(docker_daemon.settings) as service:
        assert await service.image_id("session-gateway/test-tiny:1") is None
        first = await install(service, tiny(b"1"), said.append)
        assert await install(service, tiny(b"1"), said.append) == first
        assert await install(service, tiny(b"2"), said.append) != first
    docker_daemon.ask("DELETE", "/images/session-gateway/test-tiny:1")
    giving = [line.split(" ")[0] == "Giving" for line in said]
    assert giving == [True, False, False, True, False], said
