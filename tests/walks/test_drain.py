"""SIGTERM to a gateway with everything open: it finishes, ends what cannot finish with a word, and loses nothing."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import httpx
import pytest
import pytest_asyncio

from tests.event_fixtures import LogDatabase, until
from tests.gateway_fixtures import Session
from tests.walks import process
from tests.walks.process import GatewayProcess

DRAIN_SECONDS: Final = 3.0
BURST: Final = 60  # exchanges that are answered as the signal comes

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def gateway(empty_log: LogDatabase, data_dir: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway process on an empty log, with echo agents as local processes."""
    environment = {**process.on_database(empty_log), "DRAIN_SECONDS": str(DRAIN_SECONDS)}
    async with process.serving(data_dir, environment) as started:
        yield started
    assert process.using(data_dir) == []


async def test_a_drain_finishes_what_is_open_and_loses_nothing(gateway: GatewayProcess) -> None:
    """Streams and websockets are ended with a word, a slow request is finished, and every answer is in the log."""
    async with gateway.client() as client, contextlib.AsyncExitStack() as stack:
        session = await gateway.open(client)
        streams = [
            await _stream(stack, client, session.path("event"), session.headers),
            await _stream(stack, client, f"/sessions/{session.session_id}/progress", gateway.key),
            await _stream(stack, client, "/events/stream", gateway.key),
        ]
        socket = await _socket(stack, gateway, session)
        slow = asyncio.create_task(client.get(session.path("slow?ms=1500"), headers=session.headers))
        await _waits(client, session, 1)
        answered = await asyncio.gather(*(_ask(client, session, nth) for nth in range(BURST)))
        gateway.tell(signal.SIGTERM)
        began = time.monotonic()
        refused = await _refused(gateway)
        assert (await slow).json() == {"slept": True}
        for stream in streams:
            assert (await stream).endswith("retry: 1000\n\n")
        closed = await asyncio.wait_for(socket.receive(), 10)
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1012)
        assert await gateway.end() == 0
    assert time.monotonic() - began < DRAIN_SECONDS, "nothing was left to wait for after the slow request"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"].endswith("draining") and refused.headers["retry-after"] == "1"
    await _check_log(gateway, answered=len(answered))


async def _check_log(gateway: GatewayProcess, *, answered: int) -> None:
    log = await process.read_log(gateway)
    completed = process.payloads(log, "exchange.completed")
    statuses = [each.status for each in completed]
    assert statuses == [200] * (answered + 1), "every answered exchange, and the slow one"
    assert sorted(each.kind for each in process.payloads(log, "exchange.opened")) == ["sse", "websocket"]
    assert sorted((each.kind, each.status) for each in process.payloads(log, "exchange.closed")) == [
        ("sse", 200),
        ("websocket", 1001),  # what the agent is told; 1012 is for the client
    ]
    types = [event.type for event in log]
    assert types[-1] == "gateway.stopped"
    assert types.count("session.stopped") == 1, "a local session ends with its gateway, as if it had been asked"
    assert [line for line in gateway.lines if line["level"] in ("ERROR", "CRITICAL")] == []
    assert gateway.other == []


async def test_a_request_that_does_not_end_is_refused_at_the_bound(gateway: GatewayProcess) -> None:
    """DRAIN_SECONDS is a promise to whoever restarts us; the caller still gets an answer."""
    async with gateway.client() as client:
        session = await gateway.open(client)
        slow = asyncio.create_task(client.get(session.path("slow?ms=60000"), headers=session.headers))
        await _waits(client, session, 1)
        began = time.monotonic()
        gateway.tell(signal.SIGTERM)
        answer = await slow
        assert await gateway.end() == 0
    assert DRAIN_SECONDS <= time.monotonic() - began < DRAIN_SECONDS + 10
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    log = await process.read_log(gateway)
    assert [each.error for each in process.payloads(log, "exchange.completed")] == ["exchange_cut"]
    assert log[-1].type == "gateway.stopped"


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
async def test_a_second_signal_ends_the_waiting_and_not_the_order(
    gateway: GatewayProcess, signals: tuple[signal.Signals, ...]
) -> None:
    """Who presses Ctrl-C twice is in a hurry, and still wants the log to be whole."""
    async with gateway.client() as client:
        session = await gateway.open(client)
        slow = asyncio.create_task(client.get(session.path("slow?ms=60000"), headers=session.headers))
        await _waits(client, session, 1)
        began = time.monotonic()
        gateway.tell(signals[0])
        await _refused(gateway)
        gateway.tell(signals[1])
        assert (await slow).status_code == 503
        assert await gateway.end() == 0
    assert time.monotonic() - began < DRAIN_SECONDS
    log = await process.read_log(gateway)
    assert log[-1].type == "gateway.stopped"
    assert gateway.other == []


async def _stream(
    stack: contextlib.AsyncExitStack, client: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> "asyncio.Task[str]":
    """An event stream after its first bytes; the task has all of it once it has ended."""
    answer = await stack.enter_async_context(client.stream("GET", path, headers=headers, timeout=None))
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.status_code
    chunks = answer.aiter_text()
    first = await anext(chunks)

    async def rest() -> str:
        return first + "".join([chunk async for chunk in chunks])

    return asyncio.create_task(rest())


async def _socket(
    stack: contextlib.AsyncExitStack, gateway: GatewayProcess, session: Session
) -> aiohttp.ClientWebSocketResponse:
    """A websocket that has carried a message."""
    protocols = (f"session-token.{session.token}", "session-gateway")
    http = await stack.enter_async_context(aiohttp.ClientSession())
    url = f"{gateway.url}{session.path('ws')}"
    socket = await stack.enter_async_context(http.ws_connect(url, protocols=protocols, autoclose=False))
    await socket.send_str("here")
    assert (await socket.receive_str()) == "here"
    return socket


async def _waits(client: httpx.AsyncClient, session: Session, count: int) -> None:
    """Wait until so many requests are with the agent."""

    async def there() -> bool:
        pool = (await client.get("/health")).json()["http_connection_pool"]
        return bool(pool["busy"] == count)

    await until(there)


async def _ask(client: httpx.AsyncClient, session: Session, nth: int) -> str:
    answer = await client.get(session.path(f"echo/{nth}"), headers=session.headers)
    assert answer.status_code == 200
    return str(answer.json()["target"])


async def _refused(gateway: GatewayProcess) -> httpx.Response:
    """What a new request is answered while the gateway drains."""
    answers: list[httpx.Response] = []

    async def draining() -> bool:
        async with httpx.AsyncClient(trust_env=False) as fresh:
            answers.append(await fresh.get(f"{gateway.url}/readyz"))
        return answers[-1].status_code == 503

    await until(draining)
    return answers[-1]
