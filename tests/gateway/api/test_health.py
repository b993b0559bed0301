"""Health: a word for everybody, figures for operators, and an answer whatever is broken."""

from pathlib import Path

from docker.mock import MockDockerService
from gateway.access.roles import Role
from tests.gateway.clients import nobody, websocket
from tests.gateway.faulty import FaultyStore, faulty_log
from tests.gateway_fixtures import Gateway, start_gateway


async def test_everybody_is_told_a_word_and_no_figure(gateway: Gateway) -> None:
    """No key, a wrong one, another role: the same answer, and no denial, since nothing was refused."""
    callers = [
        {},
        {"authorization": "Bearer gwk_x_y"},
        await gateway.key(Role.FRONTEND),
        await gateway.key(Role.AUDITOR),
    ]
    async with nobody(gateway) as client:
        for headers in callers:
            answer = await client.get("/health", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})
    assert await gateway.log("access.denied") == []


async def test_operators_are_told_figures_that_move(gateway: Gateway) -> None:
    """Sessions, seats, tokens, connections and sockets as they are now."""
    before = (await gateway.client.get("/health")).json()
    assert (before["seats_taken"], before["seats"], before["sessions"]) == (0, 3, {})
    first, second = await gateway.open(), await gateway.open()
    await gateway.stop(second)
    async with (
        nobody(gateway) as client,
        websocket(gateway, first.path("ws"), headers=first.headers),
        client.stream("GET", first.path("event"), headers=first.headers),
    ):
        told = (await gateway.client.get("/health")).json()
    assert told["status"] == "healthy"
    assert told["sessions"] == {"running": 1, "stopped": 1}
    assert (told["database"]["total_sessions"], told["database"]["active_sessions"]) == (2, 1)
    assert (told["seats_taken"], told["authenticated_sessions"], told["websockets"]) == (1, 1, 1)
    assert told["http_connection_pool"]["streams"] == 1
    assert (told["runtime"], told["runtime_answers"], told["storage_backend"]) == ("local", True, "memory")
    assert told["log"]["log_id"] == str(gateway.services.store.log_id)
    assert told["log"]["head"] >= told["log"]["view"] > before["log"]["view"]


async def test_an_expired_token_is_no_authenticated_session(tmp_path: Path) -> None:
    async with start_gateway(tmp_path, {"SESSION_TOKEN_EXPIRY_HOURS": "0.00001"}) as gateway:
        await gateway.open()
        told = (await gateway.client.get("/health")).json()
    assert (told["authenticated_sessions"], told["seats_taken"]) == (0, 1)


async def test_health_is_told_without_the_log(tmp_path: Path) -> None:
    """Also to a caller whose key cannot be looked up meanwhile; readiness says no, liveness yes."""
    async with start_gateway(tmp_path, log_of=faulty_log) as gateway, nobody(gateway) as client:
        store = gateway.services.store
        assert isinstance(store, FaultyStore)
        store.away = True
        for headers in ({}, {"authorization": "Bearer gwk_x_y"}):
            answer = await client.get("/health", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"status": "degraded"})
        told = (await gateway.client.get("/health")).json()
        assert (told["status"], told["database"]["status"], told["log"]["head"]) == ("degraded", "unavailable", None)
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["type"]) == (503, "/problems/store-unavailable")
        assert int(ready.headers["retry-after"]) > 0
        assert (await client.get("/livez")).json() == {"status": "alive"}
        store.away = False
        assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_health_is_told_without_the_runtime(tmp_path: Path) -> None:
    async with start_gateway(tmp_path, {"SESSION_RUNTIME": "mock"}) as gateway:
        assert isinstance(gateway.services.docker, MockDockerService)
        gateway.services.docker.go_down()
        told = (await gateway.client.get("/health")).json()
        assert (told["status"], told["runtime_answers"]) == ("degraded", False)
        gateway.services.docker.come_back()
        assert (await gateway.client.get("/health")).json()["status"] == "healthy"
