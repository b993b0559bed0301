"""Why the daemon refused us is read from our own files, and from its alert where that says it."""

import datetime as dt
import ssl
from pathlib import Path

import pytest

from docker.authority import Authority
from docker.errors import (
    AuthorityUnknownToDaemon,
    CertificateExpired,
    CertificateNotForClients,
    CertificateNotSent,
    DaemonDown,
    DaemonRefusedUs,
)
from docker.identity import Credentials
from docker.refusals import failure_of
from tests.docker.stub_daemon import LONG_AGO, furnish, put, settings_for

NOW = dt.datetime.now(dt.UTC)


def alert(words: str) -> ssl.SSLError:
    return ssl.SSLError(1, f"[SSL: {words}] {words.lower()}")


async def meaning(folder: Path, words: str) -> Exception:
    return await failure_of(alert(words), settings_for(folder, 1), "tcp://a", now=NOW)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", CertificateNotSent),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", CertificateExpired),
        ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", CertificateNotForClients),
        ("TLSV1_ALERT_UNKNOWN_CA", AuthorityUnknownToDaemon),
        ("SSLV3_ALERT_BAD_CERTIFICATE", AuthorityUnknownToDaemon),
        ("TLSV1_ALERT_INTERNAL_ERROR", DaemonRefusedUs),
    ],
)
async def test_files_in_order_leave_it_to_the_alert(tmp_path: Path, words: str, kind: type[Exception]) -> None:
    found = await meaning(furnish(tmp_path / "certs", Authority()), words)
    assert type(found) is kind


async def test_our_files_know_better_than_the_alert(tmp_path: Path) -> None:
    """dockerd 20.10 says "bad certificate" whatever it is."""
    old = Authority(days=1, now=LONG_AGO)
    found = await meaning(furnish(tmp_path / "certs", old), "SSLV3_ALERT_BAD_CERTIFICATE")
    assert type(found) is CertificateExpired
    assert "client-cert.pem" in str(found)


async def test_what_was_shown_is_judged_and_not_what_lies_there_now(tmp_path: Path) -> None:
    """Files that cannot be used are left alone, and the ones before go on being shown until they end."""
    authority = Authority(days=1, now=LONG_AGO)
    settings = settings_for(furnish(tmp_path / "certs", authority), 1)
    shown = Credentials(settings).identity().held
    put(tmp_path / "certs", client_key=Authority().client()[1])
    error = alert("SSLV3_ALERT_BAD_CERTIFICATE")
    assert type(await failure_of(error, settings, "tcp://a", now=NOW, shown=shown)) is CertificateExpired
    assert type(await failure_of(error, settings, "tcp://a", now=NOW)) is AuthorityUnknownToDaemon


async def test_files_that_went_meanwhile_leave_it_to_the_alert(tmp_path: Path) -> None:
    folder = furnish(tmp_path / "certs", Authority())
    put(folder, client_key=b"")
    (folder / "client-cert.pem").unlink()
    assert type(await meaning(folder, "TLSV1_ALERT_UNKNOWN_CA")) is AuthorityUnknownToDaemon


async def test_what_is_no_refusal_is_left_as_it_is(tmp_path: Path) -> None:
    folder = furnish(tmp_path / "certs", Authority())
    found = await failure_of(OSError("no route"), settings_for(folder, 1), "tcp://a")
    assert type(found) is DaemonDown
