"""What certificate files hold, and whether they can be used together: bytes in, facts out.

Only PEM. Nothing of a private key ever stands in a message. Where the files lie, and who may read them, is left to
``cert_report``.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
MOST_BETWEEN: Final = 8  # certificates between a leaf and its CA; operators' own have one or two
_LEAST_BITS: Final = {"RSA": 2048, "EC": 256}
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")  # what OpenSSL and Go both speak (RFC 8446, 4.2.7)
_BROKEN_HASHES: Final = ("md5", "sha1")

Extension = TypeVar("Extension", bound=x509.ExtensionType)
Path = tuple[x509.Certificate, ...]  # a leaf, whatever stands between, a CA that is trusted


class Fault(msgspec.Struct, frozen=True):
    """Why files cannot be used: ``reason`` is a word of the event ``certificate.refused``, ``detail`` a sentence."""

    reason: str  # unreadable, key_mismatch, wrong_usage, weak, other_ca, expired, not_yet_valid
    detail: str


class Held(msgspec.Struct, frozen=True):
    """What a client shows (its certificate first, then those between) and the CAs that it trusts."""

    chain: tuple[x509.Certificate, ...]
    authorities: tuple[x509.Certificate, ...]


class UnreadableFile(ValueError):
    """Bytes that are not what they should be; the message is a sentence."""


def usable(authority: bytes, certificate: bytes, key: bytes, now: dt.datetime) -> Fault | None:
    """None when a client can show ``certificate`` with ``key`` and trust ``authority``; else the first fault.

    ``authority`` may hold several CAs; one of them must have signed ``certificate``, which may carry those between.
    """
    found = held(authority, certificate, key)
    return found if isinstance(found, Fault) else judged(found, now)


def held(authority: bytes, certificate: bytes, key: bytes) -> Held | Fault:
    """What the files hold, when all can be read and the key is the certificate's. Holds at any time."""
    try:
        authorities = certificates(authority, "The file of the CA")
        chain = certificates(certificate, "The client's certificate file")
        own = private_key(key, "The client's key file")
    except UnreadableFile as error:
        return Fault("unreadable", str(error))
    if not belongs(own, chain[0]):
        return Fault("key_mismatch", "The client's key is not the one of its certificate.")
    return Held(tuple(chain), tuple(authorities))


def judged(found: Held, now: dt.datetime) -> Fault | None:
    """The first reason why a client cannot show it now."""
    chain, authorities = found.chain, found.authorities
    if not serves(chain[0], CLIENT):
        return Fault("wrong_usage", "The client's certificate is not made for clients (clientAuth).")
    if weak := weakness(chain[0]):
        return Fault("weak", f"The client's certificate {weak}.")
    if way(chain, authorities, lambda each: out_of_time((each,), now) is None):
        return None
    found_way = way(chain, authorities)
    if found_way is None:
        return Fault("other_ca", "The client's certificate is signed by none of the CAs in the file of the CA.")
    return out_of_time(found_way, now)


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


def key_of(certificate: x509.Certificate) -> tuple[str, int]:
    """Kind of its key, and how many bits it has."""
    public = certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return "RSA", public.key_size
    if isinstance(public, ec.EllipticCurvePublicKey):
        return f"EC {public.curve.name}", public.curve.key_size
    return type(public).__name__.removeprefix("_").removesuffix("PublicKey"), 256  # Ed25519 and Ed448


def weakness(certificate: x509.Certificate) -> str:
    """Why TLS takes it no longer, as the end of a sentence; empty when it does. Of a CA's own signature nothing is
    asked: it is trusted for being there."""
    kind, bits = key_of(certificate)
    name, _, curve = kind.partition(" ")
    if bits < _LEAST_BITS.get(name, 256):
        return f"has a weak key: {kind}, {bits} bits"
    if curve and curve not in _CURVES:
        return f"has a key of the curve {curve}, which TLS 1.3 does not speak"
    made_with = certificate.signature_hash_algorithm
    if made_with is not None and made_with.name in _BROKEN_HASHES and certificate.issuer != certificate.subject:
        return f"is signed with {made_with.name.upper()}, which TLS takes no longer"
    return ""


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    basic, usage = extension(certificate, x509.BasicConstraints), extension(certificate, x509.KeyUsage)
    return basic is not None and basic.ca and (usage is None or usage.key_cert_sign)


def way(
    chain: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    fit: Callable[[x509.Certificate], bool] = lambda _: True,
) -> Path | None:
    """A shortest way from the first of ``chain`` over the rest of it to one of ``authorities``; all on it are ``fit``.

    Of what is twice in a file one is looked at, and of those between the first ``MOST_BETWEEN``: each certificate is
    reached once, so that no file, whoever wrote it, costs more than a few hundred signatures.
    """
    leaf, *rest = dict.fromkeys(chain)
    trusted = [each for each in dict.fromkeys(authorities) if fit(each)]
    between = [each for each in rest if fit(each) and is_authority(each)][:MOST_BETWEEN]
    ways: list[Path] = [(leaf,)] if fit(leaf) else []
    for begun in ways:  # grows meanwhile
        last = begun[-1]
        if last in trusted:
            return begun
        for authority in trusted:
            if is_authority(authority) and signed_by(last, authority):
                return *begun, authority
        reached = [each for each in between if signed_by(last, each)]
        between = [each for each in between if each not in reached]
        ways += [(*begun, each) for each in reached]
    return None


@lru_cache(maxsize=512)  # what is refused is judged again each second
def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` is named as its issuer and made its signature."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def out_of_time(steps: Path, now: dt.datetime) -> Fault | None:
    """The first on the way that has ended, or has not begun."""
    for certificate in steps:
        what = "The CA's certificate" if certificate is not steps[0] else "The client's certificate"
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
