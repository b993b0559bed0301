"""The certificate that the daemon shows: read from a handshake that was verified."""

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


async def test_a_daemon_that_is_not_trusted_shows_nothing(tmp_path: Path) -> None:
    issue(tmp_path, Authority())
    issue_server(tmp_path, Authority())
    async with certified_daemon(tmp_path) as daemon:
        with pytest.raises(ssl.SSLCertVerificationError):
            address = f"https://127.0.0.1:{daemon.port}"
            await shown_certificate(address, ssl_context(settings_of(tmp_path)), seconds=5)
