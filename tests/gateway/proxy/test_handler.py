"""Who gets through to a session's container: the isolation matrix over HTTP, SSE and websocket (rows E1, E3, E7)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import psutil
import pytest

from events.codec import decode_actor
from events.envelope import ActorKind
from gateway.access.roles import Role
from tests.event_fixtures import until
from tests.gateway.clients import HANDSHAKE, nobody, websocket
from tests.gateway.faulty import FaultyStore, faulty_log
from tests.gateway_fixtures import Gateway, Session, start_gateway

ROUTE = "/s/{session_id}/{path}"
# Door -> path in the session, headers of the request.
DOORS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "http": ("echo", {}),
    "sse": ("event", {"accept": "text/event-stream"}),
    "websocket": ("ws", HANDSHAKE),
}


async def knock(gateway: Gateway, path: str, door: str, credential: Mapping[str, str]) -> tuple[int, str]:
    """Status and slug of the refusal at a door; the answer must be a problem."""
    async with nobody(gateway) as client:
        answer = await client.get(path, headers={**DOORS[door][1], **credential})
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (problem["status"], problem["request_id"]) == (answer.status_code, answer.headers["x-request-id"])
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == 'Bearer realm="session-gateway"'
    return answer.status_code, problem["type"].removeprefix("/problems/")


async def denials(gateway: Gateway) -> list[tuple[str, int, str, str, str | None]]:
    told = await gateway.payloads("access.denied")
    return [(each.reason, each.status, each.method, each.route, each.session_id) for each in told]


@pytest.mark.parametrize("door", DOORS)
async def test_only_the_sessions_own_token_opens_it(gateway: Gateway, door: str) -> None:
    """Every other credential there is, at every door: refused, and an event each. No request reaches the container."""
    mine, other = await gateway.open(), await gateway.open()
    frontend = await gateway.key(Role.FRONTEND)
    authorization = gateway.services.tokens.authorization(gateway.services.views.sessions[mine.session_id].container)
    path = mine.path(DOORS[door][0])
    cases: list[tuple[str, Mapping[str, str], str]] = [
        (path, {}, "no_credential"),
        (path, other.headers, "bad_credential"),
        (path, {"authorization": f"Bearer {mine.token[:-1]}"}, "bad_credential"),
        (path, {"authorization": f"Bearer {mine.token}x"}, "bad_credential"),
        (path, {"authorization": f"Bearer {mine.token.upper()}"}, "bad_credential"),
        (path, {"authorization": str(gateway.client.headers["authorization"])}, "bad_credential"),
        (path, frontend, "bad_credential"),
        (path, {"authorization": authorization.decode()}, "no_credential"),
        (path, {"cookie": f"session-token={mine.token}; authorization=Bearer {mine.token}"}, "no_credential"),
        (f"{path}?token={mine.token}&auth_token={mine.token}", {}, "no_credential"),
        (path, {"x-session-token": mine.token, "proxy-authorization": f"Bearer {mine.token}"}, "no_credential"),
    ]
    if door == "websocket":
        cases += [
            (path, {"sec-websocket-protocol": f"session-token.{other.token}"}, "bad_credential"),
            (path, {"sec-websocket-protocol": f"session-gateway, {mine.token}"}, "no_credential"),
            (path, {**mine.headers, "origin": "https://evil.example"}, "origin_refused"),
            # A bearer is looked at first: a wrong one is not made good by a subprotocol.
            (path, {**other.headers, "sec-websocket-protocol": f"session-token.{mine.token}"}, "bad_credential"),
        ]
    else:
        cases.append((path, {"sec-websocket-protocol": f"session-token.{mine.token}"}, "no_credential"))
    for case, credential, reason in cases:
        status = 403 if reason == "origin_refused" else 401
        assert await knock(gateway, case, door, credential) == (status, reason.replace("_", "-")), credential
    method = "WEBSOCKET" if door == "websocket" else "GET"
    assert await denials(gateway) == [
        (reason, 403 if reason == "origin_refused" else 401, method, ROUTE, mine.session_id) for *_, reason in cases
    ]
    assert await gateway.log("exchange.*") == []


async def test_the_right_token_opens_every_door(gateway: Gateway) -> None:
    """The counterpart of the matrix; a websocket also by subprotocol, as a browser must."""
    session = await gateway.open()
    async with nobody(gateway) as client:
        assert (await client.get(session.path("echo"), headers=session.headers)).status_code == 200
        async with client.stream("GET", session.path("event"), headers=session.headers) as answer:
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    offers: list[tuple[dict[str, str], tuple[str, ...], str | None]] = [
        (session.headers, (), None),
        ({}, (f"session-token.{session.token}", "session-gateway"), "session-gateway"),
        ({}, ("session-gateway", f"session-token.{session.token}"), "session-gateway"),
        ({}, (f"session-token.{session.token}", "chat.v1", "session-gateway"), "chat.v1"),
        ({**session.headers, "origin": gateway.url}, (), None),
    ]
    for headers, protocols, answered in offers:
        async with websocket(gateway, session.path("ws"), headers=headers, protocols=protocols) as socket:
            assert socket.protocol == answered
            await socket.send_str("hello")
            assert (await socket.receive_str()) == "hello"
    assert await denials(gateway) == []


async def test_a_refused_handshake_has_its_status(gateway: Gateway) -> None:
    """A websocket client sees why, not only that the connection was closed."""
    session = await gateway.open()
    for path, headers, status in [
        (session.path("ws"), {}, 401),
        (session.path("ws"), {**session.headers, "origin": "https://evil.example"}, 403),
        ("/s/ses_0123456789abcdefghjkmnpqrs/ws", session.headers, 404),
        (session.path("pty/none/connect"), session.headers, 404),
    ]:
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            async with websocket(gateway, path, headers=headers):
                pass
        assert raised.value.status == status


async def test_a_token_expires_at_every_door(tmp_path: Path) -> None:
    async with start_gateway(tmp_path, {"SESSION_TOKEN_EXPIRY_HOURS": "0.00001"}) as gateway:
        session = await gateway.open()
        for door, (rest, _) in DOORS.items():
            assert await knock(gateway, session.path(rest), door, session.headers) == (401, "expired-credential")
        assert [reason for reason, *_ in await denials(gateway)] == ["expired_credential"] * 3


async def test_a_stopped_sessions_token_is_told_so_at_every_door(gateway: Gateway) -> None:
    """Clearly: revoked, not unknown. Whoever holds no token of it is not told even that."""
    session = await gateway.open()
    await gateway.stop(session)
    for door, (rest, _) in DOORS.items():
        path = session.path(rest)
        assert await knock(gateway, path, door, session.headers) == (401, "revoked-credential")
        assert await knock(gateway, path, door, {"authorization": "Bearer gwt_x"}) == (401, "bad-credential")
    async with nobody(gateway) as client:
        answer = await client.get(session.path("echo"), headers=session.headers)
    assert answer.json()["detail"] == "The session has ended, and its token with it."


async def test_a_session_that_is_not_ready_says_when_to_come_again(tmp_path: Path) -> None:
    """Nothing answers in a mock container: the session stays in creation."""
    async with start_gateway(tmp_path, {"SESSION_RUNTIME": "mock"}) as gateway:
        opened = (await gateway.client.post("/sessions")).json()
        session = Session(opened["session_id"], opened["token"])
        async with nobody(gateway) as client:
            for door, (rest, headers) in DOORS.items():
                answer = await client.get(session.path(rest), headers={**headers, **session.headers})
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/session-not-ready"), door
                assert int(answer.headers["retry-after"]) > 0
        assert await denials(gateway) == []


async def test_an_unknown_session_is_unknown(gateway: Gateway) -> None:
    """With any token 404; without one nobody learns which sessions exist."""
    unknown = "ses_0123456789abcdefghjkmnpqrs"
    async with nobody(gateway) as client:
        for session_id in (unknown, "nothing", "ses_", "SES_0123456789ABCDEFGH"):
            answer = await client.get(f"/s/{session_id}/x", headers={"authorization": "Bearer gwt_x"})
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/session-unknown"), session_id
    session = await gateway.open()
    none = await knock(gateway, f"/s/{unknown}/x", "http", {})
    assert none == await knock(gateway, session.path("x"), "http", {}) == (401, "no-credential")


async def test_a_token_of_another_process_is_known_at_once(gateway: Gateway) -> None:
    """Before a token is refused the log's head is looked at, once for all who wait; without a token it is not."""
    session = await gateway.open()
    looks = gateway.services.views.head_looks
    await knock(gateway, session.path("echo"), "http", {})
    assert gateway.services.views.head_looks == looks
    await knock(gateway, session.path("echo"), "http", {"authorization": "Bearer gwt_x"})
    assert gateway.services.views.head_looks == looks + 1


async def test_without_the_log_the_known_are_served_and_the_others_are_not(tmp_path: Path) -> None:
    """No token: refused. A wrong one: it may be of a moment ago, so come again. The right one: served, and recorded."""
    async with start_gateway(tmp_path, log_of=faulty_log) as gateway:
        store = gateway.services.store
        assert isinstance(store, FaultyStore)
        session = await gateway.open()
        store.away = True
        for door, (rest, _) in DOORS.items():
            path = session.path(rest)
            assert await knock(gateway, path, door, {}) == (401, "no-credential")
            assert await knock(gateway, path, door, {"authorization": "Bearer gwt_x"}) == (503, "store-unavailable")
        async with nobody(gateway) as client:
            assert (await client.get(session.path("echo"), headers=session.headers)).status_code == 200
        assert gateway.services.exchanges.waiting == 1
        store.away = False
        (told,) = await gateway.payloads("exchange.completed")
        assert told.status == 200


async def test_a_killed_container_is_a_bad_gateway_and_then_an_error(gateway: Gateway) -> None:
    """The request under way is told at once; the session follows within a moment, and the log says what happened."""
    session = await gateway.open()
    state = gateway.services.views.sessions[session.session_id]
    async with (
        asyncio.timeout(20),
        nobody(gateway) as client,
        client.stream("GET", session.path("event"), headers=session.headers) as answer,
    ):
        assert answer.status_code == 200
        process_of(gateway, session).kill()
        answers = [await client.get(session.path("echo"), headers=session.headers)]
        while answers[-1].status_code != 401:
            answers.append(await client.get(session.path("echo"), headers=session.headers))
    slugs = {(each.status_code, each.json()["type"].removeprefix("/problems/")) for each in answers}
    assert slugs <= {
        (502, "container-unreachable"),
        (502, "container-broke"),
        (503, "session-not-ready"),
        (401, "revoked-credential"),
    }

    async def failed() -> bool:
        shown = (await gateway.client.get(f"/sessions/{session.session_id}")).json()
        return (shown["status"], shown["reason"]) == ("error", "container_died")

    await until(failed)
    (died,) = await gateway.log("container.died")
    assert decode_actor(died).kind is ActorKind.CONTAINER
    assert decode_actor(died).id == state.container
    (closed,) = await gateway.payloads("exchange.closed")
    assert (closed.ended_by, closed.error) == ("container", "container_broke")


def process_of(gateway: Gateway, session: Session) -> psutil.Process:
    port = gateway.services.views.sessions[session.session_id].port
    (found,) = [
        child for child in psutil.Process().children(recursive=True) if f"--port {port}" in " ".join(child.cmdline())
    ]
    return found


async def test_a_frozen_container_is_a_time_out(tmp_path: Path) -> None:
    """Connected, and no answer: 504 after PROXY_READ_TIMEOUT, and the record says so."""
    async with start_gateway(tmp_path, {"PROXY_READ_TIMEOUT": "0.3"}) as gateway, nobody(gateway) as client:
        session = await gateway.open()
        process = process_of(gateway, session)
        process.suspend()
        try:
            answer = await client.get(session.path("echo"), headers=session.headers)
        finally:
            process.resume()
        assert (answer.status_code, answer.json()["type"]) == (504, "/problems/container-timed-out")
        (told,) = await gateway.payloads("exchange.completed")
        assert (told.status, told.ended_by, told.error) == (504, "container", "container_timed_out")


async def test_a_stopping_session_ends_its_streams(gateway: Gateway) -> None:
    """Nobody waits on a dead session: SSE and websocket end with it."""
    session = await gateway.open()
    async with (
        nobody(gateway) as client,
        websocket(gateway, session.path("ws"), headers=session.headers) as socket,
        client.stream("GET", session.path("event"), headers=session.headers) as answer,
    ):
        assert (await anext(answer.aiter_lines())).startswith("data: ")
        await gateway.stop(session)
        message = await socket.receive(10)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert socket.close_code == 1011
    closed = {each.kind: each for each in await gateway.payloads("exchange.closed")}
    assert set(closed) == {"sse", "websocket"}
    assert await gateway.services.docker.list_containers(all=True) == []
