"""Builds the images that sessions run, out of this machine's files and nothing pulled. ``python -m docker.image NAME``.

``echo`` is this machine's Python with the echo agent (a few MB, for trying out and for tests), ``opencode`` the real
thing. An image is given to the daemon in the form that ``docker save`` writes, so its id is the hash of its content and
building it twice does nothing the second time.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from docker import opencode
from docker.aiodocker_service import AiodockerService
from docker.errors import DockerError, ImageUnbuildable
from docker.rootfs import RootFilesystem, base, found_program, shared_libraries
from docker.settings import from_environment

ECHO_IMAGE = "session-gateway/echo:1"
OPENCODE_IMAGE = f"session-gateway/opencode:{opencode.VERSION}"
PORT = 4096

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Three quarters of the standard library's bytes, and nothing that an agent runs.
_NOT_SHIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip"}
_NOT_SHIPPED |= {"lib2to3", "pydoc_data", "turtle.py"}
_EPOCH = "1970-01-01T00:00:00Z"  # an image that is dated is another image each time

Say = Callable[[str], None]


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """An image before it is built."""

    name: str
    files: RootFilesystem
    command: tuple[str, ...]
    environment: tuple[str, ...] = ("PATH=/usr/bin:/bin", "HOME=/home/app")


def echo_image() -> Image:
    """The Python that runs this, its standard library and the echo agent. Raises ImageUnbuildable."""
    files = base()
    interpreter = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    files.program("/usr/bin/python3", interpreter)
    library = Path(sysconfig.get_path("stdlib"))
    files.tree(f"/usr/lib/{version}", library, skip=_not_shipped)
    for extension in sorted((library / "lib-dynload").glob("*.so")):
        if not _not_shipped(extension.name):
            _extension_libraries(files, extension)
    files.file("/agent/echo.py", Path(__file__).parent / "agent" / "echo.py")
    command = ("python3", "/agent/echo.py", "--host", "0.0.0.0", "--port", str(PORT))
    return Image(name=ECHO_IMAGE, files=files, command=command)


def opencode_image(cache: Path, say: Say = print) -> Image:
    """OpenCode, a shell, and ripgrep when this machine has it or can fetch it. Raises ImageUnbuildable."""
    files, cache = base(), cache.resolve()
    files.program("/usr/bin/opencode", opencode.fetch(cache, say))
    _add_ripgrep(files, cache, say)
    command = ("opencode", "serve", "--hostname", "0.0.0.0", "--port", str(PORT))
    # Neither is reachable from a session, and both would be tried at each start.
    quiet = ("OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_LSP_DOWNLOAD=1")
    return Image(
        name=OPENCODE_IMAGE,
        files=files,
        command=command,
        environment=("PATH=/usr/bin:/bin", "HOME=/home/app", "SHELL=/bin/sh", *quiet),
    )


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
            "User": "1000:1000",
            "WorkingDir": "/workspace",
            "ExposedPorts": {f"{PORT}/tcp": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": _EPOCH, "created_by": f"python -m docker.image ({image.name})"}],
    }
    return json.dumps(config, sort_keys=True).encode()


def _member(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    archive.addfile(entry, content)


def _not_shipped(name: str) -> bool:
    return (
        name in _NOT_SHIPPED
        or name.startswith(("config-", "_tkinter.", "_test", "_xx", "xx"))
        or name.endswith((".opt-1.pyc", ".opt-2.pyc"))
    )


def _extension_libraries(files: RootFilesystem, extension: Path) -> None:
    """Most of Python's compiled modules need nothing more; one whose library is absent here fails here as well."""
    try:
        files.libraries(extension)
    except ImageUnbuildable:
        return


def _add_ripgrep(files: RootFilesystem, cache: Path, say: Say) -> None:
    """Without it OpenCode's search answers 500; all else works."""
    try:
        program = _ripgrep(cache)
        shared_libraries(program)
    except ImageUnbuildable as error:
        say(f"The image will have no ripgrep, so OpenCode cannot search files: {error}")
        return
    files.program("/usr/bin/rg", program)


def _ripgrep(cache: Path) -> Path:
    """``rg`` of this machine, else unpacked from Debian's package without installing it."""
    kept = cache / "ripgrep"
    if (kept / "usr/bin/rg").exists():
        return kept / "usr/bin/rg"
    try:
        return found_program("rg", "")
    except ImageUnbuildable:
        pass
    apt, dpkg = found_program("apt-get", "install ripgrep"), found_program("dpkg-deb", "install ripgrep")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        os.chmod(scratch, 0o777)  # as root, apt fetches as a user of its own
        _run([str(apt), "download", "-qq", "ripgrep"], scratch)
        package = next(Path(scratch).glob("ripgrep_*.deb"))
        _run([str(dpkg), "-x", str(package), "unpacked"], scratch)
        os.replace(Path(scratch) / "unpacked", kept)
    return kept / "usr/bin/rg"


def _run(command: list[str], folder: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired as error:
        raise ImageUnbuildable(f"{' '.join(command)} took more than two minutes.") from error
    if done.returncode:
        raise ImageUnbuildable(f"{' '.join(command)} failed: {done.stderr.strip()[-200:]}")


async def _build(name: str, cache: Path) -> None:
    image = echo_image() if name == "echo" else opencode_image(cache)
    async with AiodockerService(from_environment(os.environ)) as service:
        await install(service, image)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; answers its exit code."""
    parser = argparse.ArgumentParser(prog="python -m docker.image", description=__doc__)
    parser.add_argument("name", choices=["echo", "opencode"])
    parser.add_argument("--cache", type=Path, default=Path("var/cache"), help="where what was fetched is kept")
    chosen = parser.parse_args(arguments)
    try:
        asyncio.run(_build(chosen.name, chosen.cache))
    except (DockerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
