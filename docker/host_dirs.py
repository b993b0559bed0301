"""Folders of the host that sessions have as their workspace: made, checked, and shown to be what a runtime sees.

They lie side by side in one root, HOST_DIR_ROOT, each by a name of one component. A container is given a folder by its
path, and the API has no other way; so the path is made one that only root and the gateway's own user can bend: every
component of the root is walked without following links, and none may be changed by others. What an agent does within
its folder is then of no consequence, since no folder lies in another. Blocking: call it from a thread.

Messages leave as ``session.failed`` and problem details: they never say the folder's name, which is personal.
"""

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

import msgspec

from docker import host_dir_marks
from docker.errors import HostDirRefused, HostDirRootUnfit

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NAME: Final = re.compile(NAME)
# No more than a handle: a folder of another user can be looked at, but not be listed.
_HANDLE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BY_OTHERS: Final = 0o022  # group and everybody may write
_OWNERS_ALONE: Final = 0o700
_ENTERED: Final = 0o007  # everybody may: what an agent leaves, a setuid program above all, would be within reach
_PROBE, _NEW = ".probe-", ".new-"  # no name of a session's folder begins with a dot
_PASSING_SECONDS: Final = 3600.0  # such a folder is there for less than a second


class Folder(msgspec.Struct, frozen=True):
    """A folder that was checked, and which one it was."""

    path: str
    device: int
    inode: int


def is_name(text: str) -> bool:
    """One path component that no shell, log or file system reads as more."""
    return _NAME.fullmatch(text) is not None


def root_problem(root: str) -> str | None:
    """Why ``root`` cannot be what HOST_DIR_ROOT names, as far as its text tells; None when it can."""
    path = PurePosixPath(root)
    if path.is_absolute() and str(path) == root and ".." not in path.parts and len(path.parts) > 1:
        return None
    return f"HOST_DIR_ROOT={root} is not a plain absolute path, such as /srv/workspaces."


def prepare(root: str, name: str, user: str, whose: str) -> Folder:
    """The folder ``name`` of ``root`` as the workspace of ``user`` (UID:GID); made when absent. Raises HostDirRefused.

    ``whose`` is its mark from then on (``host_dir_marks``), or the mark that it must have. A folder of another owner is
    refused. The mode of its own owner's is put right: an agent may have changed it.
    """
    uid, gid = _ids(name, user)
    with _mapped(), _opened(root) as parent:
        try:
            found = _look(parent, name)
        except FileNotFoundError:
            host_dir_marks.compare(parent, name, whose)
            _make(parent, name, uid, gid)
            found = _look(parent, name)
        _check(parent, name, found, uid)
        host_dir_marks.claim(parent, name, whose)
        _close_to_others(parent, name, found)
    return Folder(f"{root}/{name}", found.st_dev, found.st_ino)


def check(root: str, name: str, user: str, whose: str) -> None:
    """Raises HostDirRefused when ``prepare`` would, as far as that can be told without making anything."""
    uid, _ = _ids(name, user)
    with _mapped(), _opened(root) as parent:
        try:
            found = _look(parent, name)
        except FileNotFoundError:
            _may_make(uid)
        else:
            _check(parent, name, found, uid)
        host_dir_marks.compare(parent, name, whose)


def verify(folder: Folder) -> None:
    """Raises HostDirRefused when another folder lies at its path by now."""
    with _mapped():
        now = os.lstat(folder.path)
        if (now.st_dev, now.st_ino) != (folder.device, folder.inode):
            raise HostDirRefused("The folder was replaced by another one while the session began.")


@contextlib.contextmanager
def probe(root: str) -> Iterator[str]:
    """A folder that nobody else can have: whoever sees it at this path sees our file system. Raises HostDirRefused."""
    name = f"{_PROBE}{secrets.token_hex(16)}"
    with _mapped(), _opened(root) as parent:
        _sweep(parent)
        os.mkdir(name, _OWNERS_ALONE, dir_fd=parent)
        try:
            yield f"{root}/{name}"
        finally:
            os.rmdir(name, dir_fd=parent)


def _sweep(parent: int) -> None:
    """Remove what killed gateways left here, empty ones only; what is young may be in use by another gateway."""
    with contextlib.suppress(OSError):  # a root that we may not list
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            passing = [name for name in os.listdir(listing) if name.startswith((_PROBE, _NEW))]
        finally:
            os.close(listing)
        for name in passing:
            _remove_old(parent, name)


def _remove_old(parent: int, name: str) -> None:
    with contextlib.suppress(OSError):  # another gateway was faster, or it is not empty
        if time.time() - os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime > _PASSING_SECONDS:
            os.rmdir(name, dir_fd=parent)


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostDirRefused(
            f"Folders of HOST_DIR_ROOT cannot be used: {(error.strerror or 'failed').lower()}."
        ) from error


@contextlib.contextmanager
def _opened(root: str) -> Iterator[int]:
    """A handle of the root, reached through directories that only root and we can change."""
    if problem := root_problem(root):
        raise HostDirRootUnfit(problem)
    parts = PurePosixPath(root).parts
    with contextlib.ExitStack() as stack:
        handle: int | None = None
        for depth, part in enumerate(parts, 1):
            try:
                handle = os.open(part, _HANDLE, dir_fd=handle)
            except FileNotFoundError:
                raise HostDirRootUnfit(
                    f"HOST_DIR_ROOT={root} does not exist: make it, for the gateway alone."
                ) from None
            except NotADirectoryError:
                raise HostDirRootUnfit(
                    f"HOST_DIR_ROOT={root} leads over a symbolic link, or to no directory: give its real path."
                ) from None
            stack.callback(os.close, handle)
            _trusted(os.fstat(handle), PurePosixPath(*parts[:depth]), last=depth == len(parts))
        assert handle is not None  # an absolute path has a part
        yield handle


def _trusted(found: os.stat_result, path: PurePosixPath, *, last: bool) -> None:
    """In a sticky directory (/tmp) others cannot move what is not theirs; the root itself must be ours alone."""
    sticky = bool(found.st_mode & stat.S_ISVTX) and not last
    if found.st_uid not in (0, os.geteuid()):
        raise HostDirRootUnfit(
            f"{path}, of HOST_DIR_ROOT, belongs to uid {found.st_uid}, who could replace what is in it."
        )
    if found.st_mode & _BY_OTHERS and not sticky:
        # A machine's own folders (/tmp, one above the root) are open to others because something needs them so.
        shared = bool(found.st_mode & stat.S_ISVTX) or not last
        todo = (
            "take a folder elsewhere that is yours alone, such as /srv/workspaces" if shared else f"chmod go-w {path}"
        )
        raise HostDirRootUnfit(f"{path}, of HOST_DIR_ROOT, can be changed by others: {todo}.")
    if last and found.st_mode & _ENTERED:
        raise HostDirRootUnfit(
            f"HOST_DIR_ROOT={path} can be entered by everybody, who could run what agents leave: chmod o-rwx {path}."
        )


def _look(parent: int, name: str) -> os.stat_result:
    """Raises FileNotFoundError; HostDirRefused when something else lies there."""
    with _held(parent, name) as handle:
        if _mount(handle) != _mount(parent):
            raise HostDirRefused("A file system is mounted at the folder, which not everybody sees: unmount it.")
        return os.fstat(handle)


def _mount(handle: int) -> str:
    """Which mount a handle lies in: a device number is the same for a folder that is mounted from elsewhere in one."""
    with open(f"/proc/self/fdinfo/{handle}") as info:
        return next(line for line in info if line.startswith("mnt_id:"))


@contextlib.contextmanager
def _held(parent: int, name: str) -> Iterator[int]:
    try:
        handle = os.open(name, _HANDLE, dir_fd=parent)
    except NotADirectoryError:
        raise HostDirRefused("What has that name in HOST_DIR_ROOT is a symbolic link, or no directory.") from None
    try:
        yield handle
    finally:
        os.close(handle)


def _ids(name: str, user: str) -> tuple[int, int]:
    if not is_name(name):
        raise HostDirRefused("A folder's name is 1 to 64 letters, digits, dots, - and _, the first a letter or digit.")
    uid, gid = user.split(":")
    return int(uid), int(gid)


def _check(parent: int, name: str, found: os.stat_result, uid: int) -> None:
    if found.st_uid != uid:
        raise HostDirRefused(
            f"The folder belongs to uid {found.st_uid}, and sessions run as {uid} (CONTAINER_USER): chown it, or take "
            "another name."
        )
    if not _is_closed(found) and os.geteuid() not in (0, uid):
        raise HostDirRefused("The folder must be its owner's alone: chmod 700 it, or take another name.")
    _check_case(parent, name, found)


def _is_closed(found: os.stat_result) -> bool:
    return stat.S_IMODE(found.st_mode) & 0o777 == _OWNERS_ALONE


def _close_to_others(parent: int, name: str, found: os.stat_result) -> None:
    """On the folder that was checked, through /proc, since a mere handle has no chmod."""
    if _is_closed(found):
        return
    with _held(parent, name) as handle:
        now = os.fstat(handle)
        if (now.st_dev, now.st_ino, now.st_uid) != (found.st_dev, found.st_ino, found.st_uid):
            raise HostDirRefused("The folder was replaced by another one while the session began.")
        os.chmod(f"/proc/self/fd/{handle}", _OWNERS_ALONE)


def _check_case(parent: int, name: str, found: os.stat_result) -> None:
    """Where Work and work are one folder, two names would be two sessions on it."""
    other = name.swapcase()
    try:
        twin = _look(parent, other)
    except (FileNotFoundError, HostDirRefused):
        return
    if other != name and (twin.st_dev, twin.st_ino) == (found.st_dev, found.st_ino):
        raise HostDirRefused("HOST_DIR_ROOT lies on a file system that does not tell upper from lower case.")


def _may_make(uid: int) -> None:
    ours = os.geteuid()
    if ours not in (0, uid):
        raise HostDirRefused(
            f"The gateway runs as uid {ours} and can make no folder for sessions, which run as {uid} (CONTAINER_USER): "
            "make it beforehand (chown, chmod 700), or run the gateway as root or as that user."
        )


def _make(parent: int, name: str, uid: int, gid: int) -> None:
    """It has its name when it is complete: killed in between, we leave nothing that is refused later."""
    _may_make(uid)
    fresh = f"{_NEW}{secrets.token_hex(8)}"
    os.mkdir(fresh, _OWNERS_ALONE, dir_fd=parent)
    try:
        if os.geteuid() == 0:
            os.chown(fresh, uid, gid, dir_fd=parent, follow_symlinks=False)
        os.rename(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        os.rmdir(fresh, dir_fd=parent)
        raise
