"""Holding: a lease that is kept while a long job runs, and given back when it ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from events.envelope import Fence
from events.errors import StoreUnavailable
from events.lease import Leases

TTL_SECONDS: Final = 15.0  # a killed job can be begun again after this
_RENEWALS: Final = 5  # while it lasts


@contextlib.asynccontextmanager
async def holding(
    leases: Leases, name: str, holder: str, ttl_seconds: float = TTL_SECONDS
) -> AsyncIterator[Fence | None]:
    """The lease ``name``, renewed beside the work; None when another has it. What it fences is refused once it is lost.

    Raises StoreUnavailable when it cannot be asked for.
    """
    epoch = await leases.claim(name, holder, ttl_seconds)
    if epoch is None:
        yield None
        return
    renewing = asyncio.create_task(_renew(leases, name, holder, ttl_seconds), name=f"lease-{name}")
    try:
        yield Fence(name, epoch)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):  # it runs out by itself
            await leases.release(name, holder)


async def _renew(leases: Leases, name: str, holder: str, ttl_seconds: float) -> None:
    while True:
        await asyncio.sleep(ttl_seconds / _RENEWALS)
        with contextlib.suppress(StoreUnavailable):
            await leases.claim(name, holder, ttl_seconds)
