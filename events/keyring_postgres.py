"""Keyring in ``view.subject_key``: wrapped under the sealing secret, cached in memory until forgotten."""

import asyncio
from collections.abc import Callable, Iterable

import asyncpg

from events.errors import StoreUnavailable
from events.postgres import COMMAND_SECONDS, UNSURE
from events.sealing import SubjectKey, subject_tag, unwrap, wrap


class PostgresKeyring:
    """A Keyring. ``sealing_secret`` is at least 32 random bytes, the same on every gateway of one log.

    Raises UnreadableEvent when the keys in the table were wrapped under another one. While ``away`` a key that is not
    cached is unavailable at once, and not after a time-out.
    """

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", sealing_secret: bytes, *, away: Callable[[], bool] = lambda: False
    ) -> None:
        self._pool = pool
        self._secret = sealing_secret
        self._away = away
        self._by_id: dict[str, SubjectKey] = {}
        self._by_tag: dict[bytes, SubjectKey] = {}
        self._keyless: set[bytes] = set()  # tags of subjects that had no key when they were asked about
        self._secret_fits = False
        self._destroyed: set[str] = set()  # an answer under way when they were destroyed may still hold them

    async def key_for(self, subject: str) -> SubjectKey:
        tag = subject_tag(self._secret, subject)
        if cached := self._by_tag.get(tag):
            return cached
        await self.prove()
        fresh = SubjectKey.new()
        await self._fetch(
            "insert into view.subject_key (key_id, subject, wrapped) values ($1,$2,$3)"
            " on conflict (subject) do nothing",
            fresh.id,
            tag,
            wrap(self._secret, fresh),
        )
        rows = await self._fetch("select key_id, subject, wrapped from view.subject_key where subject = $1", tag)
        if not rows:  # erased between the two statements: the next try makes a new one
            return await self.key_for(subject)
        return self._take(rows[0])

    async def key_of(self, subject: str) -> SubjectKey | None:
        """What is not there is not asked for again: who may have a key has it before anybody asks."""
        tag = subject_tag(self._secret, subject)
        if (cached := self._by_tag.get(tag)) or tag in self._keyless:
            return cached
        await self.prove()
        rows = await self._fetch("select key_id, subject, wrapped from view.subject_key where subject = $1", tag)
        if not rows or rows[0]["key_id"] in self._destroyed:
            self._keyless.add(tag)
            return None
        return self._take(rows[0])

    async def keys(self, ids: Iterable[str]) -> dict[str, SubjectKey]:
        wanted = set(ids)
        missing = wanted - self._by_id.keys() - self._destroyed
        if missing:
            query = "select key_id, subject, wrapped from view.subject_key where key_id = any($1)"
            for row in await self._fetch(query, sorted(missing)):
                self._take(row)
        return {key_id: self._by_id[key_id] for key_id in wanted if key_id in self._by_id}

    def known(self, ids: Iterable[str]) -> dict[str, SubjectKey | None]:
        wanted = set(ids)
        return {key_id: self._by_id.get(key_id) for key_id in wanted & (self._by_id.keys() | self._destroyed)}

    async def erase(self, subject: str) -> tuple[str, ...]:
        await self.prove()
        rows = await self._fetch(
            "delete from view.subject_key where subject = $1 returning key_id", subject_tag(self._secret, subject)
        )
        ids = tuple(row["key_id"] for row in rows)
        self.forget(ids)
        return ids

    def forget(self, ids: Iterable[str]) -> None:
        gone = set(ids)
        self._destroyed |= gone
        self._keyless |= {tag for tag, key in self._by_tag.items() if key.id in gone}
        self._by_tag = {tag: key for tag, key in self._by_tag.items() if key.id not in gone}
        for key_id in gone:
            self._by_id.pop(key_id, None)

    def _take(self, row: "asyncpg.Record") -> SubjectKey:
        """The key of a row; kept, also for who asks by its subject, unless it was destroyed meanwhile."""
        key = unwrap(self._secret, row["key_id"], row["wrapped"])
        if key.id not in self._destroyed:
            self._by_id[key.id] = self._by_tag[row["subject"]] = key
            self._keyless.discard(row["subject"])
        return key

    async def prove(self) -> None:
        """Raise UnreadableEvent unless the sealing secret is the one that this log's keys were wrapped under.

        Under another secret a subject's row is not found: a second key would be made, which no erasure destroys.
        """
        if self._secret_fits:
            return
        for row in await self._fetch("select key_id, wrapped from view.subject_key limit 1"):
            unwrap(self._secret, row["key_id"], row["wrapped"])
        self._secret_fits = True

    async def _fetch(self, query: str, *arguments: object) -> "list[asyncpg.Record]":
        if self._away():
            raise StoreUnavailable("the subject keys are where the log is, and that is away")
        try:
            return await self._answer(query, *arguments)
        except UNSURE as error:
            reason = str(error) or type(error).__name__
            raise StoreUnavailable(f"the subject keys cannot be reached: {reason}") from error

    async def _answer(self, query: str, *arguments: object) -> "list[asyncpg.Record]":
        """One deadline for the wait for a connection and the answer, after which the connection is ended.

        The pool would first wait for a frozen server to cancel the query.
        """
        async with asyncio.timeout(COMMAND_SECONDS), self._pool.acquire() as connection:
            try:
                return await connection.fetch(query, *arguments)
            except (TimeoutError, asyncio.CancelledError):
                connection.terminate()
                raise
