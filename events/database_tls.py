"""TLS to Postgres, at least 1.2, and what a failed connection means: whose fault it is, in one line."""

import socket
import ssl
from typing import Final

from events.database_url import SYSTEM, BadDatabaseUrl, Tls

# OpenSSL's codes (x509_vfy.h); its texts differ from release to release.
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_WRONG_NAME: Final = (62, 64)  # of a host, of an address
_ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a certificate of ours: give sslcert and sslkey",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust our certificate's authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server says that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refuses our certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server speaks only TLS older than 1.2",
    "UNSUPPORTED_PROTOCOL": "the server speaks only TLS older than 1.2",
}


def client_context(tls: Tls) -> ssl.SSLContext:
    """Our side of the handshake, its files read now. Raises BadDatabaseUrl with the file that is at fault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["postgresql"])
    context.check_hostname = tls.mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if tls.verifies else ssl.CERT_NONE
    if tls.verifies:
        _load_authority(context, tls.authority)
    if tls.certificate:
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(tls.certificate, tls.key, password="")
        except (OSError, ValueError) as error:
            raise BadDatabaseUrl(
                f"has sslcert {tls.certificate} and sslkey {tls.key}, which cannot be used: one cannot be read, "
                "the key has a password, or they do not belong together"
            ) from error
    return context


def _load_authority(context: ssl.SSLContext, authority: str) -> None:
    try:
        if authority == SYSTEM:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=authority)
    except OSError as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else None
        raise BadDatabaseUrl(
            f"has sslrootcert {authority}, which cannot be used: {(reason or 'it holds no certificate').lower()}"
        ) from error


def refusal(error: BaseException, tls: Tls) -> str | None:
    """Why a handshake or a socket failed, or None when the error is Postgres's own."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error, tls)
    if isinstance(error, ssl.SSLError):
        return _ALERTS.get(error.reason or "", f"the TLS handshake failed: {error.reason or error}")
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, socket.gaierror):
        return "no address is known for this name"
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        return f"the server speaks no TLS, and sslmode={tls.mode} asks for it"
    if isinstance(error, ConnectionError) and "during SSL exchange" in str(error):
        return "the server refuses connections with TLS or altogether: its own log tells why"
    return None


def _distrust(error: ssl.SSLCertVerificationError, tls: Tls) -> str:
    if error.verify_code in _WRONG_NAME:
        return "the server shows a certificate that is for another name"
    if error.verify_code == _EXPIRED:
        return "the server shows a certificate that has expired"
    if error.verify_code == _NOT_YET:
        return "the server shows a certificate that is not valid yet, or our clock is behind"
    trusted = "this machine trusts" if tls.authority == SYSTEM else f"is in sslrootcert {tls.authority}"
    return f"the server shows a certificate of no authority that {trusted}: {error.verify_message}"
