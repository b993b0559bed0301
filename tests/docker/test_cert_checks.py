"""Each thing that can be wrong with certificate files is found, by one check, with what to do about it."""

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from docker import cert_report, certs
from docker.cert_checks import Check, State, check, covers, worst
from docker.errors import BadCertificateFiles
from docker.settings import DockerSettings

NOW = dt.datetime.now(dt.UTC)
GATEWAY = ("ca.pem", "client-cert.pem", "client-key.pem")
DAEMON = ("ca.pem", "server-cert.pem", "server-key.pem")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "certs"
    certs.generate(folder, hosts=["10.0.0.5", "box"], days=100)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "certs"))


def keep(folder: Path, *names: str) -> Path:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    return folder


def looked(folder: Path, now: dt.datetime = NOW, **settings: object) -> list[Check]:
    chosen = msgspec.structs.replace(DockerSettings(docker_cert_path=str(folder)), **settings)
    return check(cert_report.find(chosen), chosen, now)


def wrong(folder: Path, now: dt.datetime = NOW, **settings: object) -> dict[tuple[str, str], State]:
    """What does not pass. Whatever fails or warns says what to do; nothing secret is in a sentence."""
    found = looked(folder, now, **settings)
    for one in found:
        assert bool(one.todo) == (one.state is not State.PASS), one
        assert "PRIVATE" not in one.sentence
    return {(one.check, one.role): one.state for one in found if one.state is not State.PASS}


def put(folder: Path, name: str, content: bytes, mode: int = 0o400) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    (folder / name).chmod(mode)


@pytest.mark.parametrize("names", [GATEWAY, DAEMON], ids=["gateway", "daemon"])
def test_on_its_own_machine_all_is_well(folder: Path, names: tuple[str, ...]) -> None:
    keep(folder, *names)
    assert wrong(folder, docker_host="tcp://box:2376") == {}
    role = names[1].partition("-")[0]
    assert {one.check for one in looked(folder) if one.role == role} == {
        "files", "expiry", "chain", "usage", "strength", "key", "permissions",
    }  # fmt: skip
    assert {one.check for one in looked(folder) if one.role == "ca"} == {"files", "expiry", "usage", "strength"}


def test_the_authoritys_key_beside_a_client_is_warned_of(folder: Path) -> None:
    """Where the files are made all is together; on a gateway's machine that key has no place."""
    assert wrong(folder) == {("ca key", "ca"): State.WARN}
    keep(folder, "ca.pem", "ca-key.pem", "server-cert.pem")
    assert ("ca key", "ca") not in wrong(folder)


def test_the_docker_commands_names_are_looked_at(folder: Path) -> None:
    keep(folder, *GATEWAY)
    (folder / "client-cert.pem").rename(folder / "cert.pem")
    (folder / "client-key.pem").rename(folder / "key.pem")
    assert wrong(folder) == {}
    (folder / "key.pem").chmod(0o444)
    assert wrong(folder) == {("permissions", "client"): State.FAIL}


@pytest.mark.parametrize(
    ("days", "state"),
    [(-40, State.FAIL), (-1, State.FAIL), (29, State.WARN), (31, None), (200, None)],
)
def test_an_end_that_is_near_is_warned_of(folder: Path, days: int, state: State | None) -> None:
    keep(folder, *GATEWAY)
    moment = NOW + dt.timedelta(days=100 - days)
    if days < 100:
        expected = {} if state is None else {("expiry", "ca"): state, ("expiry", "client"): state}
        assert wrong(folder, moment) == expected
    else:
        assert wrong(folder, certificate_warning_days=days) == {
            ("expiry", "ca"): State.WARN,
            ("expiry", "client"): State.WARN,
        }


def test_what_has_not_begun_fails(folder: Path) -> None:
    assert wrong(keep(folder, *GATEWAY), NOW - dt.timedelta(days=1)) == {
        ("expiry", "ca"): State.FAIL,
        ("expiry", "client"): State.FAIL,
    }


def _exchange_pairs(folder: Path) -> None:
    shutil.copy2(folder / "server-cert.pem", folder / "client-cert.pem.new")
    (folder / "client-cert.pem.new").replace(folder / "client-cert.pem")
    shutil.copy2(folder / "server-key.pem", folder / "client-key.pem.new")
    (folder / "client-key.pem.new").replace(folder / "client-key.pem")


def _another_key(folder: Path) -> None:
    put(folder, "client-key.pem", certs.Authority().client()[1])


def _another_authority(folder: Path) -> None:
    put(folder, "ca.pem", certs.Authority(days=99).certificate, 0o444)


def _no_authority(folder: Path) -> None:
    put(folder, "ca.pem", (folder / "client-cert.pem").read_bytes(), 0o444)


def _weak(folder: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=99))
        .sign(key, hashes.SHA256())
    )
    put(folder, "client-cert.pem", made.public_bytes(Encoding.PEM), 0o444)
    put(folder, "client-key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


FAULTS: dict[str, tuple[Callable[[Path], object], dict[tuple[str, str], State]]] = {
    "the daemon's pair": (_exchange_pairs, {("usage", "client"): State.FAIL}),
    "another key": (_another_key, {("key", "client"): State.FAIL}),
    "another CA": (_another_authority, {("chain", "client"): State.FAIL}),
    "a leaf as CA": (_no_authority, {("usage", "ca"): State.FAIL}),
    "a weak key": (_weak, {("strength", "client"): State.FAIL, ("chain", "client"): State.FAIL}),
    "no key": (lambda folder: (folder / "client-key.pem").unlink(), {("files", "client"): State.FAIL}),
    "no certificate": (lambda folder: (folder / "client-cert.pem").unlink(), {("files", "client"): State.FAIL}),
    "no CA": (
        lambda folder: (folder / "ca.pem").unlink(),
        {("files", "ca"): State.FAIL, ("chain", "client"): State.FAIL},
    ),
    "a damaged CA": (
        lambda folder: put(folder, "ca.pem", b"x", 0o444),
        {("files", "ca"): State.FAIL, ("chain", "client"): State.FAIL},
    ),
    "a damaged key": (
        lambda folder: put(folder, "client-key.pem", b"x"),
        {("files", "client"): State.FAIL, ("key", "client"): State.FAIL},
    ),
    "a key for everybody": (
        lambda folder: (folder / "client-key.pem").chmod(0o404),
        {("permissions", "client"): State.FAIL},
    ),
    "a key for a group": (
        lambda folder: (folder / "client-key.pem").chmod(0o440),
        {("permissions", "client"): State.WARN},
    ),
    "a key that its owner may write": (lambda folder: (folder / "client-key.pem").chmod(0o600), {}),
    "a CA that others may write": (
        lambda folder: (folder / "ca.pem").chmod(0o666),
        {("permissions", "ca"): State.FAIL},
    ),
    "a folder for everybody": (lambda folder: folder.chmod(0o777), {("permissions", "folder"): State.FAIL}),
    "a folder for a group": (lambda folder: folder.chmod(0o775), {("permissions", "folder"): State.WARN}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_found_and_nothing_else(folder: Path, fault: str) -> None:
    change, expected = FAULTS[fault]
    change(folder)
    (folder / "ca-key.pem").unlink()
    # The daemon's pair lies there too, and is of the CA that is gone.
    gone = fault in ("another CA", "a leaf as CA", "no CA", "a damaged CA")
    assert wrong(folder) == expected | ({("chain", "server"): State.FAIL} if gone else {})


def test_without_any_file_nothing_can_work(tmp_path: Path) -> None:
    assert wrong(tmp_path / "absent") == {("files", "folder"): State.FAIL}
    tmp_path.chmod(0o755)
    assert wrong(tmp_path) == {("files", "folder"): State.FAIL, ("files", "ca"): State.FAIL}


def test_the_key_of_the_daemon_may_be_elsewhere(folder: Path) -> None:
    """Where certificates are made its certificate is kept for its hosts, and the key moved to its machine."""
    (folder / "server-key.pem").unlink()
    (folder / "ca-key.pem").unlink()
    assert wrong(folder) == {("files", "server"): State.WARN}


@pytest.mark.parametrize(
    ("host", "fits"),
    [("tcp://box:2376", True), ("tcp://10.0.0.5", True), ("tcp://BOX", True), ("tcp://10.0.0.6", False)],
)
def test_the_daemon_is_called_by_a_name_of_its_certificate(folder: Path, host: str, fits: bool) -> None:
    keep(folder, *DAEMON)
    assert wrong(folder, docker_host=host) == ({} if fits else {("hosts", "server"): State.FAIL})


def test_without_a_host_its_names_are_not_compared(folder: Path) -> None:
    keep(folder, *DAEMON)
    assert "hosts" not in {one.check for one in looked(folder)}
    assert "hosts" not in {one.check for one in looked(folder, docker_host="unix:///nowhere")}


@pytest.mark.parametrize(
    ("name", "host", "fits"),
    [
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "example.com", False),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("10.0.0.5", "10.0.0.50", False),
        ("box", "box.example.com", False),
    ],
)
def test_a_name_covers_what_tls_lets_it(name: str, host: str, fits: bool) -> None:
    assert covers(name, host) is fits


def test_a_replacement_of_the_authority_is_told_until_it_is_finished(folder: Path) -> None:
    certs.renew(folder, "ca")
    (saved := folder / "ca-key.pem").rename(folder.parent / "ca-key.pem")
    assert wrong(folder) == {("rotation", "ca"): State.WARN}
    (folder.parent / "ca-key.pem").rename(saved)
    certs.finish(folder)
    assert wrong(folder) == {("ca key", "ca"): State.WARN}


def test_a_former_authority_that_has_ended_does_no_harm(folder: Path) -> None:
    later = NOW + dt.timedelta(days=101)
    certs.renew(folder, "ca", now=later)
    certs.renew(folder, "client", now=later)
    assert wrong(folder, later) == {
        ("expiry", "ca"): State.WARN,
        ("rotation", "ca"): State.WARN,
        ("ca key", "ca"): State.WARN,
    }


def test_the_key_of_the_former_authority_is_told(folder: Path, made: Path) -> None:
    certs.renew(folder, "ca")
    put(folder, "ca-key.pem", (made / "ca-key.pem").read_bytes())
    assert wrong(folder)["key", "ca"] is State.FAIL


def test_a_change_that_was_interrupted_is_told_until_a_run_tidies_up(folder: Path) -> None:
    """Former keys may lie in what it left."""
    keep(folder, *GATEWAY)
    (folder / ".change").mkdir()
    assert wrong(folder) == {("interrupted", "folder"): State.WARN}
    with pytest.raises(BadCertificateFiles, match="already holds"):
        certs.generate(folder)
    assert wrong(folder) == {}


def test_the_worst_counts(folder: Path) -> None:
    assert worst(looked(folder)) is State.WARN
    assert worst(looked(folder, NOW + dt.timedelta(days=101))) is State.FAIL
    assert worst(looked(keep(folder, *GATEWAY))) is State.PASS
