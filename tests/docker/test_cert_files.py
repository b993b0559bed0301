"""Which files a client can use, and the first reason why not."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from docker import cert_files
from docker.cert_files import usable
from docker.certs import Authority

NOW = dt.datetime(2030, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(days=10, now=NOW)


def reason(authority: bytes, certificate: bytes, key: bytes, now: dt.datetime = NOW) -> str | None:
    fault = usable(authority, certificate, key, now)
    if fault is None:
        return None
    assert fault.detail.endswith((".", "?"))
    assert "PRIVATE" not in fault.detail
    return fault.reason


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    issuer: tuple[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey],
    *,
    ca: bool,
    end: dt.datetime = NOW + DAY,
) -> bytes:
    """One with no extension but basic constraints."""
    made = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer[0]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 9 * DAY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer[1], hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_what_was_made_for_a_client_can_be_used(authority: Authority) -> None:
    assert reason(authority.certificate, *authority.client()) is None


@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_damaged_files_are_unreadable(authority: Authority, content: bytes) -> None:
    """A file that is being copied is empty, or ends in its middle."""
    made, key = authority.client()
    assert reason(content, made, key) == "unreadable"
    assert reason(authority.certificate, content, key) == "unreadable"
    assert reason(authority.certificate, made, content) == "unreadable"
    assert reason(authority.certificate, made[: len(made) // 2], key) == "unreadable"
    assert reason(authority.certificate, made, key[: len(key) // 2]) == "unreadable"


def test_a_key_with_a_password_is_unreadable(authority: Authority) -> None:
    made, key = authority.client()
    locked = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    assert reason(authority.certificate, made, locked) == "unreadable"
    fault = usable(authority.certificate, made, locked, NOW)
    assert fault is not None
    assert "password" in fault.detail


def test_the_key_of_another_certificate_is_seen(authority: Authority) -> None:
    """One of two files has been replaced so far."""
    assert reason(authority.certificate, authority.client()[0], authority.client()[1]) == "key_mismatch"
    other_kind = pem(rsa.generate_private_key(65537, 2048))
    assert reason(authority.certificate, authority.client()[0], other_kind) == "key_mismatch"


def test_the_daemons_certificate_is_not_for_a_client(authority: Authority) -> None:
    assert reason(authority.certificate, *authority.server(["box"])) == "wrong_usage"


def test_a_certificate_that_names_no_purpose_serves() -> None:
    """Those of an operator's own PKI need not name one; dockerd takes them (RFC 5280, 4.2.1.12)."""
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    trusted = certificate("root", root, ("root", root), ca=True)
    assert reason(trusted, certificate("leaf", leaf, ("root", root), ca=False), pem(leaf)) is None


def test_a_certificate_of_another_authority_is_seen(authority: Authority) -> None:
    """By its signature: both CAs have the same name."""
    assert reason(Authority(days=10, now=NOW).certificate, *authority.client()) == "other_ca"


def test_each_authority_of_a_bundle_is_trusted(authority: Authority) -> None:
    """While a CA is replaced, both are in the file."""
    newer = Authority(days=10, now=NOW)
    bundle = newer.certificate + authority.certificate
    assert reason(bundle, *authority.client()) is None
    assert reason(bundle, *newer.client()) is None
    assert reason(bundle, *Authority(days=10, now=NOW).client()) == "other_ca"


def test_an_expired_authority_of_a_bundle_does_no_harm(authority: Authority) -> None:
    expired = Authority(days=1, now=NOW - 10 * DAY)
    assert reason(expired.certificate + authority.certificate, *authority.client()) is None


def test_a_chain_leads_over_those_between() -> None:
    root, between, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    trusted = certificate("root", root, ("root", root), ca=True)
    link = certificate("between", between, ("root", root), ca=True)
    made = certificate("leaf", leaf, ("between", between), ca=False)
    assert reason(trusted, made + link, pem(leaf)) is None
    assert reason(trusted, made, pem(leaf)) == "other_ca"


def test_who_is_no_authority_cannot_sign() -> None:
    """A client's certificate must not make more clients."""
    root, client, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    trusted = certificate("root", root, ("root", root), ca=True)
    link = certificate("client", client, ("root", root), ca=False)
    made = certificate("leaf", leaf, ("client", client), ca=False)
    assert reason(trusted, made + link, pem(leaf)) == "other_ca"
    assert reason(trusted + link, made, pem(leaf)) == "other_ca"


def test_what_is_thrice_in_a_file_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of copies, and one of many certificates of one key, is judged while everybody waits."""
    root, leaf, stranger = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    trusted = certificate("root", root, ("root", root), ca=True)
    link = certificate("stranger", stranger, ("stranger", stranger), ca=True)
    others = [certificate("stranger", stranger, ("stranger", stranger), ca=True) for _ in range(12)]
    made = certificate("leaf", leaf, ("stranger", stranger), ca=False)
    looked: list[object] = []
    real = cert_files.signed_by

    def counted(child: x509.Certificate, parent: x509.Certificate) -> bool:
        looked.append(None)
        assert len(looked) <= 200
        return real(child, parent)

    monkeypatch.setattr(cert_files, "signed_by", counted)
    assert reason(trusted, made + link * 12, pem(leaf)) == "other_ca"
    assert len(looked) <= 6
    assert reason(trusted, made + b"".join(others), pem(leaf)) == "other_ca"


def test_the_way_that_holds_is_found_among_longer_ones() -> None:
    """Over those between in any order, and past one of the same key that has ended."""
    root, first, second, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    trusted = certificate("root", root, ("root", root), ca=True)
    ended = certificate("first", first, ("root", root), ca=True, end=NOW - DAY)
    links = certificate("first", first, ("second", second), ca=True) + certificate(
        "second", second, ("root", root), ca=True
    )
    made = certificate("leaf", leaf, ("first", first), ca=False)
    assert reason(trusted, made + ended + links, pem(leaf)) is None
    assert reason(trusted, made + ended, pem(leaf)) == "expired"


def test_what_tls_takes_no_longer_is_weak() -> None:
    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256K1())
    trusted = certificate("root", root, ("root", root), ca=True)
    assert reason(trusted, certificate("leaf", leaf, ("root", root), ca=False), pem(leaf)) == "weak"


def test_a_signature_with_sha_1_is_weak_unless_it_is_a_trusted_ones_own() -> None:
    """No library signs with it any more, so the name of the algorithm is put into one that was made well."""
    root, leaf = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    trusted, made = (
        _as_if_with_sha_1(certificate(subject, key, ("root", root), ca=ca))
        for subject, key, ca in (("root", root, True), ("leaf", leaf, False))
    )
    assert reason(trusted, made, pem(leaf)) == "weak"
    (own,), (parsed,) = cert_files.certificates(trusted, "it"), cert_files.certificates(made, "it")
    assert cert_files.weakness(parsed) == "is signed with SHA1, which TLS takes no longer"
    assert cert_files.weakness(own) == "", "nobody verifies the signature of what is trusted"


def _as_if_with_sha_1(made: bytes) -> bytes:
    with_sha_256, with_sha_1 = (bytes.fromhex(f"06092a864886f70d0101{end}") for end in ("0b", "05"))
    der = x509.load_pem_x509_certificate(made).public_bytes(Encoding.DER)
    assert der.count(with_sha_256) == 2
    return x509.load_der_x509_certificate(der.replace(with_sha_256, with_sha_1)).public_bytes(Encoding.PEM)


def test_time_is_told_of_certificate_and_authority(authority: Authority) -> None:
    made = authority.client()
    assert reason(authority.certificate, *made, now=NOW + 10 * DAY) is None  # its last second
    assert reason(authority.certificate, *made, now=NOW + 10 * DAY + dt.timedelta(seconds=1)) == "expired"
    assert reason(authority.certificate, *made, now=NOW - DAY) == "not_yet_valid"


def test_the_end_of_the_authority_is_the_end_of_the_certificate() -> None:
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    trusted = certificate("root", root, ("root", root), ca=True)
    made = certificate("leaf", leaf, ("root", root), ca=False, end=NOW + 9 * DAY)
    fault = usable(trusted, made, pem(leaf), NOW + 2 * DAY)
    assert fault is not None
    assert fault.reason == "expired"
    assert fault.detail.startswith("The CA's certificate expired")


def test_an_authority_that_was_prolonged_is_found_beside_its_former_certificate() -> None:
    """One name and one key, two certificates: the leaf is of both."""
    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ended = certificate("root", root, ("root", root), ca=True, end=NOW - DAY)
    prolonged = certificate("root", root, ("root", root), ca=True)
    made = certificate("leaf", leaf, ("root", root), ca=False)
    assert reason(ended + prolonged, made, pem(leaf)) is None
    assert reason(ended, made, pem(leaf)) == "expired"
