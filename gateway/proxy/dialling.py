"""Dialling a container that refuses: again for a moment, since nothing was sent yet.

A Docker daemon that restarts under running containers makes the rules of their published ports anew: connections that
are open go on, new ones are refused for 0.3 seconds (measured, dockerd 20.10 with live-restore), longer on a machine
that is busy.

The moment is the address's, not the request's: its first refusal opens it, all requests share it, and an address that
refuses for longer fails them at once until it has accepted again. A port is given to another container once its own is
gone: ``close_address`` ends what is still being dialled, so that no request reaches the next one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from docker.service import Address
from gateway.proxy.errors import ContainerUnreachable

REFUSED_SECONDS: Final = 2.0
PAUSE: Final = 0.05
_MOST_REFUSING: Final = 1000  # addresses; those of containers that never answered are told by nobody
T = TypeVar("T")


class _Refusing:
    """An address that has refused since ``since`` and accepted nothing meanwhile."""

    __slots__ = ("over", "pauses", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.over = False
        self.pauses = asyncio.Lock()  # one dial a pause, however many requests wait


class Dials:
    """What is being dialled, and which addresses refuse. ``seconds``: how long an address may refuse."""

    def __init__(
        self,
        *,
        seconds: float = REFUSED_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._seconds, self._clock, self._pause = min(seconds, REFUSED_SECONDS), clock, pause
        self._refusing: dict[Address, _Refusing] = {}
        self._under_way: dict[Address, set[asyncio.Timeout]] = {}

    async def dial(self, address: Address, attempt: Callable[[], Awaitable[T]]) -> T:
        """What ``attempt`` gives, made again while the address refuses; its last error when it refuses for too long.

        Between two attempts nothing is held. Raises ContainerUnreachable when the address is closed meanwhile.
        """
        under_way = self._under_way.setdefault(address, set())
        try:
            async with asyncio.timeout(None) as scope:
                under_way.add(scope)
                return await self._again(address, attempt)
        except TimeoutError as error:
            if scope.expired():
                raise ContainerUnreachable("The container ended before it was reached.") from error
            raise
        finally:
            under_way.discard(scope)
            if not under_way and self._under_way.get(address) is under_way:
                del self._under_way[address]

    def accepted(self, address: Address) -> None:
        """A new connection was made: when the address refuses again, that is another moment."""
        refusing = self._refusing.pop(address, None)
        if refusing is not None:
            refusing.over = True

    def close_address(self, address: Address) -> int:
        """A container is gone: end what is being dialled. Answers how many."""
        self.accepted(address)  # the port's next container is not judged by this one
        scopes = self._under_way.pop(address, set())
        for scope in scopes:
            scope.reschedule(0.0)
        return len(scopes)

    @property
    def addresses(self) -> set[Address]:
        """Where something is being dialled."""
        return set(self._under_way)

    async def _again(self, address: Address, attempt: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await attempt()
            except OSError as error:
                if not _refused(error) or not await self._waited(self._refusal_of(address)):
                    raise

    def _refusal_of(self, address: Address) -> _Refusing:
        refusing = self._refusing.get(address)
        if refusing is None:
            if len(self._refusing) >= _MOST_REFUSING:
                del self._refusing[next(iter(self._refusing))]
            refusing = self._refusing[address] = _Refusing(self._clock())
        return refusing

    async def _waited(self, refusing: _Refusing) -> bool:
        """Wait for this request's turn to dial again; False when the address has refused for too long."""
        if self._lasts(refusing):
            async with refusing.pauses:
                if self._lasts(refusing) and not refusing.over:
                    await self._pause(PAUSE)
        return refusing.over or self._lasts(refusing)

    def _lasts(self, refusing: _Refusing) -> bool:
        return self._clock() - refusing.since < self._seconds


def _refused(error: OSError) -> bool:
    """An HTTP client may wrap what the socket said (aiohttp's ``ClientConnectorError``)."""
    return isinstance(getattr(error, "os_error", error), ConnectionRefusedError)
