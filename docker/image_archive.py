"""An image: what it is made of, the archive that the daemon loads, and giving it to the daemon.

It is given in the form that ``docker save`` writes, so its id is the hash of its content and building it twice does
nothing the second time.
"""

import asyncio
import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import msgspec

from docker.aiodocker_service import AiodockerService
from docker.errors import ImageUnbuildable
from docker.rootfs import RootFilesystem

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EPOCH = "1970-01-01T00:00:00Z"  # an image that is dated is another image each time

Say = Callable[[str], None]


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image before it is built. ``more``: fields of the OCI image's config that few images have."""

    name: str
    files: RootFilesystem
    command: tuple[str, ...]
    environment: tuple[str, ...] = ("PATH=/usr/bin:/bin", "HOME=/home/app")
    user: str = "1000:1000"
    folder: str = "/workspace"
    port: int = 4096
    more: Mapping[str, Any] = {}


def write_archive(image: Image, layer: IO[bytes], out: IO[bytes]) -> str:
    """Write what ``docker load`` reads to ``out`` and answer the image's id; ``layer`` is scratch space."""
    image.files.write(layer)
    layer.seek(0)
    content = hashlib.sha256()
    while piece := layer.read(1 << 20):
        content.update(piece)
    digest, size = content.hexdigest(), layer.tell()
    layer.seek(0)
    config = _config(image, digest)
    image_id = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{image_id}.json", "RepoTags": [image.name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(fileobj=out, mode="w") as archive:
        _member(archive, f"{image_id}.json", io.BytesIO(config), len(config))
        _member(archive, f"{digest}/layer.tar", layer, size)
        text = json.dumps(manifest).encode()
        _member(archive, "manifest.json", io.BytesIO(text), len(text))
    return f"sha256:{image_id}"


async def install(service: AiodockerService, image: Image, say: Say = print) -> str:
    """Give ``image`` to the daemon unless it has it; answers the image's id. Raises any error of ``docker.errors``."""
    with tempfile.TemporaryFile() as layer, tempfile.TemporaryFile() as archive:
        image_id = await asyncio.to_thread(write_archive, image, layer, archive)
        if await service.image_id(image.name) == image_id:
            say(f"{image.name} is on the daemon already ({image_id[7:19]}).")
            return image_id
        say(f"Giving {image.name} to the daemon ({archive.tell() >> 20} MB).")
        archive.seek(0)
        await service.load_image(archive)
    if await service.image_id(image.name) is None:
        raise ImageUnbuildable(f"The daemon took {image.name} and does not know it.")
    say(f"{image.name} is ready ({image_id[7:19]}).")
    return image_id


def _config(image: Image, layer: str) -> bytes:
    machine = platform.machine()
    config: dict[str, Any] = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "created": _EPOCH,
        "config": {
            "Env": list(image.environment),
            "Cmd": list(image.command),
            "User": image.user,
            "WorkingDir": image.folder,
            "ExposedPorts": {f"{image.port}/tcp": {}},
            **image.more,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": _EPOCH, "created_by": f"python -m docker.image ({image.name})"}],
    }
    return json.dumps(config, sort_keys=True).encode()


def _member(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    archive.addfile(entry, content)
