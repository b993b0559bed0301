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

    async def key_of(self, subject: str) -> SubjectKey | None:
        """The subject's key; None when there is none, or none any more, and none is made. Raises StoreUnavailable."""
        ...

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        """The keys that still exist among ``ids``. Raises StoreUnavailable."""
        ...

    def known(self, ids: Iterable[str]) -> dict[str, SubjectKey | None]:
        """What can be told of ``ids`` without asking where the keys lie: the key, or None when it was destroyed.

        An id that is missing in the answer may have a key or none.
        """
        ...

    async def erase(self, subject: str) -> tuple[str, ...]:
        """Destroy the subject's keys; the ids of what was destroyed, empty when there was nothing."""
        ...

    def forget(self, ids: Iterable[str]) -> None:
        """These keys were destroyed, by whomever: drop cached copies, and never ask for them again."""
        ...


class MemoryKeyring:
    """Keys that end with the process."""

    def __init__(self) -> None:
        self._by_subject: dict[str, SubjectKey] = {}

    async def key_for(self, subject: str) -> SubjectKey:
        return self._by_subject.setdefault(subject, SubjectKey.new())

    async def key_of(self, subject: str) -> SubjectKey | None:
        return self._by_subject.get(subject)

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        wanted = set(ids)
        return {key.id: key for key in self._by_subject.values() if key.id in wanted}

    def known(self, ids: Iterable[str]) -> dict[str, SubjectKey | None]:
        by_id = {key.id: key for key in self._by_subject.values()}
        return {key_id: by_id.get(key_id) for key_id in ids}

    async def erase(self, subject: str) -> tuple[str, ...]:
        key = self._by_subject.pop(subject, None)
        return () if key is None else (key.id,)

    def forget(self, ids: Iterable[str]) -> None:
        gone = set(ids)
        self._by_subject = {name: key for name, key in self._by_subject.items() if key.id not in gone}
