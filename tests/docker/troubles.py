"""Every way in which a daemon cannot be used, made on loopback: settings that run into it, and what must be said.

The first part of a name is the seed's troubleshooting list: the complaint, then its bullet.
"""

import contextlib
import datetime as dt
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from docker import errors
from docker.authority import Authority
from docker.errors import DockerError
from docker.settings import DockerSettings
from tests.docker.stub_daemon import LONG_AGO, daemon_context, furnish, http, over_tls, peer, put, settings_for

SOON: Final = dt.datetime.now(dt.UTC) + dt.timedelta(days=400)


class Trouble(msgspec.Struct, frozen=True):
    """``kind`` is what the service raises, ``verdict`` and ``words`` are what the diagnosis says."""

    name: str
    kind: type[DockerError]
    verdict: str
    words: str
    make: Callable[[Path], AbstractContextManager[DockerSettings]]
    silent: bool = False  # nothing comes back: it takes its whole time


def _serving(folder: Path, context: ssl.SSLContext) -> AbstractContextManager[DockerSettings]:
    @contextmanager
    def serving() -> Iterator[DockerSettings]:
        with peer(over_tls(context)) as port:
            yield settings_for(folder, port)

    return serving()


def _ours(
    make: Callable[[Authority], tuple[bytes, bytes]],
) -> Callable[..., AbstractContextManager[DockerSettings]]:
    """A daemon that is in order, and a certificate of ours that is not."""

    def of(tmp: Path) -> AbstractContextManager[DockerSettings]:
        authority = Authority()
        folder = furnish(tmp / "certs", authority)
        context = daemon_context(folder)
        certificate, key = make(authority)
        put(folder, client_cert=certificate, client_key=key)
        return _serving(folder, context)

    return of


def _theirs(
    make: Callable[[Authority], tuple[bytes, bytes]],
) -> Callable[..., AbstractContextManager[DockerSettings]]:
    """Files of ours that are in order, and a daemon's certificate that is not."""

    def of(tmp: Path) -> AbstractContextManager[DockerSettings]:
        authority = Authority()
        folder = furnish(tmp / "certs", authority)
        certificate, key = make(authority)
        put(folder, server_cert=certificate, server_key=key)
        return _serving(folder, daemon_context(folder))

    return of


def at_another_time(authority: Authority, begin: dt.datetime, days: int) -> Authority:
    """The same CA, signing as if it were another day."""
    twin = Authority(days=days, now=begin)
    twin._key, twin._name = authority._key, authority._name
    return twin


def _files(change: Callable[[Path], object]) -> Callable[[Path], AbstractContextManager[DockerSettings]]:
    def of(tmp: Path) -> AbstractContextManager[DockerSettings]:
        folder = furnish(tmp / "certs", Authority())
        change(folder)
        return contextlib.nullcontext(settings_for(folder, 1))

    return of


def _setting(**changes: object) -> Callable[[Path], AbstractContextManager[DockerSettings]]:
    def of(tmp: Path) -> AbstractContextManager[DockerSettings]:
        return contextlib.nullcontext(settings_for(furnish(tmp / "certs", Authority()), 1, **changes))

    return of


@contextmanager
def _closed(tmp: Path) -> Iterator[DockerSettings]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield settings_for(furnish(tmp / "certs", Authority()), port)


@contextmanager
def _dropping(tmp: Path) -> Iterator[DockerSettings]:
    """A full queue of connections: Linux drops further SYNs, as a firewall does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield settings_for(furnish(tmp / "certs", Authority()), listener.getsockname()[1])


@contextmanager
def _mute(tmp: Path, context: Callable[[Path], ssl.SSLContext] | None = None) -> Iterator[DockerSettings]:
    """Accepts and never answers: at once, or after the handshake."""
    folder, over = furnish(tmp / "certs", Authority()), threading.Event()
    session_of = None if context is None else context(folder)

    def talk(connection: socket.socket) -> None:
        with connection if session_of is None else session_of.wrap_socket(connection, server_side=True):
            over.wait(20)

    with peer(talk) as port:
        try:
            yield settings_for(folder, port, docker_call_timeout=1.0)
        finally:
            over.set()


@contextmanager
def _plain(tmp: Path) -> Iterator[DockerSettings]:
    def talk(connection: socket.socket) -> None:
        connection.recv(5)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with peer(talk) as port:
        yield settings_for(furnish(tmp / "certs", Authority()), port)


@contextmanager
def _another_server(tmp: Path, said: bytes) -> Iterator[DockerSettings]:
    folder = furnish(tmp / "certs", Authority())
    with peer(over_tls(daemon_context(folder, asks=False), lambda _: said)) as port:
        yield settings_for(folder, port)


def _too_old(tmp: Path) -> AbstractContextManager[DockerSettings]:
    folder = furnish(tmp / "certs", Authority())
    return _serving(folder, daemon_context(folder, newest=ssl.TLSVersion.TLSv1_2))


def _name(*hosts: str) -> Callable[[Authority], tuple[bytes, bytes]]:
    return lambda authority: authority.server(hosts)


_HERE: Final = ("127.0.0.1",)
TROUBLES: Final = (
    Trouble(
        "connection refused: is the daemon running with TLS",
        errors.PortClosed,
        "port-closed",
        "Nothing listens",
        _closed,
    ),
    Trouble(
        "connection refused: is the daemon running with TLS, plain text",
        errors.DaemonPlainText,
        "plain-text",
        "plain HTTP",
        _plain,
    ),
    Trouble(
        "connection refused: is the daemon running with TLS, it hangs",
        errors.DaemonSilent,
        "silent",
        "then says nothing",
        _mute,
        True,
    ),
    Trouble(
        "connection refused: is the daemon running with TLS, it hangs later",
        errors.DaemonSilent,
        "silent",
        "does not answer a request",
        lambda tmp: _mute(tmp, daemon_context),
        True,
    ),
    Trouble(
        "connection refused: does DOCKER_HOST name it, no such host",
        errors.HostUnknown,
        "host-unknown",
        "cannot be resolved",
        _setting(docker_host="tcp://nosuch.invalid:2376"),
    ),
    Trouble(
        "connection refused: does DOCKER_HOST name it, http",
        errors.BadDockerSettings,
        "bad-settings",
        "plain HTTP",
        _setting(docker_host="http://127.0.0.1:2375"),
    ),
    Trouble(
        "connection refused: does DOCKER_HOST name it, unix",
        errors.BadDockerSettings,
        "bad-settings",
        "sockets",
        _setting(docker_host="unix:///run/d"),
    ),
    Trouble(
        "connection refused: does DOCKER_HOST name it, empty",
        errors.BadDockerSettings,
        "bad-settings",
        "DOCKER_HOST is empty",
        _setting(docker_host=""),
    ),
    Trouble(
        "connection refused: does DOCKER_HOST name it, another web server",
        errors.NoDaemon,
        "no-daemon",
        "not a Docker daemon",
        lambda tmp: _another_server(tmp, http("<html>", server="nginx")),
    ),
    Trouble(
        "connection refused: does DOCKER_HOST name it, no web server",
        errors.NoDaemon,
        "no-daemon",
        "not HTTP",
        lambda tmp: _another_server(tmp, b"SSH-2.0-OpenSSH_9.2\r\n"),
    ),
    Trouble(
        "connection refused: does the firewall allow the port",
        errors.DaemonSilent,
        "silent",
        "packets are dropped",
        _dropping,
        True,
    ),
    Trouble(
        "handshake failed: do certificates exist",
        errors.CertificateFilesMissing,
        "files-missing",
        "client-cert.pem does not exist",
        _files(lambda folder: (folder / "client-cert.pem").unlink()),
    ),
    Trouble(
        "handshake failed: do certificates exist, damaged",
        errors.BadCertificateFiles,
        "files-unusable",
        "damaged",
        _files(lambda folder: put(folder, client_cert=b"nothing")),
    ),
    Trouble(
        "handshake failed: validity dates, ours ended",
        errors.CertificateExpired,
        "refused-expired",
        "expired at",
        _ours(lambda ca: at_another_time(ca, LONG_AGO, 1).client()),
    ),
    Trouble(
        "handshake failed: validity dates, ours to come",
        errors.CertificateNotYetValid,
        "refused-not-yet-valid",
        "valid from",
        _ours(lambda ca: at_another_time(ca, SOON, 10).client()),
    ),
    Trouble(
        "handshake failed: validity dates, the daemon's ended",
        errors.DaemonExpired,
        "daemon-expired",
        "expired",
        _theirs(lambda ca: at_another_time(ca, LONG_AGO, 1).server(_HERE)),
    ),
    Trouble(
        "handshake failed: validity dates, the daemon's to come",
        errors.DaemonNotYetValid,
        "daemon-not-yet-valid",
        "not yet valid",
        _theirs(lambda ca: at_another_time(ca, SOON, 10).server(_HERE)),
    ),
    Trouble(
        "handshake failed: is the CA correct",
        errors.DaemonOfAnotherAuthority,
        "daemon-other-authority",
        "is not signed by our CA",
        _theirs(lambda _: Authority().server(_HERE)),
    ),
    Trouble(
        "handshake failed: the daemon's name",
        errors.DaemonOfAnotherName,
        "daemon-other-name",
        "127.0.0.1",
        _theirs(_name("example.test")),
    ),
    Trouble(
        "handshake failed: the daemon's usage",
        errors.DaemonNotForServers,
        "daemon-not-for-servers",
        "serverAuth",
        _theirs(lambda ca: ca.client()),
    ),
    Trouble("handshake failed: TLS version", errors.DaemonTlsTooOld, "tls-too-old", "TLS 1.2", _too_old),
    Trouble(
        "permission denied: is ours signed by the CA",
        errors.AuthorityUnknownToDaemon,
        "refused-other-authority",
        "signed by none",
        _ours(lambda _: Authority().client()),
    ),
    Trouble(
        "permission denied: is ours for clients",
        errors.CertificateNotForClients,
        "refused-not-for-clients",
        "clientAuth",
        _ours(lambda ca: ca.server(_HERE)),
    ),
)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: what a user may not read is seen as one."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(before)
