"""The certificates that a gateway and the daemon show each other. Stream ``gateway-{instance}``.

Told by each instance, since each has files of its own. ``sha256`` is of the certificate's DER form, in hex; no key and
no path is told.
"""

from datetime import datetime

import msgspec

NamedCertificate = tuple[str, datetime]  # sha256 and not_after: which one it is, and until when it holds


class CertificateExpiryWarned(msgspec.Struct, frozen=True, kw_only=True, tag="certificate.expiry_warned"):
    """It ends soon, or has ended: told once for each certificate and instance."""

    instance: str
    role: str  # a word: ca, client (ours), daemon (what it shows us)
    sha256: str
    not_after: datetime


class CertificateUsed(msgspec.Struct, frozen=True, kw_only=True, tag="certificate.used"):
    """What an instance began with: told once a start and role; of the daemon, when it first showed its own.

    With ``certificate.rotated`` it tells which certificates were in use at any time, also when they were replaced
    while no gateway ran.
    """

    instance: str
    role: str  # a word, as above
    certificates: tuple[NamedCertificate, ...]  # of the CA: all that are trusted


class CertificateRotated(msgspec.Struct, frozen=True, kw_only=True, tag="certificate.rotated"):
    """Others are in use from here on: new files were taken up, or the daemon showed another one.

    Of the CA one is only ``added`` when its replacement begins, and only ``removed`` when the former is trusted no
    longer, which revokes whatever it signed.
    """

    instance: str
    role: str  # a word, as above
    added: tuple[NamedCertificate, ...]
    removed: tuple[NamedCertificate, ...]


class CertificateRefused(msgspec.Struct, frozen=True, kw_only=True, tag="certificate.refused"):
    """New files were not taken up, since they cannot be used: the ones before stay in use.

    Told once each time that it happens: after good files lay there, the same bad ones are told again.
    """

    instance: str
    reason: str  # a word: unreadable, key_mismatch, wrong_usage, weak, other_ca, expired, not_yet_valid
    detail: str  # one sentence, no secret
