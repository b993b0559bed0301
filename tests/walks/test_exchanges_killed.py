"""kill -9 of a gateway that answers many at once: how many answered exchanges have no event, counted and printed."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

import aiohttp
import httpx
import msgspec
import pytest

from events.envelope import RecordedEvent
from events.ids import uuid7
from gateway.proxy.exchanges import BATCH
from tests.event_fixtures import LogDatabase
from tests.gateway_fixtures import Session
from tests.walks import process
from tests.walks.process import GatewayProcess

CLIENTS: Final = 12
ANSWERS: Final = 600  # before the kill
UNFLUSHED_SECONDS: Final = 1.0  # docs/what-the-log-cannot-show.md: that long at most, and one batch
PATIENCE: Final = 4  # times both, on a machine that others use too

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


class Answered(msgspec.Struct, frozen=True):
    """One whole answer, as its client saw it."""

    request_id: UUID
    asked: float
    at: float


class Load:
    """Clients that ask as fast as they are answered, until the gateway is gone."""

    def __init__(self, gateway: GatewayProcess, sessions: list[Session]) -> None:
        self.answered: list[Answered] = []
        self._gateway = gateway
        self._sessions = sessions
        self._enough = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside, ``ANSWERS`` have come; left when every client has seen the end."""
        clients = [asyncio.create_task(self._ask(self._sessions[n % len(self._sessions)])) for n in range(CLIENTS)]
        try:
            await asyncio.wait_for(self._enough.wait(), 60)
            yield
            await asyncio.wait_for(asyncio.gather(*clients), 30)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _ask(self, session: Session) -> None:
        async with httpx.AsyncClient(base_url=self._gateway.url, headers=session.headers, trust_env=False) as client:
            while True:
                request_id, asked = uuid7(), time.monotonic()
                try:
                    answer = await client.get(session.path("echo"), headers={"x-request-id": str(request_id)})
                except httpx.TransportError:
                    return  # killed: nobody was told anything
                assert answer.status_code == 200, answer.text
                self.answered.append(Answered(request_id, asked, time.monotonic()))
                if len(self.answered) >= ANSWERS:
                    self._enough.set()


@asynccontextmanager
async def streams(gateway: GatewayProcess, session: Session) -> AsyncIterator[set[UUID]]:
    """An open SSE stream and an open websocket, both answered; their request ids."""
    sse, socket = uuid7(), uuid7()
    async with (
        httpx.AsyncClient(base_url=gateway.url, headers=session.headers, trust_env=False) as client,
        client.stream("GET", session.path("event"), headers={"x-request-id": str(sse)}) as answer,
        aiohttp.ClientSession(headers={**session.headers, "x-request-id": str(socket)}) as sockets,
        sockets.ws_connect(gateway.url + session.path("ws")) as opened,
    ):
        await anext(answer.aiter_raw())
        await opened.send_str("hello")
        assert await opened.receive_str() == "hello"
        yield {sse, socket}


async def killed_under_load(gateway: GatewayProcess) -> tuple[float, list[Answered], set[UUID]]:
    """When it was killed, and the exchanges and streams that were answered by then."""
    async with gateway.client() as client:
        sessions = await asyncio.gather(*(gateway.open(client) for _ in range(2)))
    load = Load(gateway, list(sessions))
    async with streams(gateway, sessions[0]) as opened, load.running():
        at = time.monotonic()
        await gateway.kill()
    return at, load.answered, opened


@pytest.mark.parametrize("durability", ["behind", "before"])
async def test_a_killed_gateway_leaves_out_no_more_than_it_says(
    empty_log: LogDatabase, data_dir: Path, durability: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``behind`` loses what waited, a second's at most; ``before`` loses no exchange that anybody was answered."""
    settings = {**process.on_database(empty_log), "ACCESS_DURABILITY": durability}
    async with process.serving(data_dir, settings) as first:
        at, answered, opened = await killed_under_load(first)
    async with process.serving(data_dir, settings) as second:
        assert await second.stop() == 0
    log = await process.read_log(second)
    recorded = _recorded(log)
    lost = [each for each in answered if each.request_id not in recorded]
    took = statistics.median(each.at - each.asked for each in answered)
    with capsys.disabled():
        print(f"\n{durability}: {len(lost)} of {len(answered)} answered exchanges have no event after kill -9", end=" ")
        print(f"(median answer with {CLIENTS} clients: {took * 1000:.1f} ms)")
    assert len(answered) >= ANSWERS
    if durability == "before":
        assert lost == [] and opened <= recorded
        return
    assert len(lost) <= PATIENCE * BATCH < ANSWERS
    assert [each for each in lost if each.at < at - PATIENCE * UNFLUSHED_SECONDS] == []


def _recorded(log: list[RecordedEvent]) -> set[UUID]:
    """The request ids of all exchanges with an event."""
    kinds = ("exchange.completed", "exchange.opened")
    return {event.correlation_id for event in log if event.type in kinds and event.correlation_id is not None}
