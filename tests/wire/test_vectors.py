"""The vector table on real bytes: hypercorn, guard, target, headers and relay between a raw client and a raw container.

What is asserted is what the container got, byte for byte. The same table is for every server.
"""

import asyncio
import base64
import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.proxy.peers import WAIT_SECONDS, Container, Peer, container, until
from tests.gateway.proxy.smallest import CREDENTIAL, PREFIX, SmallestGateway, gateway_for

VECTORS: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("vectors.toml").read_text())["vector"]
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\ncontent-type: text/plain\r\n\r\nTAKEN-IT"


def test_every_vector_has_a_name_of_its_own() -> None:
    """So that a failure says which."""
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS) > 90


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_each_request_ends_as_the_table_says(vector: dict[str, Any]) -> None:
    """Refused where two parsers could read two requests; else the container gets exactly one reading."""
    async with container(answering) as it, gateway_for(it.address) as (app, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        head, end, body = expand(vector["send"], it).partition(b"\r\n\r\n")
        if vector["outcome"] == "cut":
            writer.write(head + end)
            await until(lambda: bool(it.peers) and bool(it.peers[0].received))
            writer.write(body)
        else:
            writer.write(head + end + body)
        answer = await read_answer(reader, vector)
        writer.close()
        if "status" in vector or "got" in vector:
            assert answer.startswith(b"HTTP/1.1 %d " % vector.get("status", 200)), answer[:200]
        if vector["outcome"] == "refused":
            assert it.peers == []
            assert b"TAKEN-IT" not in answer
        elif vector["outcome"] == "cut":
            await asyncio.wait_for(it.peers[0].closed.wait(), WAIT_SECONDS)
            assert without_ours(bytes(it.peers[0].received), app) == expand(vector["got"], it)
            assert app.results[0].error is not None
        else:
            got = b"".join(without_ours(bytes(peer.received), app) for peer in it.peers)
            assert got == expand(vector["got"], it)


async def read_answer(reader: asyncio.StreamReader, vector: dict[str, Any]) -> bytes:
    """To the end of the connection where the table says that it is closed, else as far as the answer goes."""
    answer = bytearray()
    async with asyncio.timeout(WAIT_SECONDS):
        while data := await reader.read(65536):
            answer += data
            forwarded = vector["outcome"] in ("exact", "normalised")
            if forwarded and answer.count(b"TAKEN-IT") == vector.get("answers", 1):
                break
            if vector.get("open") or vector.get("status") == 101:
                break
    return bytes(answer)


async def answering(peer: Peer) -> None:
    """A container that takes whole requests, plain or websocket handshakes, and answers each."""
    while head := await peer.head():
        if b"\r\nupgrade: websocket" in head.lower():
            await peer.send(switching(head))
            break
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head)
        if length is not None:
            await peer.body(int(length[1]))
        elif b"\r\ntransfer-encoding: chunked\r\n" in head:
            try:
                peer.received += await peer.reader.readuntil(b"0\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                peer.received += error.partial
                break
        await peer.send(ANSWER)
    await peer.gone()


def switching(head: bytes) -> bytes:
    key = re.search(rb"(?i)\r\nsec-websocket-key: (\S+)\r\n", head)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 S\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: " + accept + b"\r\n\r\n"
    )


def expand(text: str, it: Container) -> bytes:
    raw = text.encode("latin-1")
    raw = re.sub(rb"\{A\*(\d+)\}", lambda match: b"A" * int(match[1]), raw)
    raw = re.sub(rb"\{X\*(\d+)\}", lambda match: b"X: 1\r\n" * int(match[1]), raw)
    return raw.replace(b"{S}", PREFIX).replace(b"{C}", f"{it.address.host}:{it.address.port}".encode())


def without_ours(received: bytes, app: SmallestGateway) -> bytes:
    """What the container got, less the fields that the gateway adds, each of which must be there once a request."""
    requests = len(re.findall(rb"(?m)^[A-Z-]+ \S+ HTTP/1.1\r$", received))
    for line in (
        b"authorization: " + CREDENTIAL,
        b"x-forwarded-for: 127.0.0.1",
        b"x-forwarded-proto: http",
        b"x-forwarded-host: x",
        b"x-forwarded-prefix: " + PREFIX,
        b'forwarded: for=127.0.0.1;host="x";proto=http',
        b"x-request-id: req_1",
    ):
        assert received.count(line + b"\r\n") == requests, line
        received = received.replace(line + b"\r\n", b"")
    # Only a real handshake has the name in this case: aiohttp wrote it, with a key of its own.
    return re.sub(rb"(Sec-WebSocket-Key: )\S+", rb"\1{K}", received)
