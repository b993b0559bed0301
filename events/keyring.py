"""Keyring: the keys of the subjects, outside the log; and the one that lives in memory.

``keyring_postgres`` keeps the same promises in a table. A key is durable before anything is sealed with it.
"""

from collections.abc import Iterable
from typing import Protocol

from events.sealing import SubjectKey


class Keyring(Protocol):
    """Keys by subject (a person's name, as the frontend gave it) and by key id (as events carry it)."""

    async def key_for(self, subject: str) -> SubjectKey:
        """The subject's key; made, and durable, when there is none. Raises StoreUnavailable."""
        ...

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        """The keys that still exist among ``ids``."""
        ...

    async def erase(self, subject: str) -> tuple[str, ...]:
        """Destroy the subject's keys; the ids of what was destroyed, empty when there was nothing."""
        ...

    def forget(self, ids: Iterable[str]) -> None:
        """Drop cached copies: another process destroyed these keys."""
        ...


class MemoryKeyring:
    """Keys that end with the process."""

    def __init__(self) -> None:
        self._by_subject: dict[str, SubjectKey] = {}

    async def key_for(self, subject: str) -> SubjectKey:
        return self._by_subject.setdefault(subject, SubjectKey.new())

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        wanted = set(ids)
        return {key.id: key for key in self._by_subject.values() if key.id in wanted}

    async def erase(self, subject: str) -> tuple[str, ...]:
        key = self._by_subject.pop(subject, None)
        return () if key is None else (key.id,)

    def forget(self, ids: Iterable[str]) -> None:
        gone = set(ids)
        self._by_subject = {name: key for name, key in self._by_subject.items() if key.id not in gone}
