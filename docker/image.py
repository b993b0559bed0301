"""Builds images out of this machine's files, with nothing pulled, and gives them to the daemon of DOCKER_HOST.

``python -m docker.image NAME``: ``echo`` is this machine's Python with the echo agent (for trying out and for tests),
``opencode`` what sessions run in earnest, ``gateway`` the gateway itself. Building one again changes nothing.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from docker import opencode
from docker.aiodocker_service import AiodockerService
from docker.errors import DockerError, ImageUnbuildable
from docker.gateway_image import gateway_image
from docker.image_archive import Image, Say, install
from docker.python_files import add_python
from docker.rootfs import RootFilesystem, base, found_program, shared_libraries
from docker.settings import daemon_url, from_environment

ECHO_IMAGE = "session-gateway/echo:1"
OPENCODE_IMAGE = f"session-gateway/opencode:{opencode.VERSION}"
PORT = 4096


def echo_image() -> Image:
    """The Python that runs this, its standard library and the echo agent. Raises ImageUnbuildable."""
    files = base()
    add_python(files)
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
    settings = from_environment(os.environ)
    daemon_url(settings)  # refused before anything is built
    makers = {"echo": echo_image, "opencode": lambda: opencode_image(cache), "gateway": gateway_image}
    image = makers[name]()
    async with AiodockerService(settings) as service:
        await install(service, image)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; answers its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m docker.image", description="Builds an image of this machine's files and gives it to the daemon."
    )
    parser.add_argument("name", choices=["echo", "opencode", "gateway"])
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
