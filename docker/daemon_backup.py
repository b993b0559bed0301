"""Changes files of the daemon's machine so that they can be put back: a copy of each first, all in one folder.

A run that is killed leaves every file as it was or as it is to be, and a backup that puts it back. Standard library.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from docker.cert_placing import alone, place, synchronise

FOLDER: Final = "etc/docker/session-gateway-backups"
CERTS: Final = "etc/docker/certs"
_MANIFEST: Final = "manifest.json"
_UNDONE: Final = ".undone"

Files = Mapping[str, bytes | None]  # by path below the root; None: no file


class CannotUndo(Exception):
    """There is nothing to put back, or somebody changed it meanwhile. One sentence."""


def present(root: Path, path: str) -> bytes | None:
    """What is there; None for no file."""
    try:
        return (root / path).read_bytes()
    except FileNotFoundError:
        return None


def back_up(root: Path, files: Files, stamp: str) -> Path:
    """Copy what ``files`` is about to replace into a folder that did not exist, and answer it."""
    os.makedirs(root / FOLDER, mode=0o700, exist_ok=True)
    folder = _fresh(root / FOLDER, stamp)
    manifest = dict[str, Any]()
    for number, (path, content) in enumerate(files.items()):
        former = present(root, path)
        if former is not None:
            _write(folder / str(number), former, 0o400)
        manifest[path] = {"copy": str(number) if former is not None else None, "after": _hash(content)}
    _write(folder / "manifest.new", json.dumps(manifest, indent=1).encode(), 0o400)
    os.replace(folder / "manifest.new", folder / _MANIFEST)  # without it this is no backup
    return folder


def carry_out(root: Path, files: Files) -> None:
    """Put the files there, in order; the certificates among them at one moment."""
    certs = {path: content for path, content in files.items() if path.startswith(f"{CERTS}/")}
    if given := {Path(path).name: content for path, content in certs.items() if content is not None}:
        with alone(root / CERTS, make=True):
            place(root / CERTS, given)
    for path, content in files.items():
        if content is None:
            (root / path).unlink(missing_ok=True)
        elif path not in certs:
            _put(root / path, content)


def newest(root: Path) -> Path:
    """The newest backup that was not put back. Raises CannotUndo."""
    found = [path.parent for path in (root / FOLDER).glob(f"*/{_MANIFEST}") if path.parent.suffix != _UNDONE]
    if not found:
        raise CannotUndo(f"There is no backup in {root / FOLDER}: nothing was changed.")
    return max(found)  # by name: they are called after the time


def held(root: Path, folder: Path, *, force: bool = False) -> Files:
    """What ``undo`` would put back, in its order. Raises as that does."""
    manifest = json.loads((folder / _MANIFEST).read_text())
    files = dict[str, bytes | None]()
    for path, entry in reversed(manifest.items()):
        former = (folder / entry["copy"]).read_bytes() if entry["copy"] else None
        now = _hash(present(root, path))
        if now not in (entry["after"], _hash(former)) and not force:
            raise CannotUndo(f"{root / path} was changed since the set-up: put it back by hand, or say --replace.")
        files[path] = former
    return files


def undo(root: Path, folder: Path, *, force: bool = False) -> Files:
    """Put the files of a backup back, and answer which. Raises CannotUndo when one was changed since, but by ``force``.

    The file that was put there last goes first, so that a daemon can start at each moment.
    """
    files = held(root, folder, force=force)
    certs = {path: content for path, content in files.items() if path.startswith(f"{CERTS}/")}
    carry_out(root, {path: content for path, content in files.items() if path not in certs})
    carry_out(root, certs)  # no file names them any more, or those that do are back
    os.rename(folder, folder.with_name(folder.name + _UNDONE))
    return files


def _fresh(parent: Path, stamp: str) -> Path:
    """A folder of that name that nobody had; each later one sorts behind."""
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number:03}")
        if folder.with_name(folder.name + _UNDONE).exists():
            continue
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            continue
        return folder
    raise OSError(f"There are too many backups of {stamp} in {parent}.")


def _put(path: Path, content: bytes) -> None:
    """Replace at one moment; the mode of a file that is there is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    _write(beside, content, mode)
    os.replace(beside, path)
    synchronise(path.parent)


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)


def _hash(content: bytes | None) -> str:
    return "none" if content is None else hashlib.sha256(content).hexdigest()
