"""Control: the client for our own calls to containers, and the command line's client to the gateway (httpx).

Never on the byte path of a proxied request: there it would be a tenth as fast and would rewrite targets.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

import httpx
import msgspec

from docker.service import Address

HEALTH_PATH: Final = "/global/health"
TRY_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.1


class _Health(msgspec.Struct):
    healthy: bool
    version: str


class Control:
    """Asks containers whether they serve. Every try is a new connection with a short time-out: OpenCode accepts, and
    never answers, the first request that arrives just as its port opens (7 of 7 measured)."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            timeout=TRY_SECONDS, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def is_ready(self, address: Address, authorization: bytes) -> bool:
        """True when a real request was answered with the right body; an unknown path answers 200 with a page."""
        url = f"http://{address.host}:{address.port}{HEALTH_PATH}"
        try:
            answer = await self._client.get(url, headers={"authorization": authorization.decode()})
            return answer.status_code == 200 and msgspec.json.decode(answer.content, type=_Health).healthy
        except (httpx.HTTPError, msgspec.DecodeError):  # ValidationError is a DecodeError
            return False

    async def pause(self) -> None:
        """Between two tries."""
        await asyncio.sleep(PAUSE_SECONDS)
