"""The certificates that a gateway and the daemon show each other. Stream ``gateway-{instance}``.

Told by each instance, since each has files of its own. ``sha256`` is of the certificate's DER form, in hex; no key and
no path is told.
"""

from datetime import datetime

import msgspec


class CertificateExpiryWarned(msgspec.Struct, frozen=True, kw_only=True, tag="certificate.expiry_warned"):
    """It ends soon, or has ended: told once for each certificate and instance."""

    instance: str
    role: str  # a word: ca, client (ours), daemon (what it shows us)
    sha256: str
    not_after: datetime


class CertificateRotated(msgspec.Struct, frozen=True, kw_only=True, tag="certificate.rotated"):
    """Another one is in use from here on: new files were taken up, or the daemon showed another one."""

    instance: str
    role: str  # a word, as above
    before: str  # sha256 of the one before
    sha256: str
    not_after: datetime


class CertificateRefused(msgspec.Struct, frozen=True, kw_only=True, tag="certificate.refused"):
    """New files were not taken up, since they cannot be used: the ones before stay in use."""

    instance: str
    reason: str  # a word: unreadable, key_mismatch, wrong_usage, other_ca, expired, not_yet_valid
    detail: str  # one sentence, no secret
