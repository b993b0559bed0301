"""Postgres stands still under a gateway that serves: what goes on, what waits, what is refused, and how it is told."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.event_fixtures import until
from tests.failures import server
from tests.failures.server import OwnServer
from tests.gateway import receivers
from tests.gateway.clients import websocket
from tests.gateway_fixtures import WAIT, Session
from tests.walks import process
from tests.walks.process import GatewayProcess

AT_ONCE: Final = 1.0  # seconds
NOTICED: Final = 30.0  # seconds; a frozen server is given up after 5, on a machine that does something
PAUSE: Final = 0.02  # between two requests of the traffic

pytestmark = [pytest.mark.postgres, pytest.mark.patient]


class Traffic:
    """Somebody uses a session without a pause."""

    def __init__(self, client: httpx.AsyncClient, session: Session) -> None:
        self._client, self._session = client, session
        self.answers: Counter[int] = Counter()
        self.slowest = 0.0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        flow = asyncio.create_task(self._flow())
        try:
            yield
        finally:
            self._ends = True
            await flow

    _ends = False

    async def _flow(self) -> None:
        while not self._ends:
            began = time.monotonic()
            answer = await self._client.get(self._session.path("echo"), headers=self._session.headers)
            self.answers[answer.status_code] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(PAUSE)


async def health(client: httpx.AsyncClient) -> dict[str, Any]:
    began = time.monotonic()
    answer = await client.get("/health")
    assert answer.status_code == 200 and time.monotonic() - began < AT_ONCE
    found: dict[str, Any] = answer.json()
    return found


async def says(client: httpx.AsyncClient, status: str) -> None:
    async def it_does() -> bool:
        return bool((await health(client))["status"] == status)

    await until(it_does, NOTICED)


@asynccontextmanager
async def on_a_server(
    data_dir: Path, tmp_path: Path, endpoint: str
) -> AsyncIterator[tuple[GatewayProcess, OwnServer, httpx.AsyncClient]]:
    """A gateway on a Postgres that nobody else uses."""
    telemetry = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "100"}
    async with server.started(tmp_path / "postgres") as own, own.with_log():
        environment = process.on_database(own.database) | telemetry
        async with process.serving(data_dir, environment) as gateway, gateway.client() as client:
            yield gateway, own, client


async def test_a_gateway_outlives_its_log(data_dir: Path, tmp_path: Path) -> None:
    """Every rule of an outage, one after the other, on real processes; and afterwards all of it in the log, once."""
    async with (
        receivers.otlp() as (endpoint, receiver),
        on_a_server(data_dir, tmp_path, endpoint) as (gateway, own, client),
    ):
        used, other = await gateway.open(client), await gateway.open(client)
        await says(client, "healthy")
        traffic = Traffic(client, used)
        async with traffic.flowing(), websocket(gateway, used.path("ws"), headers=used.headers) as socket:
            with own.frozen():
                await says(client, "degraded")
                served = traffic.answers[200]
                await receivers.gauge(receiver, "session_gateway.log.available", 0)
                await refused(client)
                await denied(client, used)
                await stopped(client, other)
                await told(client)
                await socket.send_str("still there?")
                assert await socket.receive_str(timeout=AT_ONCE) == "still there?"
                async with client.stream("GET", used.path("event"), headers=used.headers) as stream:
                    assert "server.connected" in await anext(stream.aiter_lines())
                await process.reached(lambda: traffic.answers[200] > served + 10)
            await says(client, "healthy")
            await receivers.gauge(receiver, "session_gateway.log.available", 1)
            again = await client.post("/sessions", headers=WAIT)
            assert again.status_code == 201, "the breaker has closed by itself"
        assert set(traffic.answers) == {200} and traffic.slowest < 2 * AT_ONCE
        assert await gateway.stop() == 0
        await in_the_log_once(gateway, traffic, other)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_an_end_in_an_outage_costs_no_exchange(data_dir: Path, tmp_path: Path, end: signal.Signals) -> None:
    """The log stands still in the second in which sessions were opened, for somebody and for nobody: each exchange is
    in the spool, the next process brings them in; and that one, which has needed no key of them, shows what ended."""
    async with server.started(tmp_path / "postgres") as own, own.with_log():
        environment = process.on_database(own.database)
        async with process.serving(data_dir, environment) as gateway, gateway.client() as client:
            ended, *used = [await opened(client, owner) for owner in ("ada", "grace", None)]
            assert (await client.delete(f"/sessions/{ended.session_id}", headers=WAIT)).status_code == 200
            with own.frozen():
                for session in used * 20:
                    answer = await client.get(session.path("echo"), headers=session.headers)
                    assert answer.status_code == 200
                    await unknown(gateway)
                await says(client, "degraded")
                await until(lambda: written(client), NOTICED)
                assert await gateway.stop(end) == (0 if end is signal.SIGTERM else -end)
        async with process.serving(data_dir, environment) as gateway, gateway.client() as client:
            with own.frozen():
                await says(client, "degraded")
                listed = (await client.get("/sessions")).json()["sessions"]
                assert [each["owner"] for each in listed if each["session_id"] != used[0].session_id] == [
                    "[unavailable]",
                    None,
                ]
                for path in ("/events/stream", f"/sessions/{ended.session_id}/progress"):
                    assert (await client.get(path)).status_code == 503
            await says(client, "healthy")
            assert await gateway.stop() == 0
        log = await process.read_log(gateway)
        assert Counter(each.session_id for each in process.payloads(log, "exchange.completed")) == {
            session.session_id: 20 for session in used
        }
        assert process.payloads(log, "exchange.summarized", "log.read") == []


async def opened(client: httpx.AsyncClient, owner: str | None) -> Session:
    answer = await client.post("/sessions", json={} if owner is None else {"owner": owner}, headers=WAIT)
    assert answer.status_code == 201, answer.text
    return Session(answer.json()["session_id"], answer.json()["token"])


async def unknown(gateway: GatewayProcess) -> None:
    """Who has no key of ours asks after our health, and does not wait for the log."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as stranger:
        answer = await stranger.get("/health", headers={"authorization": "Bearer gwk_x_y"})
    assert set(answer.json()) == {"status"} and answer.elapsed.total_seconds() < AT_ONCE


async def written(client: httpx.AsyncClient) -> bool:
    """Whether every exchange is at least in the spool."""
    return bool((await health(client))["log"]["exchanges_waiting"] == 0)


async def refused(client: httpx.AsyncClient) -> None:
    """What must be decided with the others is refused at once."""
    for method, path in (("POST", "/sessions"), ("GET", "/events")):
        began = time.monotonic()
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert time.monotonic() - began < AT_ONCE


async def denied(client: httpx.AsyncClient, session: Session) -> None:
    """Nobody gets in for want of the log, and who tries is written down."""
    for headers, status in (({"authorization": ""}, 401), ({"authorization": "Bearer gwt_guess"}, 503)):
        began = time.monotonic()
        answer = await client.get(session.path("echo"), headers=headers)
        assert answer.status_code == status
        assert time.monotonic() - began < AT_ONCE


async def stopped(client: httpx.AsyncClient, session: Session) -> None:
    """A session can always be ended, and then it has."""
    answer = await client.delete(f"/sessions/{session.session_id}", headers=WAIT)
    assert (answer.status_code, answer.json()["status"]) == (200, "stopped")
    assert (await client.get(session.path("echo"), headers=session.headers)).status_code == 401


async def told(client: httpx.AsyncClient) -> None:
    """Who looks sees how it stands; a balancer leaves the process in."""
    found = await health(client)
    assert found["storage_backend"] == "database"
    database = found["database"]
    assert (database["status"], database["total_sessions"], database["active_sessions"]) == ("unavailable", 2, 1)
    assert database["database_size"].endswith(("kB", "MB"))
    log = found["log"]
    assert log["away_since"] is not None and log["head"] is None and not log["stale"]
    assert log["spooled_units"] > 5 and log["spooled_bytes"] > 1_000 and log["turned_away"] == 3
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "degraded"})


async def in_the_log_once(gateway: GatewayProcess, traffic: Traffic, ended: Session) -> None:
    log = await process.read_log(gateway)
    exchanges = process.payloads(log, "exchange.completed")
    assert len(exchanges) == len({each.exchange_id for each in exchanges}) == traffic.answers.total()
    reasons = Counter((each.reason, each.status) for each in process.payloads(log, "access.denied"))
    assert reasons == {("no_credential", 401): 1, ("bad_credential", 503): 1, ("revoked_credential", 401): 1}
    steps = [event.type for event in log if event.stream_id == f"session-{ended.session_id}"]
    assert steps[-3:] == ["session.stop_requested", "token.revoked", "session.stopped"]
    (removed,) = [each for each in process.payloads(log, "container.removed") if each.session_id == ended.session_id]
    (asked,) = [
        event for event in log if event.type == "session.stop_requested" and event.stream_id.endswith(ended.session_id)
    ]
    (gone,) = [
        event for event in log if event.type == "container.removed" and event.stream_id.endswith(removed.container)
    ]
    assert gone.causation_id == asked.event_id, "carried out because of what waited in the spool"
    types = [event.type for event in log]
    assert (types.count("alert.raised"), types.count("alert.cleared"), types.count("session.requested")) == (1, 1, 3)
    assert types.index("alert.raised") < types.index("alert.cleared")
    assert types[-1] == "gateway.stopped"
    (cleared,) = process.payloads(log, "alert.cleared")
    assert cleared.refused == 3 and cleared.replayed > 5 and cleared.lasted_ms > 0
    lines = [line["message"] for line in gateway.lines if line["logger"] == "session_gateway.outages"]
    assert [line.split(":")[0].split(" after")[0] for line in lines] == [
        "the event log is away",
        "the event log is back",
    ]
