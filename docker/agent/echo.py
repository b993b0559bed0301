"""The echo agent: what a session runs where OpenCode is not at hand, and the peer that the tests talk to.

A plain file of the standard library (``python3 echo.py --host H --port P``), the same in an image and as a local
process. Where it answers for OpenCode (health, sessions, messages, events, terminals, Basic auth, the page behind every
unknown path) it keeps OpenCode's shapes and habits; the rest shows what a proxy did to the bytes. ``ROUTES`` lists all.
SIGTERM ends it at once with exit code 143, SIGINT with 130, also as process 1 of a container.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

VERSION = "echo-1"
PIECE = 64 * 1024  # bytes read or sent at once; also the longest request head
MESSAGE_LIMIT = 16 * 1024 * 1024  # bytes in one websocket message
UNBUFFERED = [("cache-control", "no-cache, no-transform"), ("x-accel-buffering", "no")]
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10  # RFC 6455, section 5.2
WEBSOCKET_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Exchange:
    """One HTTP/1.1 request as it came and the answer to it. ValueError: not HTTP as we read it; answered with 400."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader, self.writer, self.started = reader, writer, False
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.path = self.target.partition("?")[0]
        self.headers = [(name, value.strip(" \t")) for name, value in (line.split(":", 1) for line in lines)]
        self.keep_alive = "close" not in self.header("connection").lower()
        self.chunked = self.header("transfer-encoding").lower() == "chunked"
        self.left = 0 if self.chunked else int(self.header("content-length") or 0)
        self.awaits_continue = "100-continue" in self.header("expect").lower() and bool(self.chunked or self.left)

    def header(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key.lower() == name)

    def query(self, name: str, default: object = "") -> str:
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True).get(name, [str(default)])[0]

    async def pieces(self) -> AsyncIterator[bytes]:
        """What is left of the body, as it arrives; trailers are read and dropped."""
        if self.awaits_continue:
            self.awaits_continue = False
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.chunked or self.left:
            self.left = self.left or int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if not self.left:
                break
            piece = await self.reader.read(min(self.left, PIECE))
            self.left -= len(piece)
            if not piece:
                raise ConnectionError("the peer left in the middle of a body")
            yield piece
            if self.chunked and not self.left:
                await self.reader.readexactly(2)
        while self.chunked:
            self.chunked = await self.reader.readuntil(b"\r\n") != b"\r\n"

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def json(self) -> dict[str, Any]:
        return dict(json.loads(await self.body() or b"{}"))

    def start(self, status: int, *headers: tuple[str, object]) -> None:
        self.started = True
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
        lines += ["", ""] if self.keep_alive or status == 101 else ["connection: close", "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1"))

    async def answer(self, status: int, body: bytes, kind: str, *headers: tuple[str, object]) -> None:
        self.start(status, ("content-type", kind), ("content-length", len(body)), *headers)
        self.writer.write(b"" if self.method == "HEAD" else body)
        await self.writer.drain()

    async def answer_json(self, value: object, status: int = 200) -> None:
        await self.answer(status, json.dumps(value).encode(), "application/json")

    def start_stream(self, kind: str, *headers: tuple[str, object]) -> None:
        self.start(200, ("content-type", kind), ("transfer-encoding", "chunked"), *headers)

    async def send_piece(self, piece: bytes) -> None:
        """One chunk; the empty one ends the answer."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await self.writer.drain()


class WebSocket:
    """RFC 6455, the server's side of one connection: whole messages in, messages out."""

    def __init__(self, exchange: Exchange) -> None:
        """Shake hands, taking the first subprotocol that is offered."""
        self.reader, self.writer = exchange.reader, exchange.writer
        if exchange.header("upgrade").lower() != "websocket":
            raise ValueError("only a websocket can be opened here")
        key = exchange.header("sec-websocket-key").encode()
        proof = base64.b64encode(hashlib.sha1(key + WEBSOCKET_SALT).digest()).decode()
        answer = [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", proof)]
        if offered := exchange.header("sec-websocket-protocol"):
            answer.append(("sec-websocket-protocol", offered.split(",")[0].strip()))
        exchange.start(101, *answer)
        exchange.keep_alive = False

    async def messages(self) -> AsyncIterator[tuple[int, bytes]]:
        """Each whole text or binary message; answers pings; ends, having answered, when the peer closes."""
        kind, whole = 0, b""
        while True:
            final, opcode, payload = await self._frame()
            if opcode in (CLOSE, PING):
                await self.send(PONG if opcode == PING else CLOSE, payload)
            if opcode == CLOSE:
                return
            if opcode in (PING, PONG):
                continue
            if (opcode == 0) is (kind == 0) or len(whole) + len(payload) > MESSAGE_LIMIT:
                raise ConnectionError("frames out of order, or a message too long")
            kind, whole = kind or opcode, whole + payload
            if final:
                yield kind, whole
                kind, whole = 0, b""

    async def _frame(self) -> tuple[bool, int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        if not second & 128 or size > MESSAGE_LIMIT:
            raise ConnectionError("a frame without mask, or too long")
        key = (await self.reader.readexactly(4) * (size // 4 + 1))[:size]
        masked = int.from_bytes(await self.reader.readexactly(size), "big")
        return bool(first & 128), first & 15, (masked ^ int.from_bytes(key, "big")).to_bytes(size, "big")

    async def send(self, opcode: int, payload: bytes, fragment: int = 0) -> None:
        """One message, in frames of ``fragment`` bytes when that is not 0."""
        step = fragment or len(payload) or 1
        for start in range(0, len(payload) or 1, step):
            piece = payload[start : start + step]
            size = len(piece)
            long = b"\x7e" + size.to_bytes(2, "big") if size < 0x10000 else b"\x7f" + size.to_bytes(8, "big")
            first = (start + step >= len(payload)) << 7 | (0 if start else opcode)
            self.writer.write(bytes([first]) + (bytes([size]) if size < 126 else long) + piece)
        await self.writer.drain()


def new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"


def event(kind: str, **properties: object) -> dict[str, Any]:
    return {"id": new_id("evt"), "type": kind, "properties": properties}


class Agent:
    """The routes and what they share. Sessions are kept in a file below ``home``: a restart there finds them."""

    def __init__(self, home: Path, credential: str | None) -> None:
        self.file = home / ".local/share/echo/sessions.json"
        self.sessions: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.credential = credential  # base64 of "user:password"; None lets everyone in
        self.listeners: set[asyncio.Queue[dict[str, Any]]] = set()
        self.terminals: dict[str, bytearray] = {}  # by id: what was shown so far
        self.connections = 0

    def admits(self, exchange: Exchange) -> bool:
        """OpenCode takes the credential as a Basic header or in the query."""
        given = exchange.header("authorization").removeprefix("Basic ") or exchange.query("auth_token")
        return self.credential is None or secrets.compare_digest(given.encode(), self.credential.encode())

    def publish(self, kind: str, **properties: object) -> None:
        for listener in self.listeners:
            listener.put_nowait(event(kind, **properties))

    def keep(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps(self.sessions))
        beside.replace(self.file)

    async def health(self, exchange: Exchange) -> None:
        await exchange.answer_json({"healthy": True, "version": VERSION})

    async def echo(self, exchange: Exchange) -> None:
        body = await exchange.body()
        shown = [(name, "[hidden]" if name.lower() == "authorization" else value) for name, value in exchange.headers]
        said = {"body": body.decode(errors="replace"), "body_base64": base64.b64encode(body).decode()}
        await exchange.answer_json({"method": exchange.method, "target": exchange.target, "headers": shown} | said)

    async def echo_raw(self, exchange: Exchange) -> None:
        exchange.start_stream(exchange.header("content-type") or "application/octet-stream")
        async for piece in exchange.pieces():
            await exchange.send_piece(piece)
        await exchange.send_piece(b"")

    async def slow(self, exchange: Exchange) -> None:
        await asyncio.sleep(int(exchange.query("ms", 1000)) / 1000)
        await exchange.answer_json({"slept": True})

    async def stream_bytes(self, exchange: Exchange) -> None:
        total = int(exchange.query("n", 0))
        cut, step = int(exchange.query("cut", total)), int(exchange.query("chunk", PIECE))
        exchange.start_stream("application/octet-stream")
        for start in range(0, cut, step):
            await exchange.send_piece(b"x" * min(step, cut - start))
        if cut < total:
            raise ConnectionError("cut, as asked")
        await exchange.send_piece(b"")

    async def stats(self, exchange: Exchange) -> None:
        await exchange.answer_json({"connections": self.connections, "events": len(self.listeners)})

    async def leave(self, exchange: Exchange) -> None:
        await exchange.answer_json({"exit": (code := int(exchange.query("code", 0)))})
        os._exit(code)

    async def all_sessions(self, exchange: Exchange) -> None:
        """List them, or make one; kept in a file below HOME."""
        if exchange.method == "GET":
            return await exchange.answer_json([session["info"] for session in self.sessions.values()])
        title = (await exchange.json()).get("title", "New session")
        info = {"id": new_id("ses"), "slug": "echo", "title": title, "projectID": "global", "version": VERSION}
        info |= {"directory": str(Path.cwd()), "time": {"created": time.time_ns() // 1_000_000}}
        self.sessions[info["id"]] = {"info": info, "messages": []}
        self.keep()
        self.publish("session.created", sessionID=info["id"], info=info)
        return await exchange.answer_json(info)

    async def one_session(self, exchange: Exchange) -> None:
        _, _, name, *rest = exchange.path.split("/")
        if name not in self.sessions:
            await exchange.answer_json({"name": "NotFoundError", "data": {"message": f"{name} not found"}}, 404)
        elif rest and exchange.method == "POST":
            await self.take_turn(exchange, name)
        else:
            await exchange.answer_json(self.sessions[name]["messages" if rest else "info"])

    def add(self, session: str, role: str, text: str, **more: str) -> dict[str, Any]:
        info = {"id": new_id("msg"), "sessionID": session, "role": role} | more
        part = {"id": new_id("prt"), "messageID": info["id"], "sessionID": session, "type": "text", "text": text}
        message = {"info": info | {"time": {"created": time.time_ns() // 1_000_000}}, "parts": [part]}
        self.sessions[session]["messages"].append(message)
        self.keep()
        return message

    async def take_turn(self, exchange: Exchange, name: str) -> None:
        """One turn, with the events of one: busy, what was asked, the answer word by word, the whole of it, idle."""
        parts = (await exchange.json()).get("parts", [])
        asked = "".join(part.get("text", "") for part in parts if part.get("type") == "text")
        self.publish("session.status", sessionID=name, status={"type": "busy"})
        self.publish("message.updated", info=self.add(name, "user", asked)["info"])
        said = self.add(name, "assistant", f"You said: {asked}", providerID="echo", modelID=VERSION, finish="stop")
        part = said["parts"][0]
        for word in part["text"].split(" "):
            self.publish("message.part.delta", sessionID=name, partID=part["id"], field="text", delta=f"{word} ")
        self.publish("message.part.updated", part=part)
        self.publish("message.updated", info=said["info"])
        self.publish("session.idle", sessionID=name)
        await exchange.answer_json(said)

    async def events(self, exchange: Exchange) -> None:
        """OpenCode's stream: only ``data:`` lines, no ids, nothing replayed."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        queue.put_nowait(event("server.connected"))
        exchange.start_stream("text/event-stream", *UNBUFFERED)
        self.listeners.add(queue)
        try:
            while True:
                await exchange.send_piece(b"data: %s\n\n" % json.dumps(await queue.get()).encode())
        finally:
            self.listeners.discard(queue)

    async def websocket(self, exchange: Exchange) -> None:
        """Each message back, in frames of ``fragment`` bytes; the text ``close CODE REASON`` closes from this side."""
        socket = WebSocket(exchange)
        async for kind, payload in socket.messages():
            if kind == TEXT and payload.startswith(b"close "):
                _, code, *reason = payload.split(b" ", 2)
                return await socket.send(CLOSE, int(code).to_bytes(2, "big") + b"".join(reason))
            await socket.send(kind, payload, int(exchange.query("fragment", 0)))

    async def open_terminal(self, exchange: Exchange) -> None:
        asked, name = await exchange.json(), new_id("pty")
        self.terminals[name] = bytearray()
        info = {"id": name, "title": "echo", "command": asked.get("command", "echo"), "args": asked.get("args", [])}
        await exchange.answer_json(info | {"cwd": str(Path.cwd()), "status": "running", "pid": os.getpid()})

    async def terminal(self, exchange: Exchange) -> None:
        """What was shown so far, where that ends, then every line back as a terminal would show it."""
        name = exchange.path.split("/")[2]
        if name not in self.terminals:
            return await exchange.answer_json({"name": "NotFoundError", "data": {"message": f"{name} not found"}}, 404)
        shown, socket, line = self.terminals[name], WebSocket(exchange), b""
        await socket.send(TEXT, bytes(shown))
        await socket.send(BINARY, b"\x00" + json.dumps({"cursor": len(shown)}).encode())
        async for _, payload in socket.messages():
            *whole, line = (line + payload).replace(b"\r", b"\n").split(b"\n")
            for one in whole:
                shown += one + b"\r\n"
                await socket.send(TEXT, one + b"\r\n")

    async def page(self, exchange: Exchange) -> None:
        """As OpenCode does: every unknown path is the web page with 200, so that a wrong path looks healthy."""
        await exchange.answer(200, b"<!doctype html><title>echo agent</title>", "text/html; charset=utf-8")


ROUTES: list[tuple[str, Callable[[Agent, Exchange], Awaitable[None]]]] = [
    ("GET /global/health", Agent.health),
    ("(GET|POST) /session", Agent.all_sessions),
    ("(GET|POST) /session/[^/]+(/message)?", Agent.one_session),
    ("GET /event", Agent.events),
    ("POST /pty", Agent.open_terminal),
    ("GET /pty/[^/]+/connect", Agent.terminal),
    ("GET /ws", Agent.websocket),  # ?fragment=
    (".* /echo/raw", Agent.echo_raw),  # the body back, piece by piece as it comes
    (".* /echo.*", Agent.echo),  # method, raw target, headers in order and the body, as JSON
    ("GET /slow", Agent.slow),  # ?ms=
    ("GET /bytes", Agent.stream_bytes),  # ?n=&chunk=&cut= : n bytes in chunks; with cut the connection breaks there
    ("GET /stats", Agent.stats),
    ("POST /exit", Agent.leave),  # ?code=
    (".*", Agent.page),
]
WAITING = (Agent.events, Agent.slow)  # long without a byte: only watching shows that the peer has left


async def while_there(exchange: Exchange, work: Awaitable[None]) -> None:
    """Do it only as long as the peer is there: its leaving cancels the work at once. The connection ends after it."""
    exchange.keep_alive = False
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(exchange.reader.read())]
    ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*ended)


async def answer(agent: Agent, exchange: Exchange) -> None:
    """Answer one request, and leave the connection at the start of the next."""
    handler = next(do for pattern, do in ROUTES if re.fullmatch(pattern, f"{exchange.method} {exchange.path}"))
    if not agent.admits(exchange):
        await exchange.answer(401, b"", "text/plain", ("www-authenticate", 'Basic realm="Secure Area"'))
    elif handler in WAITING:
        await while_there(exchange, handler(agent, exchange))
    else:
        await handler(agent, exchange)
    exchange.keep_alive = exchange.keep_alive and not exchange.awaits_continue
    if exchange.keep_alive:
        await exchange.body()


async def converse(agent: Agent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: request after request, until either side has had enough."""
    agent.connections += 1
    exchange = None
    try:
        while exchange is None or exchange.keep_alive:
            head, exchange = (await reader.readuntil(b"\r\n\r\n"))[:-4], None
            exchange = Exchange(reader, writer, head)
            await answer(agent, exchange)
    except (ValueError, TypeError, AttributeError) as error:
        print(f"refused: {error}", flush=True)
        if exchange is None or not exchange.started:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass  # the peer left, or broke the framing past answering: closing is the whole answer
    finally:
        agent.connections -= 1
        writer.close()


async def serve(host: str, port: int, heartbeat: float) -> None:
    """Serve, with OpenCode's heartbeat on every event stream, until a signal ends the process."""
    user, password = os.environ.get("OPENCODE_SERVER_USERNAME"), os.environ.get("OPENCODE_SERVER_PASSWORD")
    credential = base64.b64encode(f"{user or 'opencode'}:{password}".encode()).decode() if password else None
    agent = Agent(Path.home(), credential)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, os._exit, 128 + number)
    server = await asyncio.start_server(lambda *streams: converse(agent, *streams), host, port, limit=PIECE)
    print("echo agent listening on http://{}:{}".format(*server.sockets[0].getsockname()[:2]), flush=True)
    while True:
        await asyncio.sleep(heartbeat)
        agent.publish("server.heartbeat")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Answers as OpenCode does, and shows what reached it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4096)
    parser.add_argument("--heartbeat", type=float, default=10.0, help="seconds between heartbeats on /event")
    asyncio.run(serve(**vars(parser.parse_args())))
