"""Mutual TLS to the daemon, and what a failed conversation means.

TLS 1.3 is the least we accept, the daemon's certificate is always verified, and ``docker.settings.daemon_url`` lets no
plain address through. ``classify`` reads only the standard library's exceptions, so it holds for any HTTP client. Why
a daemon refuses us its alert often does not tell: ``docker/refusals.py`` asks our own files.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from docker.cert_reading import read_file
from docker.errors import (
    BadCertificateFiles,
    CertificateFilesMissing,
    CertificateFilesUnreadable,
    DaemonDown,
    DaemonExpired,
    DaemonFailed,
    DaemonNotForServers,
    DaemonNotYetValid,
    DaemonOfAnotherAuthority,
    DaemonOfAnotherName,
    DaemonPlainText,
    DaemonRefusedUs,
    DaemonSilent,
    DaemonTlsTooOld,
    DaemonUntrusted,
    DockerError,
    HostUnknown,
    PortClosed,
)
from docker.settings import DockerSettings, certificate_paths

# What a daemon without TLS makes of our handshake: OpenSSL reads "HTTP/1.1 400" as a record.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
# A daemon without TLS 1.3 says so by an alert, or answers in an older version that we do not take.
_TOO_OLD = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION")
# A certificate that is below OpenSSL's security level.
_TOO_WEAK = ("MD_TOO_WEAK", "KEY_TOO_SMALL")
# OpenSSL's numbers for what is wrong with a certificate (x509_vfy.h, X509_V_ERR_*); its words follow in brackets.
_OTHER_CA = (DaemonOfAnotherAuthority, "is not signed by our CA")
_UNTRUSTED: dict[int, tuple[type[DaemonUntrusted], str]] = {
    **dict.fromkeys((2, 7, 18, 19, 20, 21), _OTHER_CA),
    9: (DaemonNotYetValid, "is not valid yet"),
    10: (DaemonExpired, "has expired"),
    26: (DaemonNotForServers, "is not made for servers (serverAuth)"),
    62: (DaemonOfAnotherName, "names another host"),
    64: (DaemonOfAnotherName, "names another host"),
}
# The words of Go's net/http, in which dockerd answers plain HTTP on its TLS port (status 400).
PLAIN_TEXT_ANSWER = "Client sent an HTTP request to an HTTPS server"


def ssl_context(settings: DockerSettings) -> ssl.SSLContext:
    """Our side of the handshake, files loaded. Raises BadCertificateFiles with the file that is at fault."""
    authority, certificate, key = certificate_paths(settings)
    for path, setting in ((authority, "CA_CERT"), (certificate, "CLIENT_CERT"), (key, "CLIENT_KEY")):
        _check_readable(path, f"DOCKER_{setting}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are its defaults
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=authority)
    except (ssl.SSLError, OSError) as error:
        raise BadCertificateFiles(f"{authority} holds no CA certificate that can be read.") from error
    try:
        # Without a password callback OpenSSL asks for one on the terminal, and a service would wait for ever.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        if any(mark in str(error) for mark in _TOO_WEAK):
            raise BadCertificateFiles(
                f"{certificate} is too weak for TLS, by its key or its signature: look with certs check, and renew it."
            ) from error
        raise BadCertificateFiles(
            f"{certificate} and {key} cannot be used: one is damaged, the key has a password, "
            "or they do not belong together."
        ) from error
    return context


def classify(error: BaseException, address: str) -> DockerError:
    """Say whose fault a failed call to ``address`` is; the caller chains it (``raise classify(...) from error``).

    Walks the chain of causes, because a client's own exception hides the handshake's. Under TLS 1.3 a refusal of our
    certificate arrives as an alert on the first read, after the handshake looked complete.
    """
    chain = list(_causes(error))
    for cause in reversed(chain):  # aiohttp's own exception is of this type too, and has no message
        if isinstance(cause, ssl.SSLCertVerificationError):
            kind, what = _UNTRUSTED.get(cause.verify_code, (DaemonUntrusted, "we do not trust"))
            said = cause.verify_message.rstrip(".")
            return kind(f"The daemon at {address} shows a certificate that {what} ({said}).")
    for cause in chain:
        if isinstance(cause, ssl.SSLError):
            return _from_tls(cause, address)
    for cause in chain:
        if isinstance(cause, TimeoutError):
            return DaemonSilent(f"The daemon at {address} did not answer in time.")
        if isinstance(cause, ConnectionRefusedError):
            return PortClosed(f"Nothing listens at {address}: is the daemon running, and does DOCKER_HOST name it?")
        if isinstance(cause, socket.gaierror):
            return HostUnknown(f"The name of the daemon's host in {address} cannot be resolved ({cause.strerror}).")
    if any(isinstance(cause, OSError | EOFError) for cause in chain):
        words = [str(cause) or type(cause).__name__ for cause in chain]
        return DaemonDown(f"The connection to the daemon at {address} failed: {words[-1]}.")
    return DaemonFailed(f"The daemon at {address} could not be used: {error}.")


def may_hide_refusal(error: BaseException) -> bool:
    """Whether the connection broke off in a way that can swallow the alert of a daemon that refused us.

    Under TLS 1.3 we send our request before the daemon has judged our certificate. When it then closes, the reset that
    answers our bytes can arrive before we have read its alert (40 calls of 40 against dockerd 20.10).
    """
    chain = list(_causes(error))
    telling = (TimeoutError, ConnectionRefusedError, socket.gaierror, ssl.SSLError)
    return not any(isinstance(cause, telling) for cause in chain)


async def ask_why(address: str, context: ssl.SSLContext, *, seconds: float = 1.0) -> ssl.SSLError | None:
    """Connect once more and send nothing: the alert of a daemon that refuses us, None when there is none."""
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
            try:
                await reader.read(1)
            finally:
                writer.transport.abort()
    except ssl.SSLError as error:
        return error
    except OSError:  # down; or it accepts us, and waits for our request until the time-out (which is an OSError too)
        return None
    return None


def _from_tls(error: ssl.SSLError, address: str) -> DockerError:
    reason = str(error)  # "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)"
    if any(mark in reason for mark in _TOO_OLD):
        return DaemonTlsTooOld(f"The daemon at {address} speaks nothing newer than TLS 1.2; TLS 1.3 is the least here.")
    if any(mark in reason for mark in _NOT_TLS):
        return DaemonPlainText(f"The daemon at {address} speaks plain HTTP: start it with --tlsverify.")
    if "ALERT" in reason:
        return DaemonRefusedUs(
            f"The daemon at {address} refused our certificate ({reason}): "
            "it is missing, of another CA, expired, or not for clients."
        )
    return DaemonDown(f"The TLS conversation with the daemon at {address} broke off ({reason}).")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _check_readable(path: Path, setting: str) -> None:
    """By reading it: whether a user may depends on every folder above it, and OpenSSL would wait for a FIFO."""
    try:
        read_file(path)
    except FileNotFoundError as error:
        raise CertificateFilesMissing(
            f"{path} does not exist: set {setting} or DOCKER_CERT_PATH, or make certificates."
        ) from error
    except PermissionError as error:
        raise CertificateFilesUnreadable(f"{path} cannot be read by this user.") from error
    except OSError as error:
        raise BadCertificateFiles(f"{path} cannot be read: {error.strerror}.") from error
