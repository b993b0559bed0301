"""ACCESS_DURABILITY and ACCESS_EVENTS at every door of a whole gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.catalogue import ExchangeSummarized
from tests.event_fixtures import until
from tests.gateway.clients import HANDSHAKE, nobody, websocket
from tests.gateway.faulty import FaultyStore, faulty_log
from tests.gateway_fixtures import Gateway, Session, start_gateway

DOORS = {"http": "echo", "sse": "event", "websocket": "ws"}


@asynccontextmanager
async def recording_before(tmp_path: Path) -> AsyncIterator[tuple[Gateway, FaultyStore, Session]]:
    async with start_gateway(tmp_path, {"ACCESS_DURABILITY": "before"}, log_of=faulty_log) as gateway:
        store = gateway.services.store
        assert isinstance(store, FaultyStore)
        yield gateway, store, await gateway.open()


async def use(gateway: Gateway, session: Session, door: str) -> None:
    """One exchange through the door, answered."""
    path = session.path(DOORS[door])
    if door == "websocket":
        async with websocket(gateway, path, headers=session.headers) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
        return
    async with nobody(gateway) as client, client.stream("GET", path, headers=session.headers) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_raw())


def reached_containers(gateway: Gateway) -> int:
    """Exchanges that have been given to a container's connection, and websockets that are being opened."""
    pool = gateway.services.pool.status()
    return pool.opened + pool.reused + gateway.services.sockets.open


@pytest.mark.parametrize("door", DOORS)
async def test_an_opening_is_durable_before_the_container_is_asked(tmp_path: Path, door: str) -> None:
    """A crash may come at any moment after that: what was answered is in the log."""
    async with recording_before(tmp_path) as (gateway, store, session):
        before = reached_containers(gateway)
        store.held = "exchange.opened"
        using = asyncio.create_task(use(gateway, session, door))
        await asyncio.wait_for(store.holding.wait(), 10)
        assert reached_containers(gateway) == before and not using.done()
        store.release.set()
        await using
        assert await _closed(gateway, 1) == [door]
        (opened,), (beginning,) = await gateway.payloads("exchange.opened"), await gateway.log("exchange.opened")
        assert opened.kind == ("websocket" if door == "websocket" else "http"), "what is known before it is forwarded"
        (end,), (issued,) = await gateway.log("exchange.closed"), await gateway.log("token.issued")
        assert (end.causation_id, beginning.causation_id) == (beginning.event_id, issued.event_id)
        assert await gateway.log("exchange.completed") == []
        await gateway.services.views.catch_up_to_head()
        assert gateway.services.views.sessions[session.session_id].exchanges == 1


async def _closed(gateway: Gateway, times: int) -> list[str]:
    async def told() -> bool:
        return len(await gateway.log("exchange.closed")) == times

    await until(told)
    return [each.kind for each in await gateway.payloads("exchange.closed")]


async def test_without_log_and_spool_nothing_is_forwarded(tmp_path: Path) -> None:
    """What cannot be recorded does not happen: 503 at every door, also with a body, and told when the log is back."""
    async with recording_before(tmp_path) as (gateway, store, session):
        before, store.away = reached_containers(gateway), True
        async with nobody(gateway) as client:
            for door, path in DOORS.items():
                more = HANDSHAKE if door == "websocket" else {}
                _refused(await client.get(session.path(path), headers={**session.headers, **more}))
            _refused(await client.post(session.path("echo/raw"), headers=session.headers, content=b"x" * 100_000))
        assert reached_containers(gateway) == before
        store.away = False
        assert await _closed(gateway, 4) == ["http", "http", "websocket", "http"]
        told = await gateway.payloads("exchange.closed")
        assert {(each.status, each.ended_by, each.error) for each in told} == {(503, "gateway", "unrecorded")}
        await use(gateway, session, "http")
        assert len(await gateway.log("exchange.opened")) == 5


def _refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_spool_is_enough_to_be_served(tmp_path: Path) -> None:
    """Durable is durable: Postgres away is no reason to refuse while there is a spool."""
    async with recording_before(tmp_path) as (gateway, store, session):
        await use(gateway, session, "http")
        store.away, store.spool_room = True, 100
        for door in DOORS:
            await use(gateway, session, door)

        async def told() -> bool:
            return gateway.services.exchanges.waiting == 0 and len(store.spooled) == 6

        await until(told)
        await store.come_back()
        assert sorted(await _closed(gateway, 4)) == ["http", "http", "sse", "websocket"]


async def test_a_sessions_exchanges_are_one_event_with_its_end(tmp_path: Path) -> None:
    """An hour's interval: the session's own end is sooner. Streams and denials are events of their own."""
    every_hour = {"ACCESS_EVENTS": "summary", "ACCESS_SUMMARY_SECONDS": "3600"}
    async with start_gateway(tmp_path, every_hour) as gateway:
        session = await gateway.open()
        for _ in range(5):
            await use(gateway, session, "http")
        await use(gateway, session, "sse")
        async with nobody(gateway) as client:
            assert (await client.get(session.path("echo"))).status_code == 401
        store = gateway.services.store
        assert await store.read_log(types=["exchange.summarized"]) == []
        await gateway.stop(session)

        async def told() -> bool:
            return bool(await store.read_log(types=["exchange.summarized"]))

        await until(told)
        (summary,) = await gateway.payloads("exchange.summarized")
        assert _figures(summary) == (session.session_id, 5, 0, 0, "interval")
        assert len(await gateway.log("exchange.opened")) == len(await gateway.log("exchange.closed")) == 1
        assert await gateway.log("exchange.completed") == []
        assert [each.reason for each in await gateway.payloads("access.denied")] == ["no_credential"]
        await gateway.services.views.catch_up_to_head()
        state = gateway.services.views.sessions[session.session_id]
        assert (state.exchanges, state.last_accessed is not None) == (6, True)


def _figures(summary: Any) -> tuple[str, int, int, int, str]:
    assert isinstance(summary, ExchangeSummarized)
    return (summary.session_id, summary.exchanges, summary.closed, summary.failed, summary.reason)
