"""The certificate that the daemon shows: read from a handshake that was verified."""

import asyncio
import queue
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from docker.authority import Authority
from docker.handshake import shown_certificate
from docker.tls import ssl_context
from tests.docker.cert_folder import issue, issue_server, settings_of
from tests.docker.certified_daemon import certified_daemon
from tests.docker.stub_daemon import daemon_context, peer


async def test_it_is_the_one_that_the_daemon_has(tmp_path: Path) -> None:
    authority = Authority(days=7)
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    context = ssl_context(settings_of(tmp_path))
    async with certified_daemon(tmp_path) as daemon:
        shown = await shown_certificate(f"https://127.0.0.1:{daemon.port}", context, seconds=5)
    held = x509.load_pem_x509_certificate((tmp_path / "server-cert.pem").read_bytes())
    assert shown.sha256 == held.fingerprint(hashes.SHA256()).hex()
    assert shown.not_after == held.not_valid_after_utc


async def test_a_peer_that_is_silent_is_neither_waited_for_nor_kept(tmp_path: Path) -> None:
    """One that shakes hands and then never says goodbye, and one that never answers."""
    issue(tmp_path, authority := Authority())
    issue_server(tmp_path, authority)
    context, ends = ssl_context(settings_of(tmp_path)), queue.SimpleQueue[bool]()

    def shake_hands_only(connection: socket.socket) -> None:
        raw = connection.dup()
        over = daemon_context(tmp_path).wrap_socket(connection, server_side=True)
        raw.settimeout(5)
        try:
            while raw.recv(65536):
                pass
            ends.put(True)
        except ConnectionResetError:
            ends.put(True)
        except TimeoutError:
            ends.put(False)
        over.close()
        raw.close()

    with peer(shake_hands_only) as port:
        await shown_certificate(f"https://127.0.0.1:{port}", context, seconds=5)
        assert await asyncio.to_thread(ends.get), "the connection ended"

    def say_nothing(connection: socket.socket) -> None:
        connection.recv(65536)
        ends.get()

    with peer(say_nothing) as port:
        async with asyncio.timeout(10) as patience:
            with pytest.raises(TimeoutError):
                await shown_certificate(f"https://127.0.0.1:{port}", context, seconds=0.2)
        assert not patience.expired()
        ends.put(True)


async def test_a_daemon_that_is_not_trusted_shows_nothing(tmp_path: Path) -> None:
    issue(tmp_path, Authority())
    issue_server(tmp_path, Authority())
    async with certified_daemon(tmp_path) as daemon:
        with pytest.raises(ssl.SSLCertVerificationError):
            address = f"https://127.0.0.1:{daemon.port}"
            await shown_certificate(address, ssl_context(settings_of(tmp_path)), seconds=5)
