"""Makes the certificates of mutual TLS: one CA, one for the daemon, one for its client. ``python -m docker.certs``.

Elliptic-curve keys (P-256), each certificate good for its one use (RFC 5280, extended key usage). Handing them out and
replacing them is left to the operator.
"""

import argparse
import datetime as dt
import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from docker.errors import BadCertificateFiles

FILES = ("ca.pem", "ca-key.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem")
# Two machines' clocks differ; a certificate that starts "now" is refused by one that is behind.
_CLOCK_SKEW = dt.timedelta(hours=1)


class Authority:
    """A CA in memory: signs one daemon's and any number of clients' certificates."""

    def __init__(self, *, environment: str = "development", days: int = 3650, now: dt.datetime | None = None) -> None:
        self.environment = environment
        self._begin = (now or dt.datetime.now(dt.UTC)) - _CLOCK_SKEW
        self._end = self._begin + _CLOCK_SKEW + dt.timedelta(days=days)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"session-gateway {environment} CA")
        usage = _key_usage(sign_certificates=True)
        self._certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> bytes:
        """Our own certificate, PEM."""
        return _pem(self._certificate)

    @property
    def key(self) -> bytes:
        """Our private key, PEM; whoever holds it can make daemons and clients."""
        return _key_pem(self._key)

    def server(self, hosts: Sequence[str]) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) of a daemon that is reached under each of ``hosts``, names or IP addresses."""
        names = x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)])
        return self._leaf("daemon", ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) of a client: with it one is root on the daemon's machine."""
        return self._leaf("client", ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _leaf(
        self, role: str, purpose: x509.ObjectIdentifier, names: x509.SubjectAlternativeName | None
    ) -> tuple[bytes, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(_name(f"session-gateway {self.environment} {role}"), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._begin)
            .not_valid_after(self._end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def generate(
    folder: Path,
    *,
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    environment: str = "development",
    days: int = 3650,
    force: bool = False,
) -> list[Path]:
    """Write the six files of ``FILES`` into ``folder``: keys 0400, certificates 0444.

    Raises BadCertificateFiles when one of them is there already, unless ``force``. Each file is put in place whole.
    """
    if days < 1:
        raise BadCertificateFiles(f"DAYS={days}: a certificate must hold for at least one day.")
    present = [name for name in FILES if (folder / name).exists()]
    if present and not force:
        raise BadCertificateFiles(
            f"{folder} already holds {', '.join(present)}: nothing was written (--force replaces)."
        )
    authority = Authority(environment=environment, days=days)
    server, server_key = authority.server(hosts)
    client, client_key = authority.client()
    folder.mkdir(parents=True, exist_ok=True)
    contents = (authority.certificate, authority.key, server, server_key, client, client_key)
    return [_write(folder / name, content) for name, content in zip(FILES, contents, strict=True)]


def hosts_of(environment: Mapping[str, str]) -> list[str]:
    """The daemon's names: DOCKER_HOST_IP and DOCKER_HOST_NAME, each a comma-separated list."""
    given = f"{environment.get('DOCKER_HOST_IP', '127.0.0.1')},{environment.get('DOCKER_HOST_NAME', 'localhost')}"
    return [host.strip() for host in given.split(",") if host.strip()]


def _write(path: Path, content: bytes) -> Path:
    mode = 0o400 if path.name.endswith("-key.pem") else 0o444
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask is
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
    os.replace(fresh, path)
    return path


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise BadCertificateFiles(f"{host!r} is neither an IP address nor a host name.") from error


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


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; answers its exit code."""
    parser = argparse.ArgumentParser(prog="python -m docker.certs", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("DOCKER_CERT_PATH", "./docker/certs")))
    parser.add_argument("--environment", default=os.environ.get("DOCKER_ENV", "development"), help="DOCKER_ENV")
    parser.add_argument("--host", action="append", help="a name or address of the daemon; DOCKER_HOST_IP and _NAME")
    parser.add_argument("--days", type=int, default=os.environ.get("DAYS", "3650"), help="DAYS")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    chosen = parser.parse_args(arguments)
    hosts = chosen.host or hosts_of(os.environ)
    try:
        written = generate(
            chosen.folder, hosts=hosts, environment=chosen.environment, days=chosen.days, force=chosen.force
        )
    except (BadCertificateFiles, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(str(path) for path in written))
    print(f"The daemon's certificate names {', '.join(hosts)} and holds for {chosen.days} days.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
