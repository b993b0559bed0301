"""A certificate authority in memory, and the certificates that it signs.

Elliptic-curve keys (P-256), each certificate good for its one use (RFC 5280, extended key usage), and none that lasts
longer than the authority that signed it. Files are left to ``certs``.
"""

import datetime as dt
import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from docker.cert_files import UnreadableFile, belongs, certificates, extension, is_authority, private_key
from docker.errors import BadCertificateFiles

DAYS: Final = 3650
MOST_DAYS: Final = 36_500
# Two machines' clocks differ; a certificate that starts "now" is refused by one that is behind.
_CLOCK_SKEW: Final = dt.timedelta(hours=1)
_LABEL: Final = r"[a-zA-Z0-9_](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
# No last label of digits alone: that is an IP address with a mistake in it.
_HOST_NAME: Final = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*(?!\d+$){_LABEL}")
_OUR_NAME: Final = re.compile(r"session-gateway (.+) CA")
_ENVIRONMENT: Final = re.compile(r"[\w. -]{1,40}", re.ASCII)

_Signer = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class Authority:
    """Signs one daemon's and any number of clients' certificates; a new one with a new key."""

    _own_identifier: x509.SubjectKeyIdentifier | None = None  # of a CA that somebody else made: as he chose it

    def __init__(self, *, environment: str = "development", days: int = DAYS, now: dt.datetime | None = None) -> None:
        begin, end = _period(days, now)
        if not _ENVIRONMENT.fullmatch(environment):
            raise BadCertificateFiles(f"DOCKER_ENV={environment!r}: give up to 40 letters, digits, dots or dashes.")
        key = ec.generate_private_key(ec.SECP256R1())
        self._name = name = _name(f"session-gateway {environment} CA")
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        builder = (
            _builder(name, key.public_key(), begin, end)
            .issuer_name(name)
            .add_extension(identifier, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
        )
        self._key: _Signer = key
        self._certificate = builder.sign(key, hashes.SHA256())

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> "Authority":
        """The one that ``key`` belongs to, of those in ``certificate``. Raises BadCertificateFiles."""
        try:
            bundle, held = certificates(certificate, "ca.pem"), private_key(key, "ca-key.pem")
        except UnreadableFile as error:
            raise BadCertificateFiles(str(error)) from error
        loaded = cls.__new__(cls)
        own = [each for each in bundle if belongs(held, each)]
        if not own or not isinstance(held, _Signer):
            raise BadCertificateFiles("ca-key.pem is not the key of ca.pem: nothing can be signed with it.")
        if not is_authority(own[0]):
            raise BadCertificateFiles("ca.pem is no CA's certificate: nothing can be signed with it.")
        loaded._own_identifier = extension(own[0], x509.SubjectKeyIdentifier)
        loaded._certificate, loaded._key, loaded._name = own[0], held, own[0].subject
        return loaded

    @property
    def environment(self) -> str:
        """What the names of its certificates hold to tell them from another installation's."""
        return environment_of(self._certificate)

    @property
    def parsed(self) -> x509.Certificate:
        """Our own certificate."""
        return self._certificate

    @property
    def certificate(self) -> bytes:
        """Our own certificate, PEM."""
        return _pem(self._certificate)

    @property
    def key(self) -> bytes:
        """Our private key, PEM; whoever holds it can make daemons and clients."""
        return _key_pem(self._key)

    def server(
        self,
        hosts: Sequence[str] | x509.SubjectAlternativeName,
        *,
        days: int | None = None,
        now: dt.datetime | None = None,
    ) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) of a daemon that is reached under each of ``hosts``, names or IP addresses.

        Without ``days`` it ends with us. Raises BadCertificateFiles.
        """
        names = hosts if isinstance(hosts, x509.SubjectAlternativeName) else host_names(hosts)
        return self._leaf("daemon", ExtendedKeyUsageOID.SERVER_AUTH, names, days=days, now=now)

    def client(self, *, days: int | None = None, now: dt.datetime | None = None) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) of a client: with it one is root on the daemon's machine."""
        return self._leaf("client", ExtendedKeyUsageOID.CLIENT_AUTH, None, days=days, now=now)

    def _leaf(
        self,
        role: str,
        purpose: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
        *,
        days: int | None,
        now: dt.datetime | None,
    ) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        begin, end = self._within(days, now)
        subject = _name(f"session-gateway {self.environment}"[:56] + f" {role}")
        builder = (
            _builder(subject, key.public_key(), begin, end)
            .issuer_name(self._name)
            .add_extension(self._identifier(), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        algorithm = (
            None if isinstance(self._key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
        )
        return _pem(builder.sign(self._key, algorithm)), _key_pem(key)

    def _within(self, days: int | None, now: dt.datetime | None) -> tuple[dt.datetime, dt.datetime]:
        first, last = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        if days is None:
            return first, last
        begin, end = _period(days, now)
        if begin + _CLOCK_SKEW < first:
            told = f"{first:%Y-%m-%d %H:%M} UTC"
            raise BadCertificateFiles(f"The CA is valid from {told}: set this machine's clock, or wait.")
        if begin + _CLOCK_SKEW >= last:
            raise BadCertificateFiles(f"The CA expired at {last:%Y-%m-%d %H:%M} UTC: make a new one (rotate ca).")
        return max(first, begin), min(last, end)

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        """Told by the key, not by the name: two CAs of one name stand side by side while one replaces the other."""
        if self._own_identifier is None:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._own_identifier)


def environment_of(authority: x509.Certificate) -> str:
    """What tells a CA from another installation's: DOCKER_ENV of one that we made, else what its name allows."""
    named = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(named[0].value) if named else "own"
    match = _OUR_NAME.fullmatch(text)
    return match[1] if match else re.sub(r"[^\w. -]", "-", text, flags=re.ASCII)[:40] or "own"


def host_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """What a daemon's certificate says of where it is reached. Raises BadCertificateFiles."""
    if not hosts:
        raise BadCertificateFiles("The daemon's certificate must name at least one host: DOCKER_HOST_IP, or --host.")
    return x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)])


def _period(days: int, now: dt.datetime | None) -> tuple[dt.datetime, dt.datetime]:
    if not 1 <= days <= MOST_DAYS:
        raise BadCertificateFiles(f"DAYS={days}: a certificate must hold for 1 to {MOST_DAYS} days.")
    moment = (now or dt.datetime.now(dt.UTC)).replace(microsecond=0)
    return moment - _CLOCK_SKEW, moment + dt.timedelta(days=days)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, begin: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise BadCertificateFiles(f"{host!r} is neither an IP address nor a host name (no scheme, no port).")
    return x509.DNSName(host)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _Signer) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
