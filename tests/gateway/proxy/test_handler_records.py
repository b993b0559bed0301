"""What the log says of what was proxied: every exchange, whole and right, and nothing that is private in clear."""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from events.codec import decode_actor, leaf_bytes
from events.envelope import ActorKind, RecordedEvent, container_stream
from events.sealing import ERASED
from gateway.access.roles import Role
from gateway.api import shapes
from projections.asof import as_of, session_as_of
from projections.session_state import Sessions
from projections.views import Views
from tests.event_fixtures import until
from tests.gateway.clients import CLIENT_HOST, HANDSHAKE, nobody, websocket
from tests.gateway_fixtures import Gateway, Session


async def completed(gateway: Gateway) -> Any:
    """The record of the one exchange so far."""
    (told,) = await gateway.payloads("exchange.*")
    return told


Figures = tuple[int, int, int, str, str | None]  # status, bytes in, bytes out, ended by, error
EXCHANGES: tuple[tuple[str, str, bytes, Figures], ...] = (
    ("GET", "bytes?n=70000&chunk=1000", b"", (200, 0, 70_000, "container", None)),
    ("POST", "echo/raw", b"x" * 5000, (200, 5000, 5000, "container", None)),
    ("PUT", "echo/raw", b"", (200, 0, 0, "container", None)),
    ("HEAD", "some/page", b"", (200, 0, 0, "container", None)),
    ("GET", "session/none", b"", (404, 0, 64, "container", None)),
    ("PURGE", "echo/raw", b"abc", (200, 3, 3, "container", None)),
    ("GET", "bytes?n=100&cut=50&chunk=50", b"", (200, 0, 50, "container", "container_broke")),
)


async def test_an_exchange_is_an_event_with_its_figures(gateway: Gateway) -> None:
    """Status, bytes both ways, who ended it; a cut answer is told as cut, also to the client."""
    session = await gateway.open()
    async with nobody(gateway) as client:
        for method, path, body, figures in EXCHANGES:
            try:
                answer = await client.request(method, session.path(path), headers=session.headers, content=body or None)
            except httpx.RemoteProtocolError:
                assert figures[4] == "container_broke"
            else:
                assert (answer.status_code, len(answer.content)) == (figures[0], figures[2]), path
                assert figures[4] is None
    told = await gateway.payloads("exchange.*")
    for record, (method, path, _, figures) in zip(told, EXCHANGES, strict=True):
        assert (record.status, record.bytes_in, record.bytes_out, record.ended_by, record.error) == figures, path
        assert (record.method, record.session_id) == (method, session.session_id)
        assert 0 < record.first_byte_us <= record.duration_us


async def test_an_exchange_can_be_followed_from_its_request(gateway: Gateway) -> None:
    """The id of the answer is the event's correlation id; actor, trace and stream say who, where and of which."""
    session = await gateway.open()
    request_id = "01934f3c-7b2a-7c3e-8a54-1f0e6b6a9d02"
    async with nobody(gateway) as client:
        answer = await client.get(session.path("echo"), headers={**session.headers, "x-request-id": request_id})
    (event,) = await gateway.log("exchange.completed")
    assert answer.headers["x-request-id"] == request_id
    assert event.correlation_id == UUID(request_id)
    assert event.trace_id is not None and answer.headers["traceparent"].split("-")[1] == event.trace_id.hex()
    (issued,) = await gateway.log("token.issued")
    assert event.causation_id == issued.event_id  # which token was shown
    actor = decode_actor(event)
    assert (actor.kind, actor.id, actor.on_behalf_of) == (ActorKind.SESSION, session.session_id, None)
    assert event.stream_id == container_stream(gateway.services.views.sessions[session.session_id].container)


async def test_a_client_that_leaves_is_told_as_such(gateway: Gateway) -> None:
    session = await gateway.open()
    async with nobody(gateway) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(session.path("slow?ms=20000"), headers=session.headers, timeout=0.2)

    async def told() -> bool:
        return bool(await gateway.log("exchange.*"))

    await until(told)
    record = await completed(gateway)
    assert (record.status, record.ended_by, record.error, record.bytes_out) == (499, "client", "client_left", 0)


async def test_a_stream_is_opened_and_closed(gateway: Gateway) -> None:
    """Its beginning is in the log while it lasts; the end has the same id and what went through."""
    session = await gateway.open()
    async with nobody(gateway) as client:
        async with client.stream("GET", session.path("event"), headers=session.headers) as answer:
            first = await anext(answer.aiter_raw())
            opened = await completed(gateway)
            assert (opened.kind, opened.method) == ("sse", "GET")

        async def closed() -> bool:
            return bool(await gateway.log("exchange.closed"))

        await until(closed)
    (beginning,), (end,) = await gateway.log("exchange.opened"), await gateway.log("exchange.closed")
    assert end.causation_id == beginning.event_id
    (told,) = await gateway.payloads("exchange.closed")
    assert (told.exchange_id, told.kind, told.status) == (opened.exchange_id, "sse", 200)
    assert (told.ended_by, told.error, told.bytes_in) == ("client", "client_left", 0)
    assert told.bytes_out >= len(first)
    assert await gateway.log("exchange.completed") == []


async def test_a_websocket_is_opened_and_closed(gateway: Gateway) -> None:
    """Status is the close code that ended it, from whichever side; bytes are those of the messages."""
    session = await gateway.open()
    cases = [
        ("close 4002 enough", 0, 4002, "container"),
        ("hello", 4001, 4001, "client"),
        ("hello", 1000, 1000, "client"),
    ]
    for nth, (said, code, status, ended_by) in enumerate(cases, start=1):
        async with websocket(gateway, session.path("ws"), headers=session.headers) as socket:
            await socket.send_str(said)
            if ended_by == "container":
                assert (await socket.receive(10)).data == 4002
            else:
                assert await socket.receive_str() == said
                await socket.close(code=code)

        async def closed(times: int = nth) -> bool:
            return len(await gateway.log("exchange.closed")) == times

        await until(closed)
        opened, told = (await gateway.payloads("exchange.*"))[-2:]
        assert (opened.kind, opened.exchange_id) == ("websocket", told.exchange_id)
        assert (told.status, told.ended_by, told.error) == (status, ended_by, None)
        assert (told.bytes_in, told.bytes_out) == (len(said), 0 if ended_by == "container" else len(said))


async def test_a_handshake_that_the_container_refuses_is_an_exchange(gateway: Gateway) -> None:
    session = await gateway.open()
    async with nobody(gateway) as client:
        answer = await client.get(session.path("pty/none/connect"), headers={**session.headers, **HANDSHAKE})
    assert (answer.status_code, answer.json()["name"]) == (404, "NotFoundError")
    told = await completed(gateway)
    assert (told.status, told.bytes_out, told.ended_by) == (404, len(answer.content), "container")


OWNER, ROOM, BEHALF = "Ada-Lovelace-1815", "blue-room-metadata", "Zoe-Behalf"
SECRET_PATH, QUERY, BODY, SPOKEN = "letters-to-bob", "query-value-17", "body-text-4711", "spoken-word-42"
REPEAT = "repeat-key-99"


async def busy_day(gateway: Gateway) -> tuple[Session, list[str]]:
    """One session with everything in it; what must stand nowhere in the log."""
    frontend = await gateway.key(Role.FRONTEND)
    owner = {"owner": OWNER, "metadata": {"room": ROOM}}
    asked = {**frontend, "idempotency-key": REPEAT, "x-on-behalf-of": BEHALF}
    session = await gateway.open(owner, headers=asked)
    credential = gateway.services.tokens.credential(gateway.services.views.sessions[session.session_id].container)
    async with nobody(gateway) as client:
        path = session.path(f"echo/{SECRET_PATH}?q={QUERY}&auth_token={session.token}")
        await client.post(path, headers=session.headers, content=BODY)
        await client.get(session.path("echo"), headers={"authorization": f"Bearer {session.token}no"})
        await client.get("/sessions", headers={"authorization": "Bearer gwk_wrong_key-of-nobody"})
        await client.get(f"/sessions/{session.session_id}?q={QUERY}", headers=frontend)
        async with client.stream("GET", session.path(f"event?q={QUERY}"), headers=session.headers) as answer:
            await anext(answer.aiter_raw())
    protocols = (f"session-token.{session.token}", "session-gateway")
    async with websocket(gateway, session.path(f"ws?q={QUERY}"), protocols=protocols) as socket:
        await socket.send_str(SPOKEN)
        await socket.receive_str()
    await gateway.client.post(f"/sessions/{session.session_id}/token", headers=frontend)

    async def closed() -> bool:
        return len(await gateway.log("exchange.closed")) == 2

    await until(closed)
    keys = [str(headers["authorization"]).removeprefix("Bearer ") for headers in (frontend, gateway.client.headers)]
    private = [OWNER, ROOM, BEHALF, SECRET_PATH, QUERY, BODY, SPOKEN, REPEAT, CLIENT_HOST, "key-of-nobody"]
    return session, [*private, session.token, session.token.removeprefix("gwt_"), credential, *keys]


def clear_text(events: list[RecordedEvent]) -> str:
    """All that the log holds of these events, as a reader of its bytes sees it; escapes resolved."""
    raw = [leaf_bytes(event) + event.payload + event.actor + event.stream_id.encode() for event in events]
    text = b"\n".join(raw).decode()
    return text + "\n".join(json.dumps(json.loads(event.payload), ensure_ascii=False) for event in events)


async def test_nothing_private_stands_in_the_log_in_clear(gateway: Gateway) -> None:
    """Tokens, keys, credentials, bodies, query values; owner, metadata, person, path and client address sealed."""
    session, private = await busy_day(gateway)
    text = clear_text(await gateway.log())
    assert session.session_id in text, "it was looked into"
    assert [each for each in private if each in text] == []


async def test_an_erased_subject_is_opened_nowhere_and_the_log_still_folds(gateway: Gateway) -> None:
    """The bytes stand as they were, so every hash holds; nothing of the subject's comes out of them any more."""
    session, private = await busy_day(gateway)
    before = await gateway.log()
    shown = [event async for event in _open(gateway, before)]
    assert OWNER in json.dumps(shown) and SECRET_PATH in json.dumps(shown) and CLIENT_HOST in json.dumps(shown)
    erased = await gateway.services.keyring.erase(OWNER)
    assert len(erased) == 1
    await gateway.services.keyring.erase(BEHALF)
    async with nobody(gateway) as client:
        answer = await client.get(session.path(f"echo/{SECRET_PATH}"), headers=session.headers)
        assert answer.status_code == 200, "the session lives on"
    after = await gateway.log()
    assert [leaf_bytes(event) for event in after[: len(before)]] == [leaf_bytes(event) for event in before]
    text = json.dumps([event async for event in _open(gateway, after)], ensure_ascii=False) + clear_text(after)
    left = [each for each in private if each in text]
    assert left == [CLIENT_HOST], "the denials' addresses belong to nobody we know, and have a subject of their own"
    day = next(iter({event.recorded_at.date() for event in after if event.type == "access.denied"}))
    assert await gateway.services.keyring.erase(f"unattributed:{day}")
    text = json.dumps([event async for event in _open(gateway, after)])
    assert CLIENT_HOST not in text and ERASED in text
    await _folds_alike(gateway, session.session_id)


async def _open(gateway: Gateway, events: list[RecordedEvent]) -> Any:
    for view in await shapes.events(events, gateway.services.keyring):
        yield [view.payload, view.actor]


async def _folds_alike(gateway: Gateway, session_id: str) -> None:
    """From nothing, as of the head and as it was followed: one state."""
    store, live = gateway.services.store, gateway.services.views
    await live.catch_up_to_head()
    again = Views(store)
    await again.load()
    assert dict(again.sessions) == dict(live.sessions)
    assert await as_of(store, Sessions(), live.position) == dict(live.sessions)
    assert await session_as_of(store, session_id, live.position) == live.sessions[session_id]
    assert live.sessions[session_id].anomalies == 0
