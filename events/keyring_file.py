"""Keyring in a file, for the log without a database: wrapped under the sealing secret, replaced whole at each change.

The file belongs to who holds the lock of the log beside it. An erased key is in no file afterwards; what the disk keeps
of a file that was replaced (and what a copy of it keeps) only opens with the sealing secret.
"""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from events.disk import sync_directory
from events.errors import JournalDamaged, StoreUnavailable
from events.sealing import SubjectKey, subject_tag, unwrap, wrap

FILE: Final = "subject-keys.json"


class _Row(msgspec.Struct, frozen=True):
    """A key as it lies in the file. The subject is a keyed hash: the file names nobody."""

    key_id: str
    subject: bytes
    wrapped: bytes


class _Content(msgspec.Struct, frozen=True):
    format: int
    keys: list[_Row]


_CONTENT: Final = msgspec.json.Decoder(_Content)
_FORMAT: Final = 1


class FileKeyring:
    """A Keyring. Made by ``open``."""

    def __init__(self, path: Path, sealing_secret: bytes, rows: Iterable[_Row]) -> None:
        """Raises UnreadableEvent when a key was wrapped under another secret."""
        self._path = path
        self._secret = sealing_secret
        self._rows = {row.subject: row for row in rows}
        self._keys = {row.key_id: unwrap(sealing_secret, row.key_id, row.wrapped) for row in self._rows.values()}
        self._forgotten: set[str] = set()  # while a change is written
        self._changing = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, sealing_secret: bytes) -> "FileKeyring":
        """The keys in ``path``; none when it is not there. Raises UnreadableEvent (another secret), JournalDamaged."""
        return cls(path, sealing_secret, await asyncio.to_thread(_load, path))

    async def key_for(self, subject: str) -> SubjectKey:
        return await asyncio.shield(self._key_for(subject_tag(self._secret, subject)))

    async def key_of(self, subject: str) -> SubjectKey | None:
        row = self._rows.get(subject_tag(self._secret, subject))
        return None if row is None else self._keys.get(row.key_id)

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        return {key_id: self._keys[key_id] for key_id in set(ids) if key_id in self._keys}

    def known(self, ids: Iterable[str]) -> dict[str, SubjectKey | None]:
        return {key_id: self._keys.get(key_id) for key_id in ids}

    async def erase(self, subject: str) -> tuple[str, ...]:
        return await asyncio.shield(self._erase(subject_tag(self._secret, subject)))

    def forget(self, ids: Iterable[str]) -> None:
        """No other process destroys keys here: these came with a copy that was put back. The next change drops them."""
        gone = set(ids)
        self._forgotten |= gone
        self._rows = {subject: row for subject, row in self._rows.items() if row.key_id not in gone}
        for key_id in gone:
            self._keys.pop(key_id, None)

    async def _key_for(self, tag: bytes) -> SubjectKey:
        async with self._changing:
            if tag not in self._rows:
                fresh = SubjectKey.new()
                await self._keep({**self._rows, tag: _Row(fresh.id, tag, wrap(self._secret, fresh))})
                self._keys[fresh.id] = fresh
            return self._keys[self._rows[tag].key_id]

    async def _erase(self, tag: bytes) -> tuple[str, ...]:
        async with self._changing:
            row = self._rows.get(tag)
            if row is None:
                return ()
            await self._keep({other: kept for other, kept in self._rows.items() if other != tag})
            self._keys.pop(row.key_id, None)
            return (row.key_id,)

    async def _keep(self, rows: dict[bytes, _Row]) -> None:
        """Make it so on the disk, then here. Shielded by the callers: one that leaves must not part the two.

        Without what is forgotten meanwhile: an erased key must come back neither here nor in the file.
        """
        self._forgotten = set()
        while True:
            content = msgspec.json.encode(_Content(_FORMAT, list(rows.values())))
            try:
                await asyncio.to_thread(_replace, self._path, content)
            except OSError as error:
                raise StoreUnavailable(f"{self._path} cannot be written: {error.strerror}") from error
            left = {subject: row for subject, row in rows.items() if row.key_id not in self._forgotten}
            if len(left) == len(rows):
                break
            rows = left
        self._rows = rows


def _load(path: Path) -> list[_Row]:
    _fresh(path).unlink(missing_ok=True)
    try:
        content = _CONTENT.decode(path.read_bytes())
    except FileNotFoundError:
        return []
    except msgspec.DecodeError as error:
        raise JournalDamaged(f"{path} holds no subject keys that can be read: restore it from a copy") from error
    if content.format != _FORMAT:
        raise JournalDamaged(f"{path} was written by a later release")
    return content.keys


def _replace(path: Path, content: bytes) -> None:
    """The whole old file or the whole new one, whatever happens. One name, so that no key survives in a leftover."""
    fresh = _fresh(path)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def _fresh(path: Path) -> Path:
    return path.with_name(path.name + ".new")
