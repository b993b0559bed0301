"""Peers at a daemon's address: TLS servers that answer as dockerd does, or go wrong in one of its ways.

On threads with blocking sockets, because asyncio's server drops the alert that tells a client why it was refused.
"""

import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from docker.authority import Authority
from docker.settings import DockerSettings

VERSION = '{"Version": "20.10.24", "ApiVersion": "1.41"}'
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
Conversation = Callable[[socket.socket], None]


def http(body: str, *, status: str = "200 OK", server: str = "Docker/20.10.24 (linux)") -> bytes:
    return f"HTTP/1.0 {status}\r\nServer: {server}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def docker_answers(request: bytes) -> bytes:
    """What dockerd says to the two questions of a diagnosis."""
    return http("OK" if b"/_ping" in request else VERSION)


@contextmanager
def peer(talk: Conversation) -> Iterator[int]:
    """A listener on loopback that has ``talk`` with each who connects; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []  # the raw ones: TLS takes a connection's descriptor over
    thread = threading.Thread(target=_serve, args=(listener, talk, taken))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for connection in taken:  # whoever left without a word
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)
        listener.close()
        for connection in taken:
            connection.close()


def over_tls(context: ssl.SSLContext, answer: Callable[[bytes], bytes] = docker_answers) -> Conversation:
    """TLS, one request, one answer."""

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as session:
            session.sendall(answer(session.recv(65536)))
            session.unwrap()

    return talk


def daemon_context(
    folder: Path, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, asks: bool = True
) -> ssl.SSLContext:
    """A daemon's side of the handshake, of the files that ``certs.generate`` makes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    return context


def settings_for(folder: Path, port: int, **changes: object) -> DockerSettings:
    given = {"docker_host": f"tcp://127.0.0.1:{port}", "docker_cert_path": str(folder), **changes}
    return DockerSettings(**given)  # type: ignore[arg-type]  # the caller names fields that there are


def put(folder: Path, **contents: bytes) -> None:
    """Replace files: ``client_cert=...`` is ``client-cert.pem``."""
    for name, content in contents.items():
        path = folder / f"{name.replace('_', '-')}.pem"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o400 if name.endswith("key") else 0o444)


def furnish(folder: Path, authority: Authority, *, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Path:
    """Both sides' files, of one authority."""
    folder.mkdir()
    server, server_key = authority.server(hosts)
    client, client_key = authority.client()
    put(folder, ca=authority.certificate, server_cert=server, server_key=server_key)
    put(folder, client_cert=client, client_key=client_key)
    return folder


def _serve(listener: socket.socket, talk: Conversation, taken: list[socket.socket]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # the test is over
        taken.append(connection.dup())
        with connection:
            connection.settimeout(5)
            with contextlib.suppress(OSError):  # refused: OpenSSL has sent its alert
                talk(connection)
