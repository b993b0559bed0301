"""What goes on while certificates are replaced: requests in every session, an open stream, an open websocket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import httpx

from docker.aiodocker_service import AiodockerService
from docker.settings import DockerSettings
from tests.event_fixtures import until
from tests.gateway.clients import Frame, Socket, frames, websocket
from tests.gateway_fixtures import Session
from tests.walks.process import GatewayProcess

SECONDS: Final = 30.0
PAUSE: Final = 0.1  # between two requests of a session


class Traffic:
    """Of all sessions at once. ``failed``: what a user would have noticed; ``answered``: by session, so far."""

    def __init__(self, sessions: Sequence[Session], stream: AsyncIterator[Frame], socket: Socket) -> None:
        self.sessions = sessions
        self.failed: list[str] = []
        self.answered = dict.fromkeys((session.session_id for session in sessions), 0)
        self._stream, self._socket = stream, socket

    async def ask(self, client: httpx.AsyncClient, session: Session) -> None:
        """One request after the other, until cancelled."""
        while True:
            try:
                answer = await client.post(session.path("echo"), content=b"on", headers=session.headers)
                if answer.status_code == 200 and answer.json()["body"] == "on":
                    self.answered[session.session_id] += 1
                else:
                    self.failed.append(f"{answer.status_code}: {answer.text}")
            except httpx.HTTPError as error:
                self.failed.append(repr(error))
            await asyncio.sleep(PAUSE)

    async def goes_on(self, client: httpx.AsyncClient) -> None:
        """Every session answers anew, and stream and websocket are those that were opened at first."""
        before = dict(self.answered)

        async def anew() -> bool:
            return bool(self.failed) or all(self.answered[each] > before[each] for each in before)

        await until(anew, SECONDS)
        assert not self.failed, self.failed[:5]
        await self._socket.send_str(f"after {sum(before.values())}")
        assert await self._socket.receive_str(timeout=SECONDS) == f"after {sum(before.values())}"
        first = self.sessions[0]
        made = await client.post(first.path("session"), json={"title": "on"}, headers=first.headers)
        async with asyncio.timeout(SECONDS):
            async for frame in self._stream:
                if frame.json["type"] == "session.created":
                    assert frame.json["properties"]["sessionID"] == made.json()["id"]
                    return
        raise AssertionError("the stream ended")


@contextlib.asynccontextmanager
async def traffic(
    gateway: GatewayProcess, client: httpx.AsyncClient, sessions: Sequence[Session]
) -> AsyncIterator[Traffic]:
    """Begun when every session has answered; ended with the block."""
    first, second, *_ = sessions
    async with (
        client.stream("GET", first.path("event"), headers=first.headers) as stream,
        websocket(gateway, second.path("ws"), headers=second.headers) as socket,
    ):
        made = Traffic(sessions, frames(stream), socket)
        tasks = [asyncio.create_task(made.ask(client, session)) for session in sessions]
        try:
            await made.goes_on(client)
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def heard(settings: DockerSettings) -> AsyncIterator[list[str]]:
    """The names of the containers whose ends a service is told of, however often its certificates are replaced."""
    names: list[str] = []

    async def follow(service: AiodockerService) -> None:
        async for event in service.events():
            names.append(event.name)

    async with AiodockerService(settings) as service:
        await service.list_containers()
        follower = asyncio.create_task(follow(service))
        try:
            yield names
        finally:
            follower.cancel()
            await asyncio.wait([follower])


async def told(client: httpx.AsyncClient, kind: str, **wanted: object) -> list[dict[str, Any]]:
    """The payloads of the log's events of this type that say so, when there is one."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        page = await client.get("/events", params={"type": kind, "limit": 1000})
        assert page.status_code == 200, page.text
        found[:] = [each["payload"] for each in page.json()["events"] if wanted.items() <= each["payload"].items()]
        return bool(found)

    await until(there, SECONDS)
    return found
