"""``clean``: removes what gateways made in their data directory. Refuses while one runs on it.

The secrets and the operator's key go with the log of this directory that they belong to: the embedded one, or the one
in a file. Without such a log they stay: a database elsewhere may need them, and without the sealing secret its sealed
fields could never be read again.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec
import typer

from docker import local_places
from docker.errors import DockerError
from docker.local import LocalService, process_of
from docker.local_record import Registry
from events import embedded, embedded_place, jsonfile
from events.embedded import EmbeddedPostgresFailed
from events.errors import JournalLocked
from events.file_lock import FileLock
from gateway.cli import printing
from gateway.cli.client import KEY_FILE, run
from gateway.cli.direct import sentence, settings
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import DryRun, Json, Yes, family
from gateway.forks import MARK_FILE
from gateway.storage import LOG, SECRETS, SPOOL

app = family("Remove the log, the local sessions and the caches.")
LOCAL: Final = "local"
CACHE: Final = "cache"


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What was, or would be, removed, and what lies there still."""

    data_dir: str
    removed: list[str]
    left: list[str]
    dry_run: bool


@app.command()
def clean(yes: Yes = False, dry_run: DryRun = False, json: Json = False) -> None:
    """Remove the log of this directory, the local sessions with their files, and the caches of the data directory.

    Containers and volumes of a Docker daemon, and a database of your own, are not touched.
    """
    data_dir = settings().data_dir
    if not yes and not dry_run and data_dir.exists():
        _ask(data_dir)
    done = _clean(data_dir, dry_run)
    if json:
        printing.document(done)
        return
    for name in done.removed:
        printing.line(f"{'Would remove' if dry_run else 'Removed'} {name}.")
    if not done.removed:
        printing.line(f"There is nothing to remove in {data_dir}.")
    if done.left:
        printing.line(f"Left in {data_dir}: {', '.join(done.left)}.")


def _clean(data_dir: Path, dry_run: bool) -> Cleaned:
    _refuse_in_use(data_dir)
    try:
        place, in_a_file = embedded_place.find(data_dir.resolve()), (data_dir / LOG).exists()
        paths = {LOCAL: "the local sessions", CACHE: "the caches"}
        if in_a_file:
            paths[LOG] = "the log in a file"
        if place is not None:
            paths[SPOOL] = "what waited for the log"
        if place is not None or in_a_file:  # last: killed before, a second run finds the log gone and keeps them
            paths |= {MARK_FILE: "how far the log was seen", KEY_FILE: "the operator's key", SECRETS: "the secrets"}
        found = [(data_dir / name, what) for name, what in paths.items() if (data_dir / name).exists()]
        removed = [f"{what} ({path})" for path, what in found]
        if place is not None:
            removed.insert(0, f"the log ({place.root})")
        if not dry_run:
            run(embedded.remove(data_dir))  # refuses while it is in use, and then nothing else has gone
            for path, _ in found:
                _remove(path)
        return Cleaned(data_dir=str(data_dir), removed=removed, left=_left(data_dir, dry_run), dry_run=dry_run)
    except (EmbeddedPostgresFailed, DockerError) as error:
        raise Failure(Exit.NEGATIVE, str(error)) from error
    except OSError as error:
        raise Failure(Exit.NEGATIVE, f"Not everything in {data_dir} can be removed: {error}.") from error


def _left(data_dir: Path, dry_run: bool) -> list[str]:
    """What is none of ours, or kept; without any, the directory goes too."""
    if dry_run or not data_dir.is_dir():
        return []
    left = sorted(path.name for path in data_dir.iterdir())
    if not left:
        data_dir.rmdir()
    return left


def _refuse_in_use(data_dir: Path) -> None:
    """A gateway of any log that has local sessions here, or the log in a file; the embedded one tells of its users."""
    registry = data_dir / LOCAL / "registry"
    owners = [process_of(record.owner) for record in Registry(registry).all()] if registry.is_dir() else []
    for process in owners:
        if process is not None:
            raise Failure(Exit.NEGATIVE, f"A gateway (process {process.pid}) runs on {data_dir}: stop it first.")
    if (file := data_dir / LOG / jsonfile.FILE).exists():
        try:
            FileLock.take(file).release()
        except JournalLocked as error:
            raise Failure(Exit.NEGATIVE, sentence(error)) from error


def _remove(path: Path) -> None:
    if path.name == LOCAL:
        run(_end_leftovers(path))
        local_places.forget(path)
    if path.is_dir():
        if os.geteuid() != 0:
            local_places.open_for_removal(path)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


async def _end_leftovers(state: Path) -> None:
    """Opening the local runtime ends what a gateway that was killed has left running."""
    async with LocalService(state, {}):
        pass


def _ask(data_dir: Path) -> None:
    if not sys.stdin.isatty():
        raise Failure(Exit.USAGE, "Nobody can be asked here: give --yes, or look first with --dry-run.")
    typer.confirm(f"Remove the log and the sessions in {data_dir}?", abort=True, err=True)
