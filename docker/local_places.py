"""Where the local runtime's containers live on disk, and as whom.

A container's processes see two directories: HOME and their workspace. As root, they run as an unprivileged user who
must be able to walk there; where the state directory lies below one that is closed to others (``/root``), the
directories are kept below ``/var/lib`` instead and ``local.json`` in the state directory says where. This module leaves
to ``docker/local.py`` what runs there.
"""

import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from docker.errors import DaemonFailed, HostDirRefused, ImageMissing
from docker.service import Mount, Volume, VolumeInfo

# Above the ranges of people and of systemd's home users, below its dynamic ones: nobody else is given it.
UNPRIVILEGED = 60_998
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME_TARGET, WORKSPACE_TARGET = "/home/app", "/workspace"


class Pointer(msgspec.Struct, frozen=True):
    """What ``local.json`` says."""

    base: str


class Places:
    """The directories of one state directory. ``user`` is whom containers run as; None is whoever runs the gateway."""

    def __init__(self, state: Path, base: Path, user: int | None) -> None:
        self.state, self.base, self.user = state, base, user
        self.registry, self.logs = state / "registry", state / "logs"
        self.volumes, self.containers, self.programs = base / "volumes", base / "containers", base / "programs"
        self.labels = state / "volumes"

    @classmethod
    def prepare(cls, state: Path, user: int | None, fallback: Path) -> "Places":
        """Make what is missing. Raises DaemonFailed when the file system refuses."""
        try:
            state.mkdir(parents=True, exist_ok=True)
            places = cls(state, choose_base(state, user, fallback), user)
            for directory in (places.registry, places.logs, places.labels):
                directory.mkdir(mode=0o700, exist_ok=True)
            for directory in (places.volumes, places.containers, places.programs):
                directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise DaemonFailed(f"The local runtime cannot keep its directories: {error}.") from error
        return places

    def mounts(self, name: str, volumes: tuple[Volume, ...]) -> Mapping[str, Path]:
        """HOME, PWD (the workspace) and TMPDIR of one container, made when absent."""
        named = {volume.target.rstrip("/"): self.volumes / volume.name for volume in volumes}
        unknown = named.keys() - {HOME_TARGET, WORKSPACE_TARGET}
        if unknown:
            seen = f"{HOME_TARGET} and {WORKSPACE_TARGET}"
            raise DaemonFailed(f"A local process sees volumes only at {seen}, not at {', '.join(sorted(unknown))}.")
        own = self.containers / name
        own.mkdir(mode=0o711, exist_ok=True)
        mounts = {
            "HOME": named.get(HOME_TARGET, own / "home"),
            "PWD": named.get(WORKSPACE_TARGET, own / "workspace"),
            "TMPDIR": own / "tmp",
        }
        for volume in volumes:
            self._label(volume)
        for directory in mounts.values():
            self._give(directory)
        return mounts

    def _label(self, volume: Volume) -> None:
        """What it is labelled with when it is made is beside it, where no container sees it."""
        file = self.labels / f"{volume.name}.json"
        if not file.exists():
            beside = file.with_name(f"{file.name}.{os.getpid()}.new")
            beside.write_bytes(msgspec.json.encode(VolumeInfo(volume.name, dict(volume.labels))))
            beside.replace(file)

    def kept(self) -> list[VolumeInfo]:
        """Every volume. One of an earlier release has no labels, and is not told."""
        files = self.labels.glob("*.json")
        return [msgspec.json.decode(file.read_bytes(), type=VolumeInfo) for file in sorted(files)]

    def discard_volume(self, name: str) -> None:
        """Raises DaemonFailed when it cannot be removed; its labels go last."""
        self.discard(self.volumes / name)
        (self.labels / f"{name}.json").unlink(missing_ok=True)

    def _give(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None:
            os.chown(directory, self.user, self.user)

    def command(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """The command line as the user can run it; ``{host}`` and ``{port}`` are filled in at each start."""
        return tuple(self._python() if word == "{python}" else self._program(word) for word in words)

    def _program(self, word: str) -> str:
        """The word of a command line, or where the user reaches a copy of the file that it names."""
        path = Path(word)
        if self.user is None or not path.is_absolute() or not path.is_file() or reachable(path):
            return word
        return str(self._copy(path.resolve()))

    def _copy(self, source: Path) -> Path:
        """Copied once for each content; a copy appears whole or not at all."""
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        copy = self.programs / digest / source.name
        if not copy.exists():
            copy.parent.mkdir(mode=0o711, exist_ok=True)
            beside = copy.with_name(f"{copy.name}.{os.getpid()}")
            shutil.copyfile(source, beside)
            beside.chmod(0o755)
            beside.replace(copy)
        return copy

    def _python(self) -> str:
        """A Python that the user may enter. Raises ImageMissing when there is none."""
        if self.user is None:
            return sys.executable
        candidates = [os.path.realpath(sys.executable), shutil.which("python3", path=SEARCH_PATH)]
        found = next((one for one in candidates if one and reachable(Path(one))), None)
        if found is None:
            raise ImageMissing(
                f"{candidates[0]} is closed to the user that sessions run as, and there is no other python3."
            )
        return found

    def discard(self, directory: Path) -> None:
        """Remove a directory that a container wrote to. Gone is success; raises DaemonFailed when it cannot."""
        try:
            if self.user is None:
                open_for_removal(directory)
            shutil.rmtree(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise DaemonFailed(f"{directory} cannot be removed: {error}.") from error


def choose_base(state: Path, user: int | None, fallback: Path) -> Path:
    """Where an earlier start put it; else the state directory; else, when ``user`` cannot walk there, ``fallback``."""
    pointer = state / "local.json"
    if pointer.exists():
        base = Path(msgspec.json.decode(pointer.read_bytes(), type=Pointer).base)
    elif user is None or walkable(state):
        return state
    else:
        base = fallback / hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:16]
    for directory in (base.parent, base):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    pointer.write_bytes(msgspec.json.encode(Pointer(str(base))))
    return base


def volumes_alone(mounts: tuple[Mount, ...]) -> tuple[Volume, ...]:
    """The same, when it is volumes. All sessions are one user here: given a folder, they would share it."""
    named = tuple(mount for mount in mounts if isinstance(mount, Volume))
    if len(named) < len(mounts):
        raise HostDirRefused("Local processes are given no folders of the host: every session could enter them.")
    return named


def walkable(directory: Path) -> bool:
    """Whether everybody may enter it and all above it, by its name and where links lead."""
    ways = (directory.absolute(), directory.resolve())
    return all(one.stat().st_mode & stat.S_IXOTH for way in ways for one in (way, *way.parents))


def reachable(program: Path) -> bool:
    """Whether everybody may read the file, and run it if its owner may."""
    mode = program.stat().st_mode
    needed = stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
    return mode & needed == needed and walkable(program.parent) and walkable(program.resolve().parent)


def open_for_removal(directory: Path) -> None:
    """Give ourselves back what a program took away (module caches are read-only); links are not followed."""
    for parent, names, _ in os.walk(directory):
        for path in (Path(parent, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o700)


def forget(state: Path) -> None:
    """Remove what is kept for ``state`` outside of it; nothing may run there any more. Gone is success."""
    pointer = state / "local.json"
    if pointer.exists():
        base = Path(msgspec.json.decode(pointer.read_bytes(), type=Pointer).base)
        if base.exists():
            shutil.rmtree(base)
        pointer.unlink()
