"""Lease: one holder for a named job, lost by silence. On the database's clock; the epoch fences the former holder."""

from typing import Final, Protocol

import asyncpg

from events.errors import StoreUnavailable
from events.memory import MemoryEventStore
from events.postgres import COMMAND_SECONDS, UNSURE

TTL_SECONDS: Final = 5.0


class Leases(Protocol):
    """Named jobs and who holds them."""

    async def claim(self, name: str, holder: str, ttl_seconds: float = TTL_SECONDS) -> int | None:
        """Take or renew; the epoch, or None while another holds it. Raises StoreUnavailable."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give it back at once."""
        ...

    async def alive(self, prefix: str) -> frozenset[str]:
        """The holders of the unexpired leases whose names begin with ``prefix``."""
        ...


class PostgresLeases:
    """Leases in ``view.lease``."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    async def claim(self, name: str, holder: str, ttl_seconds: float = TTL_SECONDS) -> int | None:
        epoch = await self._value("select view.claim_lease($1,$2,$3)", name, holder, ttl_seconds)
        return None if epoch is None else int(str(epoch))

    async def release(self, name: str, holder: str) -> None:
        await self._value("select view.release_lease($1,$2)", name, holder)

    async def alive(self, prefix: str) -> frozenset[str]:
        holders = await self._value(
            "select coalesce(array_agg(holder), '{}') from view.lease"
            " where starts_with(name, $1) and expires_at > clock_timestamp()",
            prefix,
        )
        return frozenset(holders) if isinstance(holders, list) else frozenset()

    async def _value(self, query: str, *arguments: object) -> object:
        try:
            return await self._pool.fetchval(query, *arguments, timeout=COMMAND_SECONDS)
        except UNSURE as error:
            raise StoreUnavailable(f"leases cannot be reached: {str(error) or type(error).__name__}") from error


class MemoryLeases:
    """Leases of one process, beside a log of one process: whoever asks first holds the job until it is released."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store = store  # told of every epoch, so that it fences
        self._held: dict[str, tuple[str, int]] = {}
        self._epochs: dict[str, int] = {}

    async def claim(self, name: str, holder: str, ttl_seconds: float = TTL_SECONDS) -> int | None:
        current = self._held.get(name)
        if current is None:
            self._epochs[name] = self._epochs.get(name, 0) + 1
            current = self._held[name] = (holder, self._epochs[name])
            self._store.set_epoch(name, self._epochs[name])
        return current[1] if current[0] == holder else None

    async def release(self, name: str, holder: str) -> None:
        if self._held.get(name, ("", 0))[0] == holder:
            del self._held[name]

    async def alive(self, prefix: str) -> frozenset[str]:
        return frozenset(holder for name, (holder, _) in self._held.items() if name.startswith(prefix))
