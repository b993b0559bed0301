"""What ``host_ip`` asks of this machine and of the network: names, files, sockets, a handshake. Decides nothing.

Tests put others in their place.
"""

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from docker.errors import DockerError
from docker.settings import DockerSettings, daemon_url
from docker.tls import ssl_context

RESOLVE_SECONDS: Final = 2.0  # a container's resolver can ask servers that do not answer
HANDSHAKE_SECONDS: Final = 1.0
_ANY_PORT: Final = 9  # connecting a UDP socket sends nothing


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """The outside, a function each."""

    read: Callable[[str], str]
    """A file's text. Raises OSError."""
    exists: Callable[[str], bool]
    resolve: Callable[[str], Awaitable[list[str]]]
    """The addresses of a name, IPv4 first. Raises OSError."""
    own_address: Callable[[str], str]
    """The address of ours from which that one is reached. Raises OSError."""
    identity: Callable[[DockerSettings, str], Awaitable[str | None]]
    """Which daemon of our CA answers on the TLS port of that host; None: none does."""


def read(path: str) -> str:
    """The file's text; what is no UTF-8 in it is replaced."""
    return Path(path).read_text(encoding="utf-8", errors="replace")


async def resolve(name: str) -> list[str]:
    """The name's addresses, IPv4 first, each once. Raises OSError, TimeoutError among them."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE_SECONDS):
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    ordered = sorted(found, key=lambda each: each[0] != socket.AF_INET)
    return list(dict.fromkeys(str(address[0]) for *_, address in ordered))


def own_address(towards: str) -> str:
    """The source address that the kernel picks for packets to ``towards``, an IP address. No packet is sent."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, _ANY_PORT))
        return str(probe.getsockname()[0])


async def identity(settings: DockerSettings, host: str) -> str | None:
    """The hash of the certificate shown at ``host``, at the daemon's port; None when none of our CA is shown in time.

    The name in it is not compared: the question is whether this is the daemon of DOCKER_HOST, by another way.
    """
    try:
        context = ssl_context(settings)
        port = urlsplit(daemon_url(settings)).port
    except DockerError:
        return None
    context.check_hostname = False
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, asyncio.IncompleteReadError):
        return None
    with contextlib.closing(writer.transport):
        shown: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        certificate = shown.getpeercert(binary_form=True) if shown is not None else None
        writer.transport.abort()
    return None if certificate is None else hashlib.sha256(certificate).hexdigest()


REAL: Final = Edges(read=read, exists=os.path.exists, resolve=resolve, own_address=own_address, identity=identity)
