"""What a release's ``sql/`` holds, what a database was made with, and what is yet to be run. No I/O but the files.

``0xx``, ``1xx`` and everything from ``1000`` on is run once and never edited after a release; ``2xx`` to ``9xx``
(functions, triggers, views, rights) is run again when its text changed. Which of two releases is the later one is told
by their numbers (``sql/release.toml``), never by the files: those may be added, edited, renamed and removed.
"""

import enum
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

SQL_DIR: Final = Path(__file__).resolve().parent.parent / "sql"
MANIFEST: Final = "release.toml"
FIRST: Final = "0.1.0"  # kept no release beside its files
_NAME: Final = re.compile(r"(\d{3,4})_[a-z0-9_]+\.sql\Z")
_NUMBER: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})\Z", re.ASCII)
Number = Annotated[str, Meta(pattern=r"^\d{1,9}\.\d{1,9}\.\d{1,9}$")]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``sql/release.toml``."""

    release: Number
    oldest: Number  # the oldest release that may serve on a database with these files


class SqlFile(msgspec.Struct, frozen=True):
    """One file of ``sql/``."""

    name: str
    text: str
    sha256: str
    once: bool


class Release(msgspec.Struct, frozen=True):
    """A directory ``sql/``: its manifest, and its files in the order they are run."""

    manifest: Manifest
    sha256: str  # of the manifest's text
    files: tuple[SqlFile, ...]


class Kept(msgspec.Struct, frozen=True):
    """What a database keeps of a file that was run there. ``oldest`` is kept of the manifest alone."""

    sha256: str
    release: str = FIRST
    oldest: str | None = None


class State(enum.StrEnum):
    """How a file of ours, or of the database's history, stands to the other side."""

    APPLIED = "applied"
    PENDING = "pending"
    EDITED = "edited"  # run once, and another text than was run
    NEWER = "newer"  # of a later release, which has run it, or another text of it, or has done without it
    REMOVED = "removed"  # run by a former release, and no part of this one


class FileState(msgspec.Struct, frozen=True):
    """One file. ``release``: the one that ran it here last."""

    file: str
    release: str | None
    state: State


class Plan(msgspec.Struct, frozen=True):
    """What a release would do to a database."""

    release: str
    database: str | None  # the release that the database was brought up to; None: it holds no log
    oldest: str | None  # the oldest release that may serve on it
    files: tuple[FileState, ...]
    run: tuple[SqlFile, ...] = ()
    renamed: tuple[SqlFile, ...] = ()  # run once under another name: only written down
    record: bool = False  # the manifest is to be written down

    @property
    def newer(self) -> bool:
        """The database is of a later release: nothing of ours is run."""
        return is_later(self.database, self.release)

    @property
    def too_new(self) -> bool:
        """And that release does not let this one serve."""
        return self.newer and is_later(self.oldest, self.release)


def is_later(one: str | None, other: str) -> bool:
    """Whether release ``one`` comes after ``other``; a number that this release cannot read is of a later one."""
    if one is None:
        return False
    found, known = _NUMBER.match(one), _NUMBER.match(other)
    assert known is not None, "the number of a release of ours"
    return found is None or tuple(map(int, found.groups())) > tuple(map(int, known.groups()))


def read(directory: Path = SQL_DIR) -> Release:
    """The release that a directory holds."""
    text = (directory / MANIFEST).read_bytes()
    manifest = msgspec.toml.decode(text, type=Manifest)
    return Release(manifest, hashlib.sha256(text).hexdigest(), tuple(sql_files(directory)))


def sql_files(directory: Path = SQL_DIR) -> list[SqlFile]:
    """The files in the order they are run."""
    found = []
    for path in directory.glob("*.sql"):
        if match := _NAME.match(path.name):
            text = path.read_text(encoding="utf-8")
            number = int(match[1])
            once = number < 200 or number >= 1000
            found.append((number, SqlFile(path.name, text, hashlib.sha256(text.encode()).hexdigest(), once)))
    # Changes (1000+) come before functions, which may use what they add.
    return [file for _, file in sorted(found, key=lambda item: (not item[1].once, item[0], item[1].name))]


def plan(ours: Release, known: Mapping[str, Kept]) -> Plan:
    """What is to be run where ``known`` was run before."""
    release, manifest = ours.manifest.release, known.get(MANIFEST)
    database = manifest.release if manifest else FIRST if known else None
    oldest = (manifest and manifest.oldest) or database
    recorded = manifest is not None and (manifest.sha256, manifest.release) == (ours.sha256, release)
    if is_later(database, release):
        newer = Plan(release, database, oldest, ())
        return msgspec.structs.replace(newer, files=_beside_a_later_one(ours, known))
    renamed = _renamed(ours.files, known)
    states = [FileState(file.name, _release_of(file.name, known), _state(file, known, renamed)) for file in ours.files]
    pending = {one.file for one in states if one.state is State.PENDING}
    if pending:  # a new function needs the rights too, though the rights' own text is the same
        pending |= {file.name for file in ours.files if file.name.startswith("9")}
    states.append(
        FileState(MANIFEST, _release_of(MANIFEST, known), State.APPLIED if recorded else State.PENDING),
    )
    return Plan(
        release,
        database,
        oldest,
        (*states, *_gone(ours, known, State.REMOVED)),
        run=tuple(file for file in ours.files if file.name in pending),
        renamed=renamed,
        record=not recorded,
    )


def _state(file: SqlFile, known: Mapping[str, Kept], renamed: Sequence[SqlFile]) -> State:
    kept = known.get(file.name)
    if file in renamed or (kept is not None and kept.sha256 == file.sha256):
        return State.APPLIED
    return State.EDITED if file.once and kept is not None else State.PENDING


def _renamed(files: Sequence[SqlFile], known: Mapping[str, Kept]) -> tuple[SqlFile, ...]:
    """Files of ours that a former release ran once under a name that is gone now; run again, they would fail."""
    names = {file.name for file in files}
    gone = {kept.sha256 for name, kept in known.items() if name not in names}
    return tuple(file for file in files if file.once and file.name not in known and file.sha256 in gone)


def _beside_a_later_one(ours: Release, known: Mapping[str, Kept]) -> tuple[FileState, ...]:
    states = []
    for name, sha256 in ((MANIFEST, ours.sha256), *((file.name, file.sha256) for file in ours.files)):
        kept = known.get(name)
        same = kept is not None and kept.sha256 == sha256
        states.append(FileState(name, _release_of(name, known), State.APPLIED if same else State.NEWER))
    return (*states[1:], states[0], *_gone(ours, known, State.NEWER))


def _gone(ours: Release, known: Mapping[str, Kept], state: State) -> list[FileState]:
    """Of the history what is no file of ours."""
    names = {MANIFEST, *(file.name for file in ours.files)}
    return [FileState(name, known[name].release, state) for name in sorted(known.keys() - names)]


def _release_of(name: str, known: Mapping[str, Kept]) -> str | None:
    kept = known.get(name)
    return kept.release if kept else None
