"""A daemon of a few answers that asks for a client's certificate and keeps who asked for what."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from tests.gateway.served import reached

_ANSWERS: Mapping[str, object] = {"version": {"ApiVersion": "1.41"}, "json": []}


class CertifiedDaemon:
    """``asked``: the serial number of the client's certificate and the path of every request, in order."""

    def __init__(self, folder: Path, *, authority: bytes | None = None) -> None:
        self.asked: list[tuple[int, str]] = []
        self.release = asyncio.Event()  # ``/images/json`` answers after it
        self.happened: list[dict[str, Any]] = []
        self.sinces: list[str] = []  # what each event stream was asked to begin with
        self.port = 0
        self._folder, self._authority = folder, authority
        self._streams: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._writers)

    @property
    def streams(self) -> int:
        """Event streams that are open."""
        return len(self._streams)

    def serials(self, end: str) -> list[int]:
        """Whose requests of paths that end so, in order."""
        return [serial for serial, path in self.asked if path.endswith(end)]

    async def start(self, *, authority: bytes | None = None) -> None:
        """Listen, on the port of before, with the folder's server files; ``authority``: whose clients it accepts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        trusted = authority or self._authority or (self._folder / "ca.pem").read_bytes()
        context.load_verify_locations(cadata=trusted.decode())
        context.load_cert_chain(self._folder / "server-cert.pem", self._folder / "server-key.pem")
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End every connection and refuse new ones."""
        self.release.set()
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await reached(lambda: self.open == 0)

    def happen(self, name: str) -> None:
        """A container died: told to every stream that is open, and kept for those that ask for it later."""
        event = {
            "Action": "die",
            "Actor": {"ID": name, "Attributes": {"name": name, "exitCode": "0"}},
            "timeNano": time.time_ns(),
        }
        self.happened.append(event)
        for writer in self._streams:
            _chunk(writer, event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        serial = x509.load_der_x509_certificate(der).serial_number
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = urlsplit(head.split(" ")[1])
                self.asked.append((serial, target.path))
                if target.path.endswith("/events"):
                    await self._stream(parse_qs(target.query).get("since", [""])[0], reader, writer)
                    return
                await self._answer(target.path, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client left
        finally:
            self._writers.discard(writer)
            self._streams.discard(writer)
            writer.transport.abort()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        if path.endswith("/images/json"):
            await self.release.wait()
        body: object = _ANSWERS.get(path.rpartition("/")[2], {})
        if path.endswith("/info"):
            body = {"SystemTime": datetime.now(UTC).isoformat()}
        text = json.dumps(body)
        writer.write(_head(f"Content-Length: {len(text)}") + text.encode())
        await writer.drain()

    async def _stream(self, since: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sinces.append(since)
        writer.write(_head("Transfer-Encoding: chunked"))
        if since:
            seconds, _, rest = since.partition(".")
            first = int(seconds) * 10**9 + int(rest)
            for event in self.happened:
                if event["timeNano"] >= first:
                    _chunk(writer, event)
        self._streams.add(writer)
        await writer.drain()
        await reader.read(1)  # until the client leaves


@contextlib.asynccontextmanager
async def certified_daemon(folder: Path, *, authority: bytes | None = None) -> AsyncIterator[CertifiedDaemon]:
    """A daemon with the server's files of ``folder``."""
    made = CertifiedDaemon(folder, authority=authority)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def serial_of(folder: Path) -> int:
    """The serial number of the client's certificate that lies there."""
    return x509.load_pem_x509_certificate((folder / "client-cert.pem").read_bytes()).serial_number


def _head(more: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{more}\r\n\r\n".encode()


def _chunk(writer: asyncio.StreamWriter, event: object) -> None:
    text = json.dumps(event) + "\n"
    writer.write(f"{len(text):x}\r\n{text}\r\n".encode())
