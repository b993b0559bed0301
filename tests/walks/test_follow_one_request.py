"""One request, found again by its id everywhere it left something: answer, log lines, events and spans."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from oteltap import OtelTapHttpProtobufReceiver

from events.envelope import RecordedEvent
from gateway import context
from gateway.span import EVENT_POSITIONS
from tests.event_fixtures import LogDatabase
from tests.gateway import receivers
from tests.walks import process
from tests.walks.process import GatewayProcess

REQUEST_ID: Final = "walk-4711"
PROMPT: Final = 2.0  # seconds; a request takes some milliseconds, and a receiver that hangs holds an export for 5
REQUESTS: Final = 30

pytestmark = pytest.mark.postgres


class Spans:
    """The spans that a receiver gets."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    async def follow(self, receiver: OtelTapHttpProtobufReceiver) -> None:
        """Until cancelled."""
        async for span in receiver.stream_traces():
            self.all.append(span)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.all if span.name == name]


@asynccontextmanager
async def followed(log: LogDatabase, data_dir: Path) -> AsyncIterator[tuple[GatewayProcess, Spans]]:
    """A gateway that sends its spans to a real receiver."""
    async with receivers.otlp() as (endpoint, receiver):
        spans = Spans()
        following = asyncio.create_task(spans.follow(receiver))
        try:
            async with process.serving(data_dir, process.on_database(log) | _telemetry(endpoint)) as gateway:
                yield gateway, spans
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_proxied_request_is_found_by_its_id(empty_log: LogDatabase, data_dir: Path) -> None:
    """The caller's own id is kept; the span that wrote its record names the record's place in the log."""
    async with followed(empty_log, data_dir) as (gateway, spans), gateway.client() as client:
        session = await gateway.open(client)
        headers = {**session.headers, "x-request-id": REQUEST_ID}
        answer = await client.get(session.path("echo/here"), headers=headers)
        assert answer.json()["target"] == "/echo/here"
        trace_id = _answered(answer, REQUEST_ID)
        seen = {name.lower(): value for name, value in answer.json()["headers"]}
        assert seen["x-request-id"] == REQUEST_ID, "the agent can name it too"
        assert await gateway.stop() == 0
        line = _access_line(gateway, REQUEST_ID)
        assert (line["route"], line["status"], line["session_id"]) == (
            "/s/{session_id}/{path}",
            200,
            session.session_id,
        )
        (event,) = await _events_of(gateway, REQUEST_ID, trace_id)
        assert event.type == "exchange.completed"

        server = _span_with_id(spans, line["span_id"])
        upstream = next(span for span in spans.named("proxy.upstream") if span.parent_span_id == server.span_id)
        assert server.trace_id.hex() == upstream.trace_id.hex() == line["trace_id"] == trace_id
        assert receivers.attributes(server)["gateway.request_id"] == REQUEST_ID
        assert event.span_id == server.span_id
        assert seen["traceparent"].split("-")[1:3] == [trace_id, upstream.span_id.hex()]
        recorded = [receivers.attributes(span).get(EVENT_POSITIONS, []) for span in spans.named("exchanges.record")]
        assert [event.position] in recorded


async def test_a_command_is_found_by_its_id_in_all_that_it_caused(empty_log: LogDatabase, data_dir: Path) -> None:
    """Opening a session goes on behind the answer; its steps still carry the request's id and trace."""
    async with followed(empty_log, data_dir) as (gateway, spans), gateway.client() as client:
        opened = await client.post("/sessions", headers={"prefer": "wait=30"})
        assert opened.status_code == 201
        request_id = opened.headers["x-request-id"]
        trace_id = _answered(opened, request_id)
        assert await gateway.stop() == 0
        line = _access_line(gateway, request_id)
        assert (line["route"], line["status"], line["trace_id"]) == ("/sessions", 201, trace_id)
        events = await _events_of(gateway, request_id, trace_id)
        assert {event.type for event in events} >= {
            "session.requested",
            "token.issued",
            "admission.granted",
            "container.created",
            "container.started",
            "session.ready",
        }
        server = _span_with_id(spans, line["span_id"])
        assert server.name == "POST /sessions"
        carried = next(span for span in spans.named("session.open") if span.trace_id == server.trace_id)
        named = {
            position
            for span in spans.all
            if span.trace_id == server.trace_id
            for position in receivers.attributes(span).get(EVENT_POSITIONS, [])
        }
        assert named == {event.position for event in events}, "each event is named by a span of the same trace"
        assert {event.span_id for event in events} == {server.span_id, carried.span_id}


@pytest.mark.parametrize("receiver", ["dead", "hung", "refusing"])
async def test_no_request_waits_for_a_receiver_that_fails(
    empty_log: LogDatabase, data_dir: Path, receiver: str
) -> None:
    """Telemetry may cost spans, never an answer, and not the end of the process either."""
    async with (
        _broken(receiver) as endpoint,
        process.serving(data_dir, process.on_database(empty_log) | _telemetry(endpoint)) as gateway,
    ):
        async with gateway.client() as client:
            session = await gateway.open(client)
            longest = max([await _seconds(client, session.path("echo"), session.headers) for _ in range(REQUESTS)])
        began = time.monotonic()
        assert await gateway.stop() == 0
        assert time.monotonic() - began < 10
    assert longest < PROMPT
    assert len([line for line in gateway.lines if "spans cannot be delivered" in line["message"]]) <= 1
    log = await process.read_log(gateway)
    assert len(process.payloads(log, "exchange.completed")) == REQUESTS
    assert log[-1].type == "gateway.stopped"
    assert gateway.other == []


def _telemetry(endpoint: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "10"}


def _answered(answer: httpx.Response, request_id: str) -> str:
    """The trace id in the answer's headers."""
    assert answer.headers["x-request-id"] == request_id
    version, trace_id, _, flags = answer.headers["traceparent"].split("-")
    assert (version, flags) == ("00", "01")
    return str(trace_id)


def _access_line(gateway: GatewayProcess, request_id: str) -> dict[str, Any]:
    """The one line of the access log; every line of the request has its id."""
    lines = [line for line in gateway.lines if line["request_id"] == request_id]
    (access,) = [line for line in lines if line["logger"] == "session_gateway.access"]
    return access


async def _events_of(gateway: GatewayProcess, request_id: str, trace_id: str) -> list[RecordedEvent]:
    """The events that carry the request's id; they carry its trace too."""
    wanted = context.correlation_id_of(request_id)
    found = [event for event in await process.read_log(gateway) if event.correlation_id == wanted]
    assert {event.trace_id.hex() for event in found if event.trace_id} == {trace_id}
    return found


def _span_with_id(spans: Spans, span_id: str) -> Any:
    (found,) = [span for span in spans.all if span.span_id.hex() == span_id]
    return found


async def _seconds(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> float:
    began = time.monotonic()
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 200
    return time.monotonic() - began


@asynccontextmanager
async def _broken(kind: str) -> AsyncIterator[str]:
    made: AbstractContextManager[str] | AbstractAsyncContextManager[str]
    if kind == "refusing":
        async with receivers.refusing(b"500 Internal Server Error") as endpoint:
            yield endpoint
        return
    made = receivers.dead() if kind == "dead" else receivers.hung()
    with made as endpoint:
        yield endpoint
