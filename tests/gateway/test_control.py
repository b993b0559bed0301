"""The client for control calls: what it reads, what it raises, and how a stream goes on after a drop."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control import (
    Control,
    GatewayClient,
    GatewayRefused,
    GatewayUnreachable,
    ServerEvent,
    ServerEvents,
)
from tests.gateway.proxy.peers import Container, Peer, container

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
PROBLEM = b'{"type":"/problems/wrong-role","title":"No","status":403,"detail":"Never.","request_id":"r1"}'
WIRE = (
    b': ok\n\nid: 7\nevent: session.ready\ndata: {"a":1}\n\n'
    b"data: one\r\ndata: two \xe2\x80\xa8 three\r\n\r\nevent: nothing\n\nid: bad\0id\ndata:x\n\ndata: unfinished\n"
)
EVENTS = [
    ServerEvent("session.ready", '{"a":1}', "7"),
    ServerEvent("message", "one\ntwo \u2028 three", "7"),
    ServerEvent("message", "x", "7"),
]


def answer(status: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), b"connection: close", *headers, b"", body]
    return b"\r\n".join(lines)


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[Container, GatewayClient]]:
    """A gateway that gives its n-th connection the n-th answer, then hangs up; the last one again and again."""
    given_so_far = 0

    async def script(peer: Peer) -> None:
        nonlocal given_so_far
        number = given_so_far
        given_so_far += 1
        await peer.head()
        await peer.send(answers[min(number, len(answers) - 1)])

    async with container(script) as peers:
        url = f"http://{peers.address.host}:{peers.address.port}"
        async with GatewayClient(url, "gwk_key") as client:
            yield peers, client


@given(st.lists(st.integers(0, len(WIRE)), max_size=8))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    """Field by field as the standard says; U+2028 ends no line; an unfinished event is none."""
    reader, bounds = ServerEvents(), [0, *sorted(cuts), len(WIRE)]
    pieces = [WIRE[start:end] for start, end in itertools.pairwise(bounds)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fill the memory of whoever listens."""
    monkeypatch.setattr("gateway.control.MAX_LINE_BYTES", 10)
    with pytest.raises(GatewayUnreachable):
        list(ServerEvents().feed(b"data: 0123456789"))


async def test_a_call_sends_key_and_json_and_gives_the_body() -> None:
    async with answering(answer(b"200 OK", b'{"a":1}')) as (peers, client):
        assert await client.call("POST", "/sessions", body={"b": 2}, query=[("x", "y z")]) == b'{"a":1}'
        head = bytes(peers.peers[0].received)
    assert head.startswith(b"POST /sessions?x=y+z HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer gwk_key\r\n" in head.lower().replace(b"bearer", b"Bearer")
    assert b"\r\ncontent-type: application/json\r\n" in head.lower()


async def test_a_proxy_for_the_internet_does_not_see_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with answering(answer(b"200 OK", b"{}")) as (_, client):
        assert await client.call("GET", "/sessions") == b"{}"


@pytest.mark.parametrize(
    ("wire", "told"),
    [
        (answer(b"403 Forbidden", PROBLEM), "No: Never. (request r1)"),
        (answer(b"404 Not Found", b'{"name":"NotFoundError"}', b"x-request-id: r2"), "404 Not Found: "),
        (answer(b"502 Bad Gateway", b"<html>", b"x-request-id: r3"), "502 Bad Gateway: <html> (request r3)"),
        (answer(b"500 Internal Server Error", b""), "500 Internal Server Error"),
    ],
)
async def test_a_refusal_has_title_detail_and_request_id(wire: bytes, told: str) -> None:
    """Also one that is not ours: a container's, or some proxy's on the way."""
    async with answering(wire) as (_, client):
        with pytest.raises(GatewayRefused) as refused:
            await client.call("GET", "/sessions")
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize("wire", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", b"nonsense\r\n\r\n"])
async def test_an_answer_that_breaks_off_is_a_gateway_that_is_not_reached(wire: bytes) -> None:
    async with answering(wire) as (_, client):
        with pytest.raises(GatewayUnreachable):
            await client.call("GET", "/sessions")


async def test_where_nothing_listens_it_is_said_what_to_do() -> None:
    async with GatewayClient("http://127.0.0.1:1", "key") as client:
        with pytest.raises(GatewayUnreachable) as raised:
            await client.call("GET", "/sessions")
    told = "No gateway answers at http://127.0.0.1:1: start it there, or name another with --url."
    assert str(raised.value) == told


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://[bad"])
async def test_an_address_where_no_gateway_is(url: str) -> None:
    async with GatewayClient(url, "gwk_key") as client:
        with pytest.raises(GatewayUnreachable, match="gateway"):
            await client.call("GET", "/sessions")
        with pytest.raises(GatewayUnreachable, match="gateway"):
            async with client.events("/events/stream"):
                pass


async def test_a_stream_goes_on_behind_its_last_event() -> None:
    """Without gap or double: the server is told what was seen, also across a gateway that is starting (503)."""
    drops: list[str] = []
    answers = [
        STREAM + b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n",
        answer(b"503 Service Unavailable", b""),
        STREAM + b"id: 3\ndata: c\n\n",
    ]
    async with answering(*answers) as (peers, client):
        stream = client.follow("/events/stream", on_drop=drops.append, pauses=(0.0, 0.0, 0.0))
        async with aclosing(stream):
            seen = [(await anext(stream)).data for _ in range(3)]
        asked = [bytes(peer.received).lower() for peer in peers.peers]
    assert seen == ["a", "b", "c"]
    assert b"last-event-id" not in asked[0]
    assert all(b"\r\nlast-event-id: 2\r\n" in head for head in asked[1:3])
    assert len(drops) == 1


async def test_a_stream_that_was_read_too_slowly_goes_on_behind_its_last_event() -> None:
    """The gateway's word for it is told once, and is no event of the log."""
    drops: list[str] = []
    overrun = b'event: overrun\ndata: {"detail":"x"}\n\n'
    answers = [STREAM + b"id: 1\ndata: a\n\n" + overrun, STREAM + b"id: 2\ndata: b\n\n"]
    async with answering(*answers) as (peers, client):
        stream = client.follow("/events/stream", headers={"x-audit-purpose": "ü"}, on_drop=drops.append, pauses=(0.0,))
        async with aclosing(stream):
            seen = [(await anext(stream)).data for _ in range(2)]
        asked = [bytes(peer.received).lower() for peer in peers.peers]
    assert (seen, len(drops)) == (["a", "b"], 1)
    assert "too slowly" in drops[0]
    assert b"\r\nlast-event-id: 1\r\n" in asked[1]
    assert all("\r\nx-audit-purpose: ü\r\n".encode() in head for head in asked), "UTF-8, each time"


@pytest.mark.parametrize(
    ("answers", "raised"),
    [
        ([b""], GatewayUnreachable),
        ([answer(b"503 Service Unavailable", b"")], GatewayRefused),
        ([STREAM + b"id: 1\ndata: a\n\n", b""], GatewayUnreachable),
        ([STREAM + b"id: 1\ndata: a\n\n", answer(b"403 Forbidden", PROBLEM)], GatewayRefused),
    ],
    ids=["never-begun", "never-begun-503", "not-back", "not-allowed-any-more"],
)
async def test_a_stream_that_cannot_go_on_says_so(answers: list[bytes], raised: type[Exception]) -> None:
    async with answering(*answers) as (_, client):
        stream = client.follow("/events/stream", on_drop=lambda _: None, pauses=(0.0, 0.0))
        async with aclosing(stream):
            with pytest.raises(raised):
                async for _ in stream:
                    pass


async def test_a_silent_stream_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is gone without a word would be waited on for ever."""
    monkeypatch.setattr("gateway.control.SILENCE_SECONDS", 0.05)

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(STREAM)
        await peer.gone()

    async with (
        container(script) as peers,
        GatewayClient(f"http://127.0.0.1:{peers.address.port}", "gwk_key") as client,
        client.events("/events/stream") as events,
    ):
        with pytest.raises(GatewayUnreachable):
            await anext(aiter(events))


@pytest.mark.parametrize(
    ("wire", "ready"),
    [
        (answer(b"200 OK", b'{"healthy":true,"version":"1"}'), True),
        (answer(b"200 OK", b'{"healthy":false,"version":"1"}'), False),
        (answer(b"200 OK", b"<!doctype html>"), False),
        (answer(b"401 Unauthorized", b""), False),
        (b"", False),
    ],
    ids=["healthy", "unhealthy", "page", "refused", "hung-up"],
)
async def test_a_container_is_ready_when_it_says_so_in_json(wire: bytes, ready: bool) -> None:
    """An unknown path of OpenCode answers 200 with a page."""
    async with answering(wire) as (peers, _), Control() as control:
        assert await control.is_ready(peers.address, b"Basic x") is ready


async def test_a_container_that_never_answers_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.TRY_SECONDS", 0.05)

    async def script(peer: Peer) -> None:
        await peer.gone()

    async with asyncio.timeout(5), container(script) as peers, Control() as control:
        assert not await control.is_ready(peers.address, b"Basic x")
