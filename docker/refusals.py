"""Why a call to the daemon failed, as exactly as can be told from here.

Under TLS 1.3 a daemon's alert is the same for a certificate that is expired, of another CA, or not for clients
(dockerd 20.10 says "bad certificate" to all three), and it may be lost. Our own files know which it is.
"""

import datetime as dt
import ssl

from docker.cert_files import Fault, Held, judged, usable
from docker.cert_reading import read_file
from docker.errors import (
    AuthorityUnknownToDaemon,
    CertificateExpired,
    CertificateNotForClients,
    CertificateNotSent,
    CertificateNotYetValid,
    DaemonDown,
    DaemonFailed,
    DaemonRefusedUs,
    DockerError,
)
from docker.settings import DockerSettings, certificate_paths, daemon_url
from docker.tls import ask_why, classify, may_hide_refusal, ssl_context

# Words of ``cert_files.usable`` -> what they mean once the daemon has refused us.
_FAULTS: dict[str, type[DaemonRefusedUs]] = {
    "expired": CertificateExpired,
    "not_yet_valid": CertificateNotYetValid,
    "wrong_usage": CertificateNotForClients,
    "other_ca": AuthorityUnknownToDaemon,
}
# What only some servers say so exactly (RFC 8446, 6.2).
_ALERTS: dict[str, type[DaemonRefusedUs]] = {
    "CERTIFICATE_REQUIRED": CertificateNotSent,
    "CERTIFICATE_EXPIRED": CertificateExpired,
    "UNSUPPORTED_CERTIFICATE": CertificateNotForClients,
    "UNKNOWN_CA": AuthorityUnknownToDaemon,
    "BAD_CERTIFICATE": AuthorityUnknownToDaemon,
    "CERTIFICATE_UNKNOWN": AuthorityUnknownToDaemon,
}


async def failure_of(
    error: Exception,
    settings: DockerSettings,
    address: str,
    *,
    lost: bool = False,
    context: ssl.SSLContext | None = None,
    shown: Held | None = None,
    now: dt.datetime | None = None,
) -> DockerError:
    """What ``error``, of a call to ``address``, means. ``lost``: the connection broke, whatever the exception says.

    When the daemon's alert may have been lost it is asked for once more, with ``context``, in a second at the most.
    ``shown`` is what the call was made with; without it, it is what the files hold now.
    """
    found = classify(error, address)
    if lost and isinstance(found, DaemonFailed):
        found = DaemonDown(f"The daemon at {address} broke off the conversation.")
    if isinstance(found, DaemonDown) and may_hide_refusal(error):
        alert = await ask_why(daemon_url(settings), context or ssl_context(settings))
        if alert is not None:
            found = classify(alert, address)
    if type(found) is DaemonRefusedUs:
        return why_refused(found, settings, address, now or dt.datetime.now(dt.UTC), shown=shown)
    return found


def why_refused(
    refusal: DaemonRefusedUs, settings: DockerSettings, address: str, now: dt.datetime, *, shown: Held | None = None
) -> DaemonRefusedUs:
    """The refusal with its cause; as it is when neither what we showed nor the alert tells one."""
    _, certificate, _ = certificate_paths(settings)
    fault = judged(shown, now) if shown is not None else fault_of_files(settings, now)
    if fault is not None and fault.reason in _FAULTS:
        return _FAULTS[fault.reason](f"The daemon at {address} refused our certificate {certificate}: {fault.detail}")
    kind = next((kind for word, kind in _ALERTS.items() if word in str(refusal)), None)
    if kind is CertificateNotSent:
        return kind(f"The daemon at {address} wants a certificate, and none was sent.")
    if kind is AuthorityUnknownToDaemon:
        return kind(
            f"The daemon at {address} refused our certificate {certificate}, which holds by our own CA and clock: "
            "the daemon was given another CA (--tlscacert), or its clock is wrong."
        )
    return refusal if kind is None else kind(str(refusal))


def fault_of_files(settings: DockerSettings, now: dt.datetime) -> Fault | None:
    """Why our files, as they are now, cannot be used; None also when one of them went meanwhile."""
    try:
        authority, certificate, key = (read_file(path) for path in certificate_paths(settings))
    except OSError:
        return None
    return usable(authority, certificate, key, now)
