"""Health: a word for everybody, figures for operators, and an answer whatever is broken."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from docker.aiodocker_service import AiodockerService
from docker.host_ip import HostAddress
from docker.mock import MockDockerService
from docker.settings import DockerSettings
from events.errors import StoreUnavailable
from events.store import Head
from gateway.access.roles import Role
from tests.docker.host_world import BRIDGE_ROUTE, World
from tests.gateway.clients import nobody, websocket
from tests.gateway.faulty import faulty, spooling_log
from tests.gateway.world import eventually
from tests.gateway_fixtures import WAIT, Gateway, start_gateway

AT_ONCE = timedelta(seconds=0.5)  # 0.1 is meant, on a machine with nothing else to do


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
    assert (told["certificates"], told["warnings"]) == (None, [])  # local processes are spoken to without any
    assert told["log"]["log_id"] == str(gateway.services.store.log_id)
    assert told["log"]["head"] >= told["log"]["view"] > before["log"]["view"]


async def test_an_expired_token_is_no_authenticated_session(tmp_path: Path) -> None:
    async with start_gateway(tmp_path, {"SESSION_TOKEN_EXPIRY_HOURS": "0.00001"}) as gateway:
        await gateway.open()
        told = (await gateway.client.get("/health")).json()
    assert (told["authenticated_sessions"], told["seats_taken"]) == (0, 1)


async def test_health_is_told_without_the_log(tmp_path: Path) -> None:
    """At once, also to a caller whose key cannot be looked up meanwhile. The process is ready all the same: it serves
    running sessions, and a balancer that took every gateway out would end them."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway, nobody(gateway) as client:
        assert (await gateway.client.get("/health")).json()["database"]["database_size"] == "0 bytes"
        store = gateway.services.store
        faulty(store).away = True
        await eventually(lambda: not store.status.available)
        assert (await client.get("/sessions")).status_code == 401  # a denial waits in the spool
        asked = faulty(store).refused
        for headers in ({}, {"authorization": "Bearer gwk_x_y"}):
            answer = await client.get("/health", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"status": "degraded"})
            assert answer.elapsed < AT_ONCE
        told = (await gateway.client.get("/health")).json()
        assert told["status"] == "degraded"
        assert (told["database"]["status"], told["database"]["database_size"]) == ("unavailable", "0 bytes")
        log = told["log"]
        assert (log["head"], log["stale"], log["turned_away"]) == (None, False, 0)
        assert log["spooled_units"] >= 2 and log["spooled_bytes"] > 0
        assert log["away_since"] is not None
        for path, word in {"/readyz": "degraded", "/livez": "alive"}.items():
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": word})
            assert answer.elapsed < AT_ONCE
        assert faulty(store).refused - asked <= 4, "a probe now and then, and nothing of ours"
        faulty(store).away = False
        await eventually(lambda: store.status.available)
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        again = (await gateway.client.get("/health")).json()
        assert (again["status"], again["log"]["spooled_units"], again["log"]["away_since"]) == ("healthy", 0, None)
        assert again["log"]["rejected_units"] == 0


async def test_nobody_waits_for_a_log_that_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first seconds of a freeze, before it is noticed: a key that is not known here is no reason to look for it."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway, nobody(gateway) as client:
        thawed = asyncio.Event()

        async def frozen() -> Head:
            await thawed.wait()
            raise StoreUnavailable("frozen")

        monkeypatch.setattr(gateway.services.store, "head", frozen)
        answer = await client.get("/health", headers={"authorization": "Bearer gwk_x_y"})
        assert (answer.status_code, answer.json()) == (200, {"status": "degraded"})
        assert answer.elapsed < AT_ONCE
        thawed.set()


async def test_a_process_that_may_miss_revocations_is_not_ready(tmp_path: Path) -> None:
    """Beyond STALE_LIMIT nothing but stops and health is answered; it ends at once when the log is seen again."""
    async with start_gateway(tmp_path, {"STALE_LIMIT": "0.3"}, log_of=spooling_log) as gateway:
        store, session = gateway.services.store, await gateway.open()
        faulty(store).away = True
        await eventually(lambda: gateway.services.outages.is_stale)
        for path, headers in {"/readyz": {}, "/sessions": {}, session.path("echo"): session.headers}.items():
            answer = await gateway.client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/view-stale"), path
            assert int(answer.headers["retry-after"]) > 0
        told = (await gateway.client.get("/health")).json()
        assert (told["log"]["stale"], told["log"]["seen_ms_ago"] > 300) == (True, True)
        stopped = await gateway.client.delete(f"/sessions/{session.session_id}", headers=WAIT)
        assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
        faulty(store).away = False
        await eventually(lambda: not gateway.services.outages.is_stale)
        assert (await gateway.client.get("/readyz")).status_code == 200
        assert (await gateway.client.get("/sessions")).status_code == 200


async def test_health_does_not_hammer_the_log(gateway: Gateway) -> None:
    """Anybody may ask, as often as he likes: one look a second."""
    before = gateway.services.store
    asked = 0

    async def counted() -> Head:
        nonlocal asked
        asked += 1
        return await head()

    head, began = before.head, time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(before, "head", counted)
        async with nobody(gateway) as client:
            for _ in range(5):
                answers = await asyncio.gather(*(client.get("/health") for _ in range(20)))
                assert {answer.json()["status"] for answer in answers} == {"healthy"}
            assert {(await client.get("/readyz")).status_code for _ in range(5)} == {200}
    assert asked <= 3 + 2 * (time.monotonic() - began), "one a second, and reconciliation's"


async def test_health_is_told_without_the_runtime(tmp_path: Path) -> None:
    async with start_gateway(tmp_path, {"SESSION_RUNTIME": "mock"}) as gateway:
        assert isinstance(gateway.services.docker, MockDockerService)
        gateway.services.docker.go_down()
        told = (await gateway.client.get("/health")).json()
        assert (told["status"], told["runtime_answers"]) == ("degraded", False)
        gateway.services.docker.come_back()
        assert (await gateway.client.get("/health")).json()["status"] == "healthy"


async def test_operators_see_where_published_ports_are_reached(tmp_path: Path) -> None:
    """Address, method and age; nothing where no daemon publishes."""
    async with start_gateway(tmp_path, {"SESSION_RUNTIME": "mock"}) as gateway:
        assert (await gateway.client.get("/health")).json()["host_address"] is None
        world, now = World(files={"/proc/net/route": BRIDGE_ROUTE}), [100.0]
        settings = DockerSettings(docker_host="tcp://10.9.9.9:2376", docker_cert_path=str(tmp_path))
        host = HostAddress(settings, world.edges, lambda: now[0])
        msgspec.structs.force_setattr(gateway.services, "docker", AiodockerService(settings, host))
        assert (await gateway.client.get("/health")).json()["host_address"] is None, "not looked for yet"
        await host.find()
        now[0] += 7.5
        told = (await gateway.client.get("/health")).json()["host_address"]
        assert told == {"address": "172.250.0.1", "method": "default route", "confirmed": False, "age_seconds": 7}
