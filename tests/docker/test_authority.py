"""A CA in memory: what it signs, for whom and until when; one that somebody else made signs too."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from docker.authority import Authority, environment_of, host_names
from docker.cert_files import signed_by, usable
from docker.errors import BadCertificateFiles

NOW = dt.datetime(2030, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def parsed(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def pem_of(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def foreign(key: Key, *, name: str = "Example Root", ca: bool = True, identifier: bytes | None = None) -> bytes:
    """A CA as an operator's own tools make it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 100 * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if identifier is not None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


def test_a_leaf_does_not_outlive_its_authority() -> None:
    authority = Authority(days=10, now=NOW)
    certificate = parsed(authority.client(days=365, now=NOW + DAY)[0])
    assert certificate.not_valid_after_utc == NOW + 10 * DAY
    shorter = parsed(authority.client(days=3, now=NOW + DAY)[0])
    assert shorter.not_valid_after_utc == NOW + 4 * DAY
    assert shorter.not_valid_before_utc == NOW + DAY - dt.timedelta(hours=1)


def test_an_expired_authority_signs_nothing() -> None:
    authority = Authority(days=10, now=NOW)
    with pytest.raises(BadCertificateFiles, match="expired at 2030-06-11"):
        authority.client(days=5, now=NOW + 10 * DAY)


def test_what_was_saved_signs_again() -> None:
    made = Authority(environment="production", days=10, now=NOW)
    again = Authority.load(made.certificate, made.key)
    assert again.environment == "production"
    certificate = parsed(again.server(["box"], days=5, now=NOW)[0])
    assert signed_by(certificate, made.parsed)
    assert certificate.subject.rfc4514_string() == "CN=session-gateway production daemon"


def test_the_key_says_which_of_a_bundle_it_is() -> None:
    former, newer = Authority(days=10, now=NOW), Authority(days=10, now=NOW)
    bundle = newer.certificate + former.certificate
    assert Authority.load(bundle, newer.key).parsed == newer.parsed
    assert Authority.load(bundle, former.key).parsed == former.parsed


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        (Authority().certificate, Authority().key, "ca-key.pem is not the key of ca.pem"),
        (Authority().certificate, b"", "ca-key.pem holds no private key"),
        (b"", Authority().key, "ca.pem holds no certificate"),
    ],
    ids=["of another", "no key", "no certificate"],
)
def test_a_wrong_key_is_told_in_a_sentence(certificate: bytes, key: bytes, sentence: str) -> None:
    with pytest.raises(BadCertificateFiles, match=sentence):
        Authority.load(certificate, key)


def test_who_is_no_authority_does_not_sign() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(BadCertificateFiles, match="no CA's certificate"):
        Authority.load(foreign(key, ca=False), pem_of(key))


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "ec", "ed25519"],
)
@pytest.mark.parametrize("identifier", [None, b"of his own choice"])
def test_an_authority_of_somebody_else_signs(key: Key, identifier: bytes | None) -> None:
    """Its leaf names it by the identifier that it has given itself: else no daemon finds the issuer."""
    root = foreign(key, identifier=identifier)
    certificate, leaf_key = Authority.load(root, pem_of(key)).client(days=5, now=NOW)
    assert usable(root, certificate, leaf_key, NOW) is None
    named = parsed(certificate).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == (identifier or x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest)


def test_a_foreign_name_is_kept_as_far_as_it_goes() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = parsed(foreign(key, name="Büro: Root " + "x" * 50))
    assert environment_of(root) == "B-ro- Root " + "x" * 29
    Authority(environment=environment_of(root))
    assert len(Authority.load(foreign(key, name="n" * 64), pem_of(key)).client(days=1, now=NOW)[0])


@pytest.mark.parametrize("environment", ["", "a\nb", "x" * 41, "Büro"])
def test_an_environment_that_no_name_can_hold_is_refused(environment: str) -> None:
    with pytest.raises(BadCertificateFiles, match="DOCKER_ENV"):
        Authority(environment=environment)


@pytest.mark.parametrize("days", [0, -1, 36_501, 10**9])
def test_days_that_cannot_be_are_refused(days: int) -> None:
    with pytest.raises(BadCertificateFiles, match=f"DAYS={days}"):
        Authority(days=days)


@pytest.mark.parametrize(
    "host",
    ["", "a b", "tcp://box", "10.0.0.5:2376", "10.0.0.300", "10.0.0", "bücher", "-box", "box.", "x" * 64, "a..b"],
)
def test_hosts_that_no_certificate_can_name_are_refused(host: str) -> None:
    """Each would be written down, and then match nothing."""
    with pytest.raises(BadCertificateFiles, match="neither an IP address nor a host name"):
        host_names([host])


def test_hosts_that_can_be_named_are() -> None:
    names = host_names(["10.0.0.5", "::1", "box", "a-b.example.com", "*.example.com", "x_1", "3com.example", "box"])
    assert [str(name.value) for name in names] == [
        "10.0.0.5", "::1", "box", "a-b.example.com", "*.example.com", "x_1", "3com.example",
    ]  # fmt: skip


def test_no_host_at_all_is_refused() -> None:
    with pytest.raises(BadCertificateFiles, match="at least one host"):
        host_names([])
