"""The echo agent on the wire. What a proxy did is judged by what it says, so it must say exactly what came."""

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from tests.docker.echo_process import EchoProcess, basic, echo_process


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[EchoProcess]:
    async with echo_process(tmp_path) as running:
        yield running


@pytest.fixture
async def client(agent: EchoProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=agent.url, timeout=10) as opened:
        yield opened


async def next_event(lines: AsyncIterator[str]) -> dict[str, Any]:
    async with asyncio.timeout(10):
        async for line in lines:
            if line:
                assert line.startswith("data: "), line
                return dict(json.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream ended")


async def test_health_has_opencodes_shape(client: httpx.AsyncClient) -> None:
    """Readiness is the JSON body, never the status alone."""
    answer = await client.get("/global/health")
    assert (answer.status_code, answer.json()) == (200, {"healthy": True, "version": "echo-1"})


async def test_an_unknown_path_is_a_page_with_200(client: httpx.AsyncClient) -> None:
    """OpenCode does so: a probe of a wrong path must not look healthy by its status."""
    answer = await client.get("/health")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/global/health", "/", "/echo", "/event", "/ws", "/session"])
async def test_with_a_password_everything_wants_it(tmp_path: Path, path: str) -> None:
    environment = {"OPENCODE_SERVER_PASSWORD": "pass:word"}
    async with (
        echo_process(tmp_path, environment=environment) as agent,
        httpx.AsyncClient(base_url=agent.url) as client,
    ):
        for headers in ({}, basic("opencode", "wrong"), basic("other", "pass:word"), {"authorization": "Bearer x"}):
            refused = await client.get(path, headers=headers)
            assert (refused.status_code, refused.content) == (401, b"")
            assert refused.headers["www-authenticate"] == 'Basic realm="Secure Area"'
        token = base64.b64encode(b"opencode:pass:word").decode()
        assert (await client.get("/echo", headers=basic("opencode", "pass:word"))).status_code == 200
        assert (await client.get("/echo", params={"auth_token": token})).status_code == 200


async def test_a_user_name_replaces_the_default(tmp_path: Path) -> None:
    environment = {"OPENCODE_SERVER_PASSWORD": "secret", "OPENCODE_SERVER_USERNAME": "somebody"}
    async with (
        echo_process(tmp_path, environment=environment) as agent,
        httpx.AsyncClient(base_url=agent.url) as client,
    ):
        assert (await client.get("/echo", headers=basic("opencode", "secret"))).status_code == 401
        assert (await client.get("/echo", headers=basic("somebody", "secret"))).status_code == 200


async def test_echo_tells_target_and_headers_as_they_came(agent: EchoProcess) -> None:
    """Order, letter case, repetition, percent signs and bytes above ASCII are what proxies change."""
    answered = await agent.talk(
        b"PROPFIND /echo/a%2Fb//../c?x=%20&x HTTP/1.1\r\nhOsT: here\r\nX-Twice: 1\r\nx-twice: 2\r\nX-Raw:\t\xe9 \r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\n\x00\xffz"
    )
    seen = json.loads(answered.partition(b"\r\n\r\n")[2])
    assert (seen["method"], seen["target"]) == ("PROPFIND", "/echo/a%2Fb//../c?x=%20&x")
    assert seen["headers"][:4] == [["hOsT", "here"], ["X-Twice", "1"], ["x-twice", "2"], ["X-Raw", "\xe9"]]
    assert base64.b64decode(seen["body_base64"]) == b"\x00\xffz"


async def test_requests_follow_each_other_on_one_connection(agent: EchoProcess) -> None:
    """Pipelined: a body that is chunked with a trailer, one that no handler reads, and the last one."""
    answered = await agent.talk(
        b"POST /echo/1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: 1\r\n\r\n",
        b"GET /global/health HTTP/1.1\r\nContent-Length: 4\r\n\r\nleft",
        b"HEAD /echo/2 HTTP/1.1\r\nConnection: close\r\n\r\n",
    )
    assert answered.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert b'"body": "abcd"' in answered
    assert answered.endswith(b"connection: close\r\n\r\n"), "an answer to HEAD has no body"


async def test_the_body_is_asked_for_when_the_client_waits(agent: EchoProcess) -> None:
    """RFC 9110, section 10.1.1: 100 Continue first, and no waiting for a body that was not asked for."""
    head = b"HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    asked = await agent.talk(b"POST /echo " + head, b"hiGET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b'"body": "hi"' in asked
    assert (await agent.talk(b"GET /global/health " + head)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "bad",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /session HTTP/1.1\r\nContent-Length: 5\r\n\r\n{bad}",
        b"POST /session HTTP/1.1\r\nContent-Length: 1\r\n\r\n5",
        b"GET /ws HTTP/1.1\r\n\r\n",
        b"GET /slow?ms=soon HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_not_understood_is_a_400(agent: EchoProcess, bad: bytes) -> None:
    good = b"GET /global/health HTTP/1.1\r\n\r\n"
    answered = await agent.talk(good, bad)
    assert b"HTTP/1.1 400 Bad Request\r\nconnection: close" in answered


async def test_a_body_comes_back_while_it_is_sent(agent: EchoProcess) -> None:
    """A proxy that gathers a body before it forwards it would stand still here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
    writer.write(b"POST /echo/raw HTTP/1.1\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-type: text/x" in head
        assert await reader.readexactly(10) == b"5\r\nfirst\r\n"
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        assert await reader.readexactly(16) == b"6\r\nsecond\r\n0\r\n\r\n"
    writer.close()
    await writer.wait_closed()


async def test_bytes_are_streamed_and_can_break_off(agent: EchoProcess, client: httpx.AsyncClient) -> None:
    """A truncated answer must be seen as truncated: no last chunk."""
    assert len((await client.get("/bytes", params={"n": 200_000, "chunk": 999})).content) == 200_000
    broken = await agent.talk(b"GET /bytes?n=10&cut=4 HTTP/1.1\r\n\r\n")
    assert broken.endswith(b"4\r\nxxxx\r\n")


async def test_slow_answers_after_that_time(client: httpx.AsyncClient) -> None:
    begun = asyncio.get_running_loop().time()
    assert (await client.get("/slow", params={"ms": 150})).status_code == 200
    assert asyncio.get_running_loop().time() - begun >= 0.15


async def test_a_client_that_leaves_is_noticed_at_once(agent: EchoProcess, client: httpx.AsyncClient) -> None:
    """By these figures a test sees that a proxy hangs up: within 100 ms, as promised, with room for a busy machine."""
    writers = []
    for path in (b"/event", b"/slow?ms=60000"):
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.write(b"GET " + path + b" HTTP/1.1\r\n\r\n")
        writers.append(writer)
        if path == b"/event":
            await reader.readuntil(b"server.connected")
    assert (await client.get("/stats")).json() == {"connections": 3, "events": 1}
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    deadline = asyncio.get_running_loop().time() + 2
    while (open_now := (await client.get("/stats")).json()) != {"connections": 1, "events": 0}:
        assert asyncio.get_running_loop().time() < deadline, open_now


async def test_sessions_outlive_the_process_on_the_same_home(tmp_path: Path) -> None:
    """What a resumed session must still list."""
    async with echo_process(tmp_path) as agent, httpx.AsyncClient(base_url=agent.url) as client:
        assert (await client.get("/session")).json() == []
        made = (await client.post("/session", json={"title": "kept"})).json()
        await client.post(f"/session/{made['id']}/message", json={"parts": [{"type": "text", "text": "hello"}]})
    async with echo_process(tmp_path) as agent, httpx.AsyncClient(base_url=agent.url) as client:
        assert (await client.get("/session")).json() == [made]
        assert (await client.get(f"/session/{made['id']}")).json() == made
        messages = (await client.get(f"/session/{made['id']}/message")).json()
        assert [message["parts"][0]["text"] for message in messages] == ["hello", "You said: hello"]


async def test_an_unknown_session_or_terminal_is_opencodes_404(client: httpx.AsyncClient) -> None:
    for path in ("/session/ses_none", "/session/ses_none/message", "/pty/pty_none/connect"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["name"]) == (404, "NotFoundError")


async def test_a_turn_is_answered_and_told_to_every_listener(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/event") as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        lines = stream.aiter_lines()
        first = await next_event(lines)
        assert (first["type"], first["properties"]) == ("server.connected", {})
        session = (await client.post("/session", json={"title": "t"})).json()
        said = {"parts": [{"type": "text", "text": "good day"}, {"type": "file"}]}
        answer = (await client.post(f"/session/{session['id']}/message", json=said)).json()
        assert answer["info"]["role"] == "assistant"
        assert answer["info"]["finish"] == "stop"
        assert [(part["type"], part["text"]) for part in answer["parts"]] == [("text", "You said: good day")]
        told = [await next_event(lines) for _ in range(10)]
    deltas = [event["properties"]["delta"] for event in told if event["type"] == "message.part.delta"]
    assert deltas == ["You ", "said: ", "good ", "day "]
    assert [event["type"] for event in told if "delta" not in event["type"]] == [
        "session.created",
        "session.status",
        "message.updated",
        "message.part.updated",
        "message.updated",
        "session.idle",
    ]


async def test_an_event_stream_beats(tmp_path: Path) -> None:
    async with (
        echo_process(tmp_path, "--heartbeat", "0.05") as agent,
        httpx.AsyncClient(base_url=agent.url) as client,
        client.stream("GET", "/event") as stream,
    ):
        lines = stream.aiter_lines()
        told = [(await next_event(lines))["type"] for _ in range(3)]
    assert told == ["server.connected", "server.heartbeat", "server.heartbeat"]


async def test_websocket_messages_come_back_as_they_are(agent: EchoProcess) -> None:
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(f"{agent.url}/ws", protocols=("first", "second"), max_msg_size=0)
        assert socket.protocol == "first"
        await socket.send_str("grüße")
        assert await socket.receive_str(timeout=10) == "grüße"
        for size in (0, 125, 126, 65_535, 65_536, 1_000_000):
            await socket.send_bytes(b"z" * size)
            assert len(await socket.receive_bytes(timeout=10)) == size
        await socket.close(code=4321, message=b"done")
        assert socket.close_code == 4321


async def test_websocket_closes_as_told(agent: EchoProcess) -> None:
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(f"{agent.url}/ws")
        await socket.send_str("close 4001 no more of this")
        closed = await socket.receive(timeout=10)
        assert (closed.type, closed.data, closed.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "no more of this")


async def test_websocket_frames_on_the_wire(agent: EchoProcess) -> None:
    """A message in fragments with a ping between them; the answer in fragments; the peer's close answered."""
    upgrade = b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    none = b"\x00\x00\x00\x00"
    answered = await agent.talk(
        b"GET /ws?fragment=2 HTTP/1.1\r\n" + upgrade,
        b"\x01\x82" + none + b"ab" + b"\x89\x81" + none + b"!" + b"\x80\x81\x01\x02\x03\x04" + bytes([ord("c") ^ 1]),
        b"\x88\x82" + none + b"\x03\xe8",
    )
    head, _, frames = answered.partition(b"\r\n\r\n")
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # the example of RFC 6455, section 1.3
    assert frames == b"\x8a\x01!" + b"\x01\x02ab" + b"\x80\x01c" + b"\x88\x02\x03\xe8"


async def test_a_terminal_gives_each_line_back_and_shows_it_again(
    agent: EchoProcess, client: httpx.AsyncClient
) -> None:
    """As OpenCode's: text is what the terminal shows, and one binary frame says where the replay ends."""
    name = (await client.post("/pty", json={"command": "/bin/sh"})).json()["id"]
    async with aiohttp.ClientSession() as session:
        for replayed in ("", "one\r\n"):
            socket = await session.ws_connect(f"{agent.url}/pty/{name}/connect")
            assert await socket.receive_str(timeout=10) == replayed
            cursor = await socket.receive_bytes(timeout=10)
            assert (cursor[:1], json.loads(cursor[1:])) == (b"\x00", {"cursor": len(replayed)})
            if not replayed:
                await socket.send_str("on")
                await socket.send_str("e\rtwo")
                assert await socket.receive_str(timeout=10) == "one\r\n"
            await socket.close()


async def test_exit_answers_first_and_then_ends(agent: EchoProcess) -> None:
    answered = await agent.talk(b"POST /exit?code=7 HTTP/1.1\r\n\r\n")
    assert answered.endswith(b'{"exit": 7}')
    assert await asyncio.wait_for(agent.process.wait(), 10) == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_signal_ends_it_at_once(agent: EchoProcess, number: signal.Signals, code: int) -> None:
    """With a code of its own, not by the signal: process 1 of a container gets no default action."""
    _, writer = await asyncio.open_connection("127.0.0.1", agent.port)
    writer.write(b"GET /event HTTP/1.1\r\n\r\n")
    agent.process.send_signal(number)
    assert await asyncio.wait_for(agent.process.wait(), 5) == code
    writer.close()
