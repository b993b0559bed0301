"""Verdicts: one word, one exit code and one thing to do for each way in which a daemon cannot be used.

``docker/README.md`` shows the same table (a test compares). The words are stable: scripts decide by them.
"""

from typing import Final

import msgspec

from docker import errors
from docker.errors import DockerError


class Verdict(msgspec.Struct, frozen=True):
    """``word`` for programs, ``exit_code`` for shells, ``todo`` for whoever has to mend it."""

    word: str
    exit_code: int
    todo: str


USABLE: Final = Verdict("ok", 0, "")
WITHOUT_A_NAME: Final = Verdict("failed", 19, "")  # of a call, not of the way: its sentence says what to do

VERDICTS: Final[dict[type[DockerError], Verdict]] = {
    # our own side, before a byte is sent
    errors.BadDockerSettings: Verdict("bad-settings", 10, "Correct the setting that the sentence names."),
    errors.CertificateFilesMissing: Verdict(
        "files-missing",
        11,
        "Set DOCKER_CERT_PATH to the folder of ca.pem, client-cert.pem and client-key.pem, or make them with "
        "docker/scripts/generate-certs.sh.",
    ),
    errors.CertificateFilesUnreadable: Verdict(
        "files-unreadable",
        12,
        "Give the files to the user that the gateway runs as: chown them, 0400 for the key and 0444 for certificates.",
    ),
    errors.BadCertificateFiles: Verdict(
        "files-unusable", 13, "Put a certificate and the key that belongs to it there, without a password."
    ),
    # the way to the daemon
    errors.HostUnknown: Verdict("host-unknown", 20, "Correct the name in DOCKER_HOST, or let this machine resolve it."),
    errors.PortClosed: Verdict(
        "port-closed",
        21,
        "Start dockerd with --host tcp://ADDRESS:2376 --tlsverify, and let DOCKER_HOST name that address and port.",
    ),
    errors.DaemonSilent: Verdict(
        "silent",
        22,
        "Let the firewall pass this machine to the daemon's port (2376), and see whether the daemon's machine hangs.",
    ),
    errors.DaemonDown: Verdict("unreachable", 23, "Look whether the daemon runs, and at the network between."),
    # the daemon's side of the handshake
    errors.DaemonPlainText: Verdict(
        "plain-text", 30, "Start dockerd with --tlsverify, and take away a proxy that ends TLS before it."
    ),
    errors.DaemonTlsTooOld: Verdict(
        "tls-too-old", 31, "Let the daemon, or what stands before it, speak TLS 1.3: dockerd 20.10 does."
    ),
    errors.DaemonOfAnotherAuthority: Verdict(
        "daemon-other-authority", 32, "Let DOCKER_CA_CERT be the CA that signed the daemon's certificate."
    ),
    errors.DaemonExpired: Verdict(
        "daemon-expired", 33, "Renew the daemon's certificate and restart dockerd; compare the two machines' clocks."
    ),
    errors.DaemonNotYetValid: Verdict(
        "daemon-not-yet-valid", 34, "Set the clocks of this machine and of the one that made the certificate."
    ),
    errors.DaemonOfAnotherName: Verdict(
        "daemon-other-name",
        35,
        "Call the daemon in DOCKER_HOST by a name of its certificate, or make one that names this host.",
    ),
    errors.DaemonNotForServers: Verdict(
        "daemon-not-for-servers", 36, "Give dockerd server-cert.pem and server-key.pem, not the client's."
    ),
    errors.DaemonUntrusted: Verdict("daemon-untrusted", 37, "Make the daemon a new certificate of our CA."),
    # our side of the handshake, as the daemon judges it
    errors.CertificateNotSent: Verdict(
        "refused-without-certificate", 40, "Set DOCKER_CLIENT_CERT and DOCKER_CLIENT_KEY."
    ),
    errors.AuthorityUnknownToDaemon: Verdict(
        "refused-other-authority",
        41,
        "Sign our certificate with the CA of the daemon's --tlscacert, or give the daemon our CA.",
    ),
    errors.CertificateNotForClients: Verdict(
        "refused-not-for-clients", 42, "Use client-cert.pem and client-key.pem, made for clients (clientAuth)."
    ),
    errors.CertificateExpired: Verdict(
        "refused-expired", 43, "Renew the client's certificate: the running gateway takes it up by itself."
    ),
    errors.CertificateNotYetValid: Verdict(
        "refused-not-yet-valid", 44, "Set this machine's clock, or wait until the certificate begins."
    ),
    errors.DaemonRefusedUs: Verdict("refused", 45, "Look into the daemon's log: it says why it refused us."),
    # beyond the handshake
    errors.NoDaemon: Verdict("no-daemon", 50, "Let DOCKER_HOST name a Docker daemon: something else answers there."),
    errors.DaemonFailed: Verdict("daemon-failed", 51, "Look into the daemon's log and at its disk."),
}


def verdict_of(error: DockerError) -> Verdict:
    """The nearest verdict of the error's class or one of its bases."""
    return next((VERDICTS[kind] for kind in type(error).__mro__ if kind in VERDICTS), WITHOUT_A_NAME)
