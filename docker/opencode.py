"""Fetches the OpenCode program: one pinned version, from npm, checked before it is unpacked, kept in a cache."""

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from docker.errors import ImageUnbuildable

VERSION = "1.18.33"
# npm's own notation (Subresource Integrity): base64 of the tarball's SHA-512.
_PACKAGES = {
    "x86_64": (
        "opencode-linux-x64",
        "sha512-q/t/3p2CTxOT9y2kvjesb/LZab2+1eqlhhWA02Be6mjTtmYtNBcBsrI5yDo4Fw7ZSPBW2oyMIGMNRqiKQjiAWw==",
    ),
}
_FETCH_SECONDS = 600


def fetch(cache: Path, say: Callable[[str], None] = print) -> Path:
    """The executable, from ``cache`` when it is there. 60 MB are fetched, 185 MB kept. Raises ImageUnbuildable.

    Any number of processes may do so at once: each unpacks its own, and puts it in place whole.
    """
    package, integrity = _package()
    cache = cache.resolve()  # npm runs in another folder
    program = cache / f"opencode-{VERSION}" / "opencode"
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        tarball = cache / f"{package}-{VERSION}.tgz"
        if not tarball.exists():
            say(f"Fetching {package}@{VERSION} from npm (60 MB).")
            tarball = _pack(package, Path(scratch))
        check_integrity(tarball, integrity)
        say("Unpacking it.")
        _unpack(tarball, Path(scratch) / "opencode")
        os.replace(Path(scratch) / "opencode", program)
    return program


def check_integrity(tarball: Path, integrity: str) -> None:
    """Raise ImageUnbuildable unless the file is, byte for byte, the one that was pinned."""
    with open(tarball, "rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if f"sha512-{found}" != integrity:
        raise ImageUnbuildable(f"{tarball.name} is not the package that was pinned (sha512-{found}): it is not used.")


def _package() -> tuple[str, str]:
    try:
        return _PACKAGES[platform.machine()]
    except KeyError:
        raise ImageUnbuildable(f"No OpenCode {VERSION} is pinned for {platform.machine()} machines.") from None


def _pack(package: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ImageUnbuildable(f"npm is not on the PATH: it is needed to fetch {package}@{VERSION}.")
    command = [npm, "pack", f"{package}@{VERSION}", "--pack-destination", str(folder), "--silent"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, cwd=folder)
    except subprocess.TimeoutExpired as error:
        raise ImageUnbuildable(f"npm did not fetch {package}@{VERSION} within {_FETCH_SECONDS} s.") from error
    tarball = folder / f"{package}-{VERSION}.tgz"
    if done.returncode or not tarball.exists():
        raise ImageUnbuildable(f"npm could not fetch {package}@{VERSION}: {done.stderr.strip()[-300:]}")
    return tarball


def _unpack(tarball: Path, target: Path) -> None:
    with tarfile.open(tarball) as archive:
        try:
            source = archive.extractfile("package/bin/opencode")
        except KeyError:
            source = None
        if source is None:
            raise ImageUnbuildable(f"{tarball.name} holds no program.")
        with source, open(target, "wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    target.chmod(0o755)
