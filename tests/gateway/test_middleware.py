"""Every answer names its request; spans and access lines say what they may and nothing else. On a real socket."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from gateway import context, telemetry
from gateway.server import Address
from gateway.telemetry import Telemetry, TelemetrySettings
from gateway.trace_context import extract
from tests.gateway import receivers
from tests.gateway.served import connected, get, reached, served

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"
SECRET = "gwt_Q0mR-t5Zx_9LkPz3aB7cD1eF2gH4iJ6k"


async def who(request: Request) -> Response:
    context.set_route("/sessions/{session_id}")
    context.set_session(request.path_params["session_id"])
    return PlainTextResponse(context.request_id(), headers={"X-Request-ID": "theirs", "traceparent": "theirs"})


async def broken(request: Request) -> Response:
    raise LookupError(f"no {SECRET}")


async def torn(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("torn")

    return StreamingResponse(parts())


async def upload(request: Request) -> Response:
    await request.body()
    raise LookupError("after the upload")


async def dated(request: Request) -> Response:
    return PlainTextResponse("x", headers={"date": "Tue, 15 Nov 1994 08:12:31 GMT"})


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close(4401)


async def refused(socket: WebSocket) -> None:
    await socket.close()


async def falls(socket: WebSocket) -> None:
    if socket.query_params.get("accepted"):
        await socket.accept()
    raise LookupError("socket")


# Plain routes: Starlette's own middleware would answer errors before ours.
APP = Starlette(
    routes=[
        Route("/sessions/{session_id}", who),
        Route("/broken", broken),
        Route("/torn", torn),
        Route("/upload", upload, methods=["POST"]),
        Route("/dated", dated),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/refused", refused),
        WebSocketRoute("/falls", falls),
    ]
).router


@pytest.fixture
def spans() -> Iterator[tuple[Telemetry, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    used = Telemetry(TelemetrySettings(), exporter=exporter)
    with used.in_use():
        yield used, exporter


Spans = tuple[Telemetry, InMemorySpanExporter]


async def ended(spans: Spans, count: int = 1) -> list[ReadableSpan]:
    used, exporter = spans
    async with asyncio.timeout(10):
        while len(exporter.get_finished_spans()) < count:
            assert await used.flush()
            await asyncio.sleep(0.005)
    await used.aclose()
    return list(exporter.get_finished_spans())


def access_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "session_gateway.access"]


async def test_an_answer_names_its_request_and_its_span(spans: Spans) -> None:
    async with served(APP) as (server, _):
        status, headers, body = await get(server.address, "/sessions/ses_1")
    (span,) = await ended(spans)
    assert status == 200
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
    assert body.decode() == headers["x-request-id"]
    told = extract([(b"traceparent", headers["traceparent"].encode())])
    assert told is not None
    assert span.context is not None
    assert (told.trace_id.hex(), told.span_id) == (headers["x-request-id"], span.context.span_id.to_bytes(8, "big"))


async def test_each_header_comes_once_and_is_ours() -> None:
    """A container, or a route, may have said others."""
    async with served(APP) as (server, _), connected(server.address) as client:
        await client.send("/sessions/ses_1", "x-request-id: req-abc123")
        _, headers = await client.head()
    assert [value for name, value in headers if name == "x-request-id"] == ["req-abc123"]
    assert len([value for name, value in headers if name == "traceparent" and value != "theirs"]) == 1


@pytest.mark.parametrize("target", ["/nowhere", "/broken"])
async def test_errors_are_named_too(target: str) -> None:
    async with served(APP) as (server, _):
        status, headers, _ = await get(server.address, target, "x-request-id: req-1")
    assert status in (404, 500)
    assert headers["x-request-id"] == "req-1"
    assert headers["traceparent"]


async def test_a_span_says_the_route_and_nothing_of_the_caller(spans: Spans) -> None:
    """Row G3: a tracing backend never gets a token, a query or a person."""
    async with served(APP) as (server, _):
        await get(
            server.address,
            f"/sessions/ses_1?auth_token={SECRET}",
            f"authorization: Bearer {SECRET}",
            "user-agent: someone",
            "x-request-id: req-1",
        )
    (span,) = await ended(spans)
    assert span.name == "GET /sessions/{session_id}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "gateway.request_id": "req-1",
        "http.route": "/sessions/{session_id}",
        "session.id": "ses_1",
        "http.response.status_code": 200,
    }
    assert SECRET not in span.to_json()


async def test_a_trusted_peers_trace_goes_on(spans: Spans) -> None:
    async with served(APP, trusts=lambda peer: peer == "127.0.0.1") as (server, _):
        _, headers, _ = await get(server.address, "/sessions/ses_1", PARENT)
    (span,) = await ended(spans)
    assert span.parent is not None
    assert headers["traceparent"].split("-")[1] == TRACE
    # Many requests may share the trace: the request's id is its own.
    assert headers["x-request-id"] != TRACE


async def test_another_peers_trace_is_only_linked(spans: Spans) -> None:
    async with served(APP) as (server, _):
        _, headers, _ = await get(server.address, "/sessions/ses_1", PARENT)
    (span,) = await ended(spans)
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE]
    assert headers["traceparent"].split("-")[1] == headers["x-request-id"] != TRACE


async def test_a_failure_is_told_to_us_once_and_not_to_the_caller(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(APP) as (server, _):
        status, headers, body = await get(server.address, "/broken")
    (span,) = await ended(spans)
    assert (status, headers["content-type"]) == (500, "application/problem+json")
    assert b"LookupError" not in body
    assert SECRET.encode() not in body
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert [record.name for record in tracebacks] == ["session_gateway.middleware"]
    assert span.status.is_ok is False
    assert (span.attributes or {})["error.type"] in ("LookupError", "500")
    assert SECRET not in span.to_json()


async def test_a_failure_after_the_upload_is_answered_at_once() -> None:
    """Nothing is left to be read; waiting for it would make every such answer a second late."""
    async with served(APP) as (server, _), connected(server.address) as client:
        async with asyncio.timeout(0.9):
            await client.send("/upload", "content-length: 3", method="POST", body=b"abc")
            status, _ = await client.head()
    assert status == 500


async def test_an_answer_that_fails_half_way_is_seen_as_torn(caplog: pytest.LogCaptureFixture) -> None:
    async with served(APP) as (server, _), connected(server.address) as client:
        await client.send("/torn")
        await client.head()
        rest = await client.rest()
    assert rest == b"4\r\nhalf\r\n"
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_each_request_has_one_access_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "session_gateway.access")
    async with served(APP) as (server, _):
        await get(server.address, f"/sessions/ses_1?auth_token={SECRET}")
        await get(server.address, f"/nowhere/{SECRET}")
    first, second = access_lines(caplog)
    told = {name: first.__dict__[name] for name in ("operation", "method", "route", "status", "bytes")}
    assert told == {
        "operation": "request",
        "method": "GET",
        "route": "/sessions/{session_id}",
        "status": 200,
        "bytes": 32,
    }
    assert 0 < first.__dict__["duration_ms"] < 10_000
    assert first.getMessage() == "GET /sessions/{session_id} 200"
    assert (second.__dict__["route"], second.__dict__["status"]) == (None, 404)
    assert SECRET not in f"{first.__dict__} {second.__dict__}"


async def test_a_method_of_the_clients_own_is_no_name_of_a_span(spans: Spans) -> None:
    """Span names and labels are counted by backends; a client may not invent them."""
    async with served(APP) as (server, _), connected(server.address) as client:
        await client.send("/sessions/ses_1", "connection: close", method="HACK")
        await client.rest()
    (span,) = await ended(spans)
    assert (span.attributes or {})["http.request.method"] == "_OTHER"
    assert "HACK" not in span.to_json()


async def test_an_answer_without_a_date_gets_one_and_one_with_keeps_it() -> None:
    """RFC 9110, section 6.6.1."""
    async with served(APP) as (server, _):
        _, given, _ = await get(server.address, "/sessions/ses_1")
        _, kept, _ = await get(server.address, "/dated")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", given["date"])
    assert kept["date"] == "Tue, 15 Nov 1994 08:12:31 GMT"


def ws(address: Address, path: str) -> str:
    return f"ws://{address}{path}"


async def test_a_websocket_is_one_request(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "session_gateway.access")
    async with served(APP) as (server, _), aiohttp.ClientSession() as session:
        async with session.ws_connect(ws(server.address, "/echo"), headers={"x-request-id": "req-1"}) as socket:
            assert socket._response.headers["x-request-id"] == "req-1"
            assert socket._response.headers["traceparent"]
            await socket.send_str("hello")
            assert await socket.receive_str() == "hello"
            await socket.receive()
            assert socket.close_code == 4401
        await reached(lambda: bool(access_lines(caplog)))
    (span,) = await ended(spans)
    (line,) = access_lines(caplog)
    assert (span.attributes or {})["http.response.status_code"] == 101
    told = line.__dict__
    assert (told["method"], told["status"], told["close_code"], told["bytes"]) == ("GET", 101, 4401, 5)


@pytest.mark.parametrize(("path", "status"), [("/refused", 403), ("/falls", 500)])
async def test_a_refused_handshake_is_named_too(path: str, status: int) -> None:
    async with served(APP) as (server, _), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await session.ws_connect(ws(server.address, path), headers={"x-request-id": "req-1"})
    assert refusal.value.status == status
    assert refusal.value.headers is not None
    assert refusal.value.headers["x-request-id"] == "req-1"


async def test_a_websocket_that_fails_is_closed_with_1011() -> None:
    async with (
        served(APP) as (server, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(ws(server.address, "/falls?accepted=1")) as socket,
    ):
        await socket.receive()
        assert socket.close_code == 1011


async def test_a_client_that_leaves_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Starlette raises ClientDisconnect in the route; nobody of ours has to be woken for it."""
    caplog.set_level("INFO", "session_gateway.access")
    async with served(APP) as (server, drain):
        async with connected(server.address) as client:
            await client.send("/upload", "content-length: 10", method="POST", body=b"abc")
            await reached(lambda: bool(drain.open()))
        await reached(lambda: bool(access_lines(caplog)))
    assert not [record for record in caplog.records if record.exc_info]
    assert access_lines(caplog)[0].__dict__["status"] is None


@pytest.mark.parametrize("kind", ["dead", "hung"])
async def test_no_request_waits_for_a_bad_receiver(kind: str) -> None:
    """Issue row 3: with the receiver away every request is answered, and none of them late."""
    with receivers.dead() if kind == "dead" else receivers.hung() as endpoint:
        async with receivers.delivering(endpoint, otel_bsp_max_queue_size=32) as used, served(APP) as (server, _):
            began = asyncio.get_running_loop().time()
            statuses = [(await get(server.address, "/sessions/ses_1"))[0] for _ in range(100)]
            took = asyncio.get_running_loop().time() - began
            assert used.delivery().delivered == 0
            assert used.delivery().waiting <= 32
    assert statuses == [200] * 100
    assert took < telemetry.EXPORT_SECONDS


async def test_a_request_is_followed_to_a_real_receiver() -> None:
    """Row G2: one id through answer and span."""
    async with receivers.otlp() as (endpoint, receiver), receivers.delivering(endpoint), served(APP) as (server, _):
        arriving = asyncio.ensure_future(receiver.await_trace(lambda got: got.name.startswith("GET"), 10))
        await asyncio.sleep(0)
        _, headers, _ = await get(server.address, "/sessions/ses_1", "x-request-id: req-1")
        span = await arriving
    assert span.trace_id.hex() == headers["traceparent"].split("-")[1]
    assert receivers.attributes(span)["gateway.request_id"] == "req-1"
    assert span.kind == 2
