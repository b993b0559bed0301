"""The certificates that mutual TLS needs, as the command and the shell script make them."""

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from docker import certs
from docker.errors import BadCertificateFiles

ROOT = Path(__file__).parents[2]


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def extended_key_usage(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_keys_are_for_their_owner_alone_and_certificates_cannot_be_edited(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        written = certs.generate(tmp_path / "certs")
    finally:
        os.umask(previous)
    assert sorted(path.name for path in written) == sorted(certs.FILES)
    assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == sorted(certs.FILES)
    modes = {path.name: path.stat().st_mode & 0o777 for path in written}
    assert {mode for name, mode in modes.items() if name.endswith("-key.pem")} == {0o400}
    assert {mode for name, mode in modes.items() if not name.endswith("-key.pem")} == {0o444}


def test_each_certificate_is_good_for_one_use(tmp_path: Path) -> None:
    """A stolen client certificate must not serve to play the daemon, nor the other way round."""
    certs.generate(tmp_path)
    assert extended_key_usage(read(tmp_path / "server-cert.pem")) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extended_key_usage(read(tmp_path / "client-cert.pem")) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    authority = read(tmp_path / "ca.pem")
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for name in ("server-cert.pem", "client-cert.pem"):
        read(tmp_path / name).verify_directly_issued_by(authority)
        assert not read(tmp_path / name).extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_keys_are_elliptic_and_belong_to_their_certificates(tmp_path: Path) -> None:
    certs.generate(tmp_path)
    for role in ("server-cert", "client-cert", "ca"):
        public = read(tmp_path / f"{role}.pem").public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert public.curve.name == "secp256r1"


def test_the_daemons_certificate_names_its_hosts(tmp_path: Path) -> None:
    """DOCKER_HOST_IP may hold a name too: the default of Docker Desktop is host.docker.internal."""
    hosts = certs.hosts_of({"DOCKER_HOST_IP": "10.0.0.5,host.docker.internal", "DOCKER_HOST_NAME": "box"})
    certs.generate(tmp_path, hosts=hosts)
    names = read(tmp_path / "server-cert.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5"]
    assert names.get_values_for_type(x509.DNSName) == ["host.docker.internal", "box"]


def test_without_hosts_it_is_this_machine() -> None:
    assert certs.hosts_of({}) == ["127.0.0.1", "localhost"]


def test_validity_starts_an_hour_ago_and_lasts_its_days() -> None:
    """A daemon whose clock is some minutes behind must accept a certificate made now."""
    now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    made = x509.load_pem_x509_certificate(certs.Authority(days=10, now=now).certificate)
    assert made.not_valid_before_utc == now - dt.timedelta(hours=1)
    assert made.not_valid_after_utc == now + dt.timedelta(days=10)


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    """A second run by mistake would lock the gateway out of a running daemon."""
    certs.generate(tmp_path)
    before = (tmp_path / "ca.pem").read_bytes()
    with pytest.raises(BadCertificateFiles, match="already holds"):
        certs.generate(tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == before
    certs.generate(tmp_path, force=True)
    assert (tmp_path / "ca.pem").read_bytes() != before


@pytest.mark.parametrize(("hosts", "days"), [(["bücher"], 1), (["127.0.0.1"], 0)])
def test_what_cannot_be_certified_is_refused(tmp_path: Path, hosts: list[str], days: int) -> None:
    with pytest.raises(BadCertificateFiles):
        certs.generate(tmp_path, hosts=hosts, days=days)
    assert list(tmp_path.iterdir()) == []


def script(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "DOCKER_CERT_PATH": str(folder)} | variables
    command = [str(ROOT / "docker" / "scripts" / "generate-certs.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=folder.parent)


def test_the_shell_script_honours_its_variables(tmp_path: Path) -> None:
    given = {"DOCKER_ENV": "production", "DOCKER_HOST_IP": "10.1.2.3", "DOCKER_HOST_NAME": "box", "DAYS": "7"}
    first = script(tmp_path, **given)
    assert first.returncode == 0, first.stderr
    certificate = read(tmp_path / "server-cert.pem")
    assert "production" in certificate.subject.rfc4514_string()
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 7
    assert "names 10.1.2.3 (an address), box (a name) and" in first.stdout
    second = script(tmp_path, **given)
    assert second.returncode == 1
    assert "already holds" in second.stderr
    before = (tmp_path / "ca.pem").read_bytes(), (tmp_path / "client-cert.pem").read_bytes()
    third = script(tmp_path, "--renew", "client", DAYS="3")
    assert third.returncode == 0, third.stderr
    assert "1. to the gateway's machine: client-cert.pem (0444), client-key.pem (0400)." in third.stdout
    after = (tmp_path / "ca.pem").read_bytes(), (tmp_path / "client-cert.pem").read_bytes()
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def command(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = certs.main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_variables_that_are_empty_are_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compose file passes on what is not set as an empty text."""
    for name in ("DOCKER_ENV", "DOCKER_HOST_IP", "DOCKER_HOST_NAME", "DAYS"):
        monkeypatch.setenv(name, "")
    code, out, _ = command("--folder", str(tmp_path), capsys=capsys)
    assert code == 0
    assert "names 127.0.0.1 (an address), localhost (a name) and holds for 3650 days" in out


@pytest.mark.parametrize(
    ("variables", "arguments", "sentence"),
    [
        ({"DAYS": "ten"}, [], "DAYS='ten' is no number of days."),
        ({"DAYS": "0"}, [], "DAYS=0: a certificate must hold for 1 to 36500 days."),
        ({"DAYS": "9" * 40}, [], "DAYS=999999999: a certificate must hold for 1 to 36500 days."),
        ({"DOCKER_HOST_IP": "10.0.0.5:2376"}, [], "'10.0.0.5:2376' is neither an IP address nor a host name"),
        ({"DOCKER_HOST_NAME": "tcp://box"}, [], "'tcp://box' is neither"),
        ({"DOCKER_ENV": "x" * 41}, [], "DOCKER_ENV="),
        ({}, ["--renew", "client"], "ca-key.pem cannot be read"),
        ({}, ["--finish"], "ca.pem cannot be read"),
        ({}, ["--renew", "client", "--force"], "give one of them"),
        ({}, ["--dry-run"], "--dry-run goes with"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    arguments: list[str],
    sentence: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code, out, err = command("--folder", str(tmp_path), *arguments, capsys=capsys)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/self/certs"])
def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    code, out, err = command("--folder", str(tmp_path / where), capsys=capsys)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "nothing was written" in err
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_the_authority_is_replaced_by_two_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certs.generate(tmp_path, hosts=["box"])
    code, out, _ = command("--folder", str(tmp_path), "--renew", "ca", capsys=capsys)
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines() if line[1] == "."] == [
        "1. to the gateway's machine",
        "2. to the daemon's machine",
        "3. keep away",
    ]
    code, _, err = command("--folder", str(tmp_path), "--finish", capsys=capsys)
    assert code == 1 and "DOCKER_HOST names no daemon" in err
    code, out, _ = command("--folder", str(tmp_path), "--finish", "--unasked", "--dry-run", capsys=capsys)
    assert code == 0
    assert out.startswith(f"would be written: {tmp_path}/ca.pem\n")
    assert (tmp_path / "ca.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert command("--folder", str(tmp_path), "--finish", "--unasked", capsys=capsys)[0] == 0
    assert (tmp_path / "ca.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 1


def test_a_link_in_place_of_a_file_is_there_already(tmp_path: Path) -> None:
    """Also one that leads nowhere: it would be written through, or replaced unseen."""
    (tmp_path / "ca-key.pem").symlink_to(tmp_path / "elsewhere")
    for force in (False, True):
        with pytest.raises(BadCertificateFiles):
            certs.generate(tmp_path, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["ca-key.pem"]
