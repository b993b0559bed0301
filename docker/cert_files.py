"""What certificate files hold, and whether they can be used together: bytes in, facts out.

Only PEM. Nothing of a private key ever stands in a message. Where the files lie, and who may read them, is left to
``cert_report``.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH

Extension = TypeVar("Extension", bound=x509.ExtensionType)
Path = tuple[x509.Certificate, ...]  # a leaf, whatever stands between, a CA that is trusted


class Fault(msgspec.Struct, frozen=True):
    """Why files cannot be used: ``reason`` is a word of the event ``certificate.refused``, ``detail`` a sentence."""

    reason: str  # unreadable, key_mismatch, wrong_usage, other_ca, expired, not_yet_valid
    detail: str


class UnreadableFile(ValueError):
    """Bytes that are not what they should be; the message is a sentence."""


def usable(authority: bytes, certificate: bytes, key: bytes, now: dt.datetime) -> Fault | None:
    """None when a client can show ``certificate`` with ``key`` and trust ``authority``; else the first fault.

    ``authority`` may hold several CAs; one of them must have signed ``certificate``, which may carry those between.
    """
    try:
        authorities = certificates(authority, "The file of the CA")
        chain = certificates(certificate, "The client's certificate file")
        held = private_key(key, "The client's key file")
    except UnreadableFile as error:
        return Fault("unreadable", str(error))
    if not belongs(held, chain[0]):
        return Fault("key_mismatch", "The client's key is not the one of its certificate.")
    if not serves(chain[0], CLIENT):
        return Fault("wrong_usage", "The client's certificate is not made for clients (clientAuth).")
    ways = list(paths(chain, authorities))
    if not ways:
        return Fault("other_ca", "The client's certificate is signed by none of the CAs in the file of the CA.")
    return min((out_of_time(way, now) for way in ways), key=lambda fault: fault is not None)


def certificates(pem: bytes, what: str) -> list[x509.Certificate]:
    """All of them in order, read through: later use of them cannot fail. Raises UnreadableFile about ``what``."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        for certificate in found:
            certificate.public_key(), certificate.extensions, certificate.issuer, certificate.subject
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise UnreadableFile(f"{what} holds no certificate that can be read.") from error
    return found


def private_key(pem: bytes, what: str) -> PrivateKeyTypes:
    """The key. Raises UnreadableFile about ``what``."""
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise UnreadableFile(f"{what} is locked by a password, which nobody here can give.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnreadableFile(f"{what} holds no private key that can be read.") from error


def belongs(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    """Whether ``certificate`` was made for ``key``."""
    return _public(key.public_key()) == _public(certificate.public_key())


def serves(certificate: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    """Whether it may be shown for ``purpose``: one that names no purpose may for all (RFC 5280, 4.2.1.12)."""
    usage = extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return False
    named = extension(certificate, x509.ExtendedKeyUsage)
    return named is None or purpose in named or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in named


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    basic, usage = extension(certificate, x509.BasicConstraints), extension(certificate, x509.KeyUsage)
    return basic is not None and basic.ca and (usage is None or usage.key_cert_sign)


def paths(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> Iterator[Path]:
    """Every way from the first of ``chain`` over the rest of it to one of ``authorities``."""
    leaf, between = chain[0], chain[1:]
    for authority in authorities:
        if leaf == authority:
            yield (leaf,)
        elif is_authority(authority) and signed_by(leaf, authority):
            yield leaf, authority
    for position, link in enumerate(between):
        if link not in authorities and is_authority(link) and signed_by(leaf, link):
            rest = [link, *between[:position], *between[position + 1 :]]
            yield from ((leaf, *way) for way in paths(rest, authorities))


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` is named as its issuer and made its signature."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def out_of_time(way: Path, now: dt.datetime) -> Fault | None:
    """The first on the way that has ended, or has not begun."""
    for certificate in way:
        what = "The CA's certificate" if certificate is not way[0] else "The client's certificate"
        if certificate.not_valid_after_utc < now:
            return Fault("expired", f"{what} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC.")
        if now < certificate.not_valid_before_utc:
            begin = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
            return Fault("not_yet_valid", f"{what} is valid from {begin}: is this machine's clock right?")
    return None


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """What it says in that extension, None when it has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
