"""Every way a TLS conversation fails names its cause. The peers here are real TLS servers on loopback."""

import asyncio
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from docker import certs
from docker.authority import Authority
from docker.errors import (
    BadCertificateFiles,
    DaemonDown,
    DaemonFailed,
    DaemonPlainText,
    DaemonRefusedUs,
    DaemonSilent,
    DaemonTlsTooOld,
    DaemonUntrusted,
    DockerError,
    HostUnknown,
    PortClosed,
)
from docker.settings import DockerSettings
from docker.tls import classify, ssl_context


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certs.generate(tmp_path / "certs")
    return tmp_path / "certs"


def settings_of(folder: Path) -> DockerSettings:
    return DockerSettings(docker_cert_path=str(folder))


@contextmanager
def daemon(folder: Path, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[int]:
    """A TLS server that asks for a client certificate and greets whom it accepts.

    On a thread with blocking sockets, because asyncio's server drops the alert that tells a client why it was refused.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_greet_all, args=(listener, context))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=10)
        listener.close()


def _greet_all(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # the test is over
        with connection:
            connection.settimeout(5)
            try:
                with context.wrap_socket(connection, server_side=True) as peer:
                    peer.sendall(b"hello")
            except OSError:
                connection.close()  # refused: OpenSSL has sent its alert


async def talk(port: int, context: ssl.SSLContext, name: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        return await reader.read()
    finally:
        writer.close()


async def failure(port: int, context: ssl.SSLContext, name: str = "127.0.0.1") -> DockerError:
    with pytest.raises(OSError) as caught:
        await talk(port, context, name)
    return classify(caught.value, f"https://127.0.0.1:{port}")


def reissue(folder: Path, authority: Authority, *, use: str) -> None:
    """Give the client a certificate and key of ``authority`` made for ``use``."""
    certificate, key = authority.client() if use == "client" else authority.server(["127.0.0.1"])
    for name, content in (("client-cert.pem", certificate), ("client-key.pem", key)):
        (folder / name).unlink()
        (folder / name).write_bytes(content)


async def test_two_sides_of_one_authority_talk(folder: Path) -> None:
    with daemon(folder) as port:
        assert await talk(port, ssl_context(settings_of(folder))) == b"hello"


async def test_a_client_of_another_authority_is_refused_by_the_daemon(folder: Path) -> None:
    reissue(folder, Authority(), use="client")
    with daemon(folder) as port:
        found = await failure(port, ssl_context(settings_of(folder)))
    assert isinstance(found, DaemonRefusedUs)
    assert "our certificate" in str(found)


async def test_a_client_without_certificate_is_refused_by_the_daemon(folder: Path) -> None:
    bare = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with daemon(folder) as port:
        assert isinstance(await failure(port, bare), DaemonRefusedUs)


async def test_a_daemon_of_another_authority_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    certs.generate(tmp_path / "other")
    with daemon(tmp_path / "other") as port:
        assert isinstance(await failure(port, ssl_context(settings_of(folder))), DaemonUntrusted)


async def test_a_daemon_of_another_name_is_not_trusted(folder: Path) -> None:
    with daemon(folder) as port:
        found = await failure(port, ssl_context(settings_of(folder)), name="example.test")
    assert isinstance(found, DaemonUntrusted)
    assert "example.test" in str(found)


async def test_an_expired_daemon_is_not_trusted(folder: Path) -> None:
    long_ago = Authority(days=1, now=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    certificate, key = long_ago.server(["127.0.0.1"])
    contents = {"ca.pem": long_ago.certificate, "server-cert.pem": certificate, "server-key.pem": key}
    for name, content in contents.items():
        (folder / name).unlink()
        (folder / name).write_bytes(content)
    with daemon(folder) as port:
        found = await failure(port, ssl_context(settings_of(folder)))
    assert isinstance(found, DaemonUntrusted)
    assert "expired" in str(found)


async def test_nothing_older_than_tls_1_3_is_spoken(folder: Path) -> None:
    with daemon(folder, newest=ssl.TLSVersion.TLSv1_2) as port:
        found = await failure(port, ssl_context(settings_of(folder)))
    assert type(found) is DaemonTlsTooOld
    assert "nothing newer than TLS 1.2" in str(found)


async def test_a_plain_text_daemon_is_named(folder: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        found = await failure(server.sockets[0].getsockname()[1], ssl_context(settings_of(folder)))
    assert isinstance(found, DaemonPlainText)


async def test_a_closed_port_is_a_daemon_that_is_down(folder: Path) -> None:
    with daemon(folder) as port:
        pass
    found = await failure(port, ssl_context(settings_of(folder)))
    assert isinstance(found, DaemonDown)
    assert "Nothing listens" in str(found)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), DaemonSilent),
        (ConnectionRefusedError(), PortClosed),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), HostUnknown),
        (ConnectionResetError("cut"), DaemonDown),
        (ValueError("odd"), DaemonFailed),
        (ssl.SSLError(1, "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol"), DaemonTlsTooOld),
    ],
)
def test_other_failures_are_told_apart(error: Exception, kind: type[DockerError]) -> None:
    assert type(classify(error, "a")) is kind


def test_the_cause_is_found_below_a_clients_own_exception() -> None:
    """aiodocker raises inside an except clause: the handshake's error is its context."""
    try:
        try:
            raise ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
        except ssl.SSLError as inner:
            raise RuntimeError("wrapped") from inner
    except RuntimeError as outer:
        assert isinstance(classify(outer, "a"), DaemonRefusedUs)


@pytest.mark.parametrize("name", ["ca.pem", "client-cert.pem", "client-key.pem"])
def test_an_absent_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadCertificateFiles, match=name):
        ssl_context(settings_of(folder))


def test_a_damaged_authority_is_named(folder: Path) -> None:
    (folder / "ca.pem").unlink()
    (folder / "ca.pem").write_text("no certificate")
    with pytest.raises(BadCertificateFiles, match=r"ca\.pem"):
        ssl_context(settings_of(folder))


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    with pytest.raises(BadCertificateFiles, match="belong together"):
        ssl_context(DockerSettings(docker_cert_path=str(folder), docker_client_key=str(folder / "server-key.pem")))


def test_a_key_with_a_password_is_refused_without_asking(folder: Path) -> None:
    """OpenSSL would ask on the terminal, and a service has none."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((folder / "client-key.pem").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (folder / "client-key.pem").unlink()
    (folder / "client-key.pem").write_bytes(locked)
    with pytest.raises(BadCertificateFiles, match="password"):
        ssl_context(settings_of(folder))
