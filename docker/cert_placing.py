"""Puts several files into a folder at one moment: a reader finds all of the former ones or all of the new.

Each name first becomes a link into ``.change/current``, which leads to the former files; one rename lets ``current``
lead to the new ones; then each name is a plain file again. Whatever ends the run in between, every name can be read,
and all of them belong together; the next run tidies up (``settle``). A reader that opens one file before that rename
and another after it has two that do not match, and finds matching ones when it reads both again.

The folder itself stays the same one: a container that mounts it sees the new files. Standard library only: the
daemon's machine may have nothing else (``daemon_setup``).
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from docker.errors import BadCertificateFiles

CHANGE: Final = ".change"
_CURRENT: Final = "current"


def mode_of(name: str) -> int:
    """What a file of that name may be read by: a key by its owner alone."""
    return 0o400 if name.endswith("key.pem") else 0o444


class NewInPlace(BadCertificateFiles):
    """The new files are those that are read; whether they would survive a loss of power is not known."""


@contextmanager
def alone(folder: Path, *, make: bool = False) -> Iterator[None]:
    """Nobody else changes ``folder`` meanwhile; what a killed run left there is settled. Raises BadCertificateFiles."""
    try:
        if make:
            _make(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileExistsError, NotADirectoryError) as error:
        raise BadCertificateFiles(f"{folder} is not a folder: nothing was written.") from error
    except OSError as error:
        todo = ""
        if isinstance(error, FileNotFoundError) and not make:
            todo = " Make certificates (docker/scripts/generate-certs.sh), or name their folder in DOCKER_CERT_PATH."
        raise BadCertificateFiles(f"{folder} cannot be used ({error.strerror}): nothing was written.{todo}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        settle(folder)
        yield
    except BlockingIOError as error:
        raise BadCertificateFiles(f"Another run is changing the certificates in {folder}: nothing was written.") from (
            error
        )
    except OSError as error:
        raise BadCertificateFiles(
            f"The files in {folder} cannot be replaced ({error.strerror}): those before stay in use."
        ) from error
    finally:
        os.close(descriptor)


def place(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write ``contents`` by name, at one moment: keys 0400, else 0444; the owner of a file that is replaced is kept.

    Only within ``alone``. Raises BadCertificateFiles or OSError, and the former files are there; or NewInPlace.
    """
    turned = False
    try:
        try:
            _prepare(folder, contents)
            for name in contents:
                _lead(folder, name)
            _turn(folder)
            turned = True
            synchronise(folder / CHANGE)
        finally:
            settle(folder)
    except OSError as error:
        if turned:
            raise NewInPlace(
                f"The new files in {folder} are in place and in use, but the change could not be ended "
                f"({error.strerror}): what is left of it is tidied up by the next command that changes them."
            ) from error
        raise
    return [folder / name for name in contents]


def settle(folder: Path) -> None:
    """Make plain files of what a change left as links, and remove the rest of it; without one nothing happens."""
    change = folder / CHANGE
    if not os.path.lexists(change):
        return
    if change.is_symlink() or not change.is_dir():
        raise BadCertificateFiles(f"{change} is not of this program: remove it.")
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and os.readlink(path) == _target(path.name):
            _settle(path, change)
    synchronise(folder)
    shutil.rmtree(change)


def _settle(path: Path, change: Path) -> None:
    plain = change / "plain"
    plain.unlink(missing_ok=True)
    try:
        os.link(change / _CURRENT / path.name, plain)
    except FileNotFoundError:  # there was none before
        path.unlink()
    else:
        os.replace(plain, path)


def _make(folder: Path) -> None:
    """Only its owner may put files there, whatever the umask is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(folder, 0o755)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    os.chmod(folder, 0o755)


def _prepare(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Both sets of files, side by side."""
    change = folder / CHANGE
    for path in (change, change / "former", change / "new"):
        os.mkdir(path, 0o711)
        os.chmod(path, 0o711)  # whoever may read a certificate may do so meanwhile
    for name, content in contents.items():
        present = _present(folder / name)
        if present is not None:
            os.link(folder / name, change / "former" / name, follow_symlinks=False)
        _write(change / "new" / name, content, present)
    os.symlink("former", change / _CURRENT)
    synchronise(change / "new")


def _present(path: Path) -> os.stat_result | None:
    """What is there, None for nothing. Raises BadCertificateFiles for what is not ours to replace."""
    if path.is_symlink():
        raise BadCertificateFiles(f"{path} is a link, and what it leads to is not replaced: remove the link first.")
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not path.is_file():
        raise BadCertificateFiles(f"{path} is not a file: move it away first.")
    if os.geteuid() not in (0, found.st_uid):
        raise BadCertificateFiles(f"{path} belongs to user {found.st_uid}: run as that user, or as root.")
    return found


def _write(path: Path, content: bytes, former: os.stat_result | None) -> None:
    mode = mode_of(path.name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode & 0o400)
    with open(descriptor, "wb") as file:
        if former is not None and (former.st_uid, former.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, former.st_uid, former.st_gid)
        os.fchmod(descriptor, mode)  # whatever the umask is
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _lead(folder: Path, name: str) -> None:
    link = folder / CHANGE / "link"
    os.symlink(_target(name), link)
    os.replace(link, folder / name)


def _turn(folder: Path) -> None:
    """The moment."""
    change = folder / CHANGE
    os.symlink("new", change / "next")
    synchronise(folder)
    os.replace(change / "next", change / _CURRENT)


def _target(name: str) -> str:
    return f"{CHANGE}/{_CURRENT}/{name}"


def synchronise(folder: Path) -> None:
    """What was renamed in it survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
