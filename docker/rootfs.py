"""The files of an image, gathered from this machine and written as one layer. Knows no daemon.

The same files give the same bytes: entries are sorted, owned by numbers, and dated by their source or not at all. A
layer's digest is therefore the hash of its content, and an image that is on a daemon already is recognised.
"""

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from docker.errors import ImageUnbuildable

USER = 1000
# glibc loads these while a program runs, so ldd does not tell of them: name service, and a terminal's openpty.
_LOADED_LATER = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2", "libutil.so.1"]
_LOADED_LATER += ["libpthread.so.0", "libdl.so.2", "libm.so.6"]
_LDD_LINE = re.compile(r"^[ \t]+(?:(?P<name>\S+) => )?(?P<path>/\S+|not found)", re.MULTILINE)


class RootFilesystem:
    """What will be ``/``; paths are absolute, a later entry of the same path replaces the earlier."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, Path | bytes | None]] = {}

    def folder(self, path: str, *, mode: int = 0o755, owner: int = 0) -> None:
        """A directory; those above it are made as well."""
        self._add(path, tarfile.DIRTYPE, mode=mode, owner=owner)

    def file(self, path: str, content: Path | bytes, *, mode: int = 0o644, dated: bool = False) -> None:
        """A regular file; ``dated`` keeps its source's time, by which Python knows a compiled module for fresh."""
        entry = self._add(path, tarfile.REGTYPE, mode=mode, content=content)
        if isinstance(content, Path):
            status = content.stat()
            entry.size, entry.mtime = status.st_size, int(status.st_mtime) if dated else 0
        else:
            entry.size = len(content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._add(path, tarfile.SYMTYPE, mode=0o777).linkname = target

    def program(self, path: str, source: Path) -> None:
        """An executable and every library that it needs. Raises ImageUnbuildable when one is missing."""
        self.libraries(source)
        self.file(path, source, mode=0o755)

    def libraries(self, source: Path) -> None:
        """The libraries of ``source``, in places where the loader looks without being told."""
        self.libraries_of([source])

    def libraries_of(self, sources: Sequence[Path]) -> None:
        """The same of many. One that lies beside them goes where they go: its path is in the file that needs it."""
        beside = {str(source.resolve()) for source in sources}
        needed = [path for path in shared_libraries(*sources) if str(path.resolve()) not in beside]
        home = next((path.parent for path in needed if path.name == "libc.so.6"), None)
        for path in needed:
            # A library from an odd place (a Python built at home) is put beside the C library.
            standard = str(path).startswith(("/lib", "/usr/lib")) and not str(path).startswith("/usr/local")
            self.file(str(path if standard or home is None else home / path.name), path, mode=0o755)
        if home is not None:
            for name in _LOADED_LATER:
                if (home / name).exists():
                    self.file(str(home / name), home / name, mode=0o755)

    def tree(self, path: str, source: Path, skip: Callable[[str], bool]) -> None:
        """A folder with all that is in it but files and folders whose name ``skip`` holds for."""
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(name for name in folders if not skip(name))
            inside = Path(path) / Path(folder).relative_to(source)
            for name in files:
                if not skip(name) and (Path(folder) / name).is_file():
                    self.file(str(inside / name), Path(folder) / name, dated=True)

    def paths(self) -> set[str]:
        """What is in it so far."""
        return set(self._entries)

    def write(self, out: IO[bytes]) -> None:
        """The layer: an uncompressed tar."""
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(self._entries):
                entry, content = self._entries[path]
                if isinstance(content, Path):
                    with open(content, "rb") as source:
                        archive.addfile(entry, source)
                else:
                    archive.addfile(entry, io.BytesIO(content) if content is not None else None)

    def _add(
        self, path: str, kind: bytes, *, mode: int, owner: int = 0, content: Path | bytes | None = None
    ) -> tarfile.TarInfo:
        for above in reversed(Path(path).parents[:-1]):
            if str(above) not in self._entries:
                self._add(str(above), tarfile.DIRTYPE, mode=0o755)
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.mode, entry.uid, entry.gid = kind, mode, owner, owner
        self._entries[path] = (entry, content)
        return entry


def base() -> RootFilesystem:
    """What every image has: a shell, users, and folders that uid 1000 may write. Raises ImageUnbuildable."""
    files = RootFilesystem()
    files.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n")
    files.file("/etc/group", b"root:x:0:\napp:x:1000:\n")
    files.file("/etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    files.folder("/tmp", mode=0o1777)
    for path in ("/home/app", "/workspace"):
        files.folder(path, owner=USER)
    busybox = found_program("busybox", "install busybox-static")
    files.program("/bin/busybox", busybox)
    for applet in _output(str(busybox), "--list").split():
        if applet != "busybox":
            files.link(f"/bin/{applet}", "busybox")
    return files


def found_program(name: str, advice: str) -> Path:
    """The program of that name on the PATH, links followed. Raises ImageUnbuildable with ``advice``."""
    path = shutil.which(name)
    if path is None:
        raise ImageUnbuildable(f"{name} is not on the PATH: {advice}.")
    return Path(path).resolve()


def shared_libraries(*programs: Path) -> list[Path]:
    """What ``programs`` load at their start, the loader included; empty for static ones. Raises ImageUnbuildable."""
    found = []
    for match in _LDD_LINE.finditer(_output("ldd", *map(str, programs), may_fail=True) if programs else ""):
        if match["path"] == "not found":
            asking = programs[0] if len(programs) == 1 else "A package"
            raise ImageUnbuildable(f"{asking} needs {match['name']}, which is not on this machine.")
        found.append(Path(match["path"]))
    return list(dict.fromkeys(found))


def _output(*command: str, may_fail: bool = False) -> str:
    """ldd fails for a static program, which has nothing to tell."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageUnbuildable(f"{command[0]} cannot be run: {error}.") from error
    if done.returncode and not may_fail:
        raise ImageUnbuildable(f"{' '.join(command)} failed: {done.stderr.strip()}.")
    return done.stdout
