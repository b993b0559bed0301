"""One request to the daemon, step by step and without an HTTP library, so that a failure has a place.

HTTP/1.0: one request a connection, whose end is the answer's end. For looking only; what changes something goes through
``aiodocker_service``. Nothing is sent before TLS is spoken.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from docker.errors import DockerError, NoDaemon
from docker.refusals import failure_of
from docker.settings import DockerSettings, daemon_url
from docker.tls import ssl_context

MOST_BYTES: Final = 4 << 20
MOST_ADDRESSES: Final = 4
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(msgspec.Struct, frozen=True):
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def ask(settings: DockerSettings, path: str, *, seconds: float = 10.0) -> Answer:
    """``GET path``, whatever the status. Raises DockerError; takes ``seconds`` and one more at the most."""
    context = ssl_context(settings)
    where = urlsplit(daemon_url(settings))
    host, port = where.hostname or "", where.port or 0
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await dial(await resolve(host, port), port)
            try:
                await handshake(writer, context, host)
                return await request((reader, writer), host, path)
            finally:
                writer.transport.abort()
    except DockerError:
        raise
    except (OSError, EOFError) as error:
        address = settings.docker_host or settings.docker_host_ip
        raise await failure_of(error, settings, address, lost=True, context=context) from error


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of ``host``. Raises OSError.

    On a thread of its own: a resolver that waits for a dead name server must not hold up the end of the program, as a
    thread of the loop's executor would.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: OSError | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def look() -> None:
        addresses, error = _addresses(host, port)
        try:
            loop.call_soon_threadsafe(settle, addresses, error)
        except RuntimeError:
            pass  # the loop has ended: nobody waits any more

    threading.Thread(target=look, daemon=True).start()
    return await found


def _addresses(host: str, port: int) -> tuple[list[str], OSError | None]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or too long
        return [], socket.gaierror(socket.EAI_NONAME, "not a host name")
    except OSError as error:
        return [], error
    return list(dict.fromkeys(str(info[4][0]) for info in infos)), None


async def dial(addresses: Sequence[str], port: int) -> Streams:
    """A connection to the first address that takes one, nothing sent. Raises OSError: the last one's."""
    trouble: OSError = ConnectionRefusedError("the host has no address")
    for address in addresses[:MOST_ADDRESSES]:
        try:
            return await asyncio.open_connection(address, port)
        except OSError as error:
            trouble = error
    raise trouble


async def handshake(writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str) -> None:
    """Speak TLS over it. Under TLS 1.3 the daemon judges our certificate only afterwards. Raises OSError."""
    await writer.start_tls(context, server_hostname=host, ssl_handshake_timeout=60)


async def request(streams: Streams, host: str, path: str) -> Answer:
    """Send one request and read to the end. Raises OSError, EOFError, and NoDaemon for what is not HTTP."""
    reader, writer = streams
    writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode())
    await writer.drain()
    said = bytearray()
    while piece := await reader.read(65536):
        said += piece
        if len(said) > MOST_BYTES:
            break
    if not said:
        raise EOFError("it closed without an answer")
    return _read(bytes(said), host)


def _read(said: bytes, host: str) -> Answer:
    head, _, body = said.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    protocol, _, rest = first.partition(" ")
    code = rest[:3]
    if not protocol.startswith("HTTP/1.") or not code.isdecimal():
        raise NoDaemon(f"What answers at {host} speaks TLS, but not HTTP.")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(code), headers, body)
