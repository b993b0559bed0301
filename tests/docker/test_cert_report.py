"""What lies in a folder of certificates, on each kind of machine, and what each certificate says."""

import datetime as dt
import hashlib
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from docker import cert_report, certs
from docker.settings import DockerSettings

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "certs"
    certs.generate(folder, hosts=["10.0.0.5", "box"], days=100)
    return folder


def brought(made: Path, folder: Path, *names: str) -> DockerSettings:
    folder.mkdir()
    for name in names:
        shutil.copy2(made / name, folder / name)
    return DockerSettings(docker_cert_path=str(folder))


def told(settings: DockerSettings, now: dt.datetime = NOW) -> dict[str, cert_report.Row]:
    return {row.role: row for row in cert_report.rows(cert_report.find(settings), now)}


def test_a_row_tells_what_the_certificate_says(made: Path) -> None:
    found = told(DockerSettings(docker_cert_path=str(made)))
    certificate = x509.load_pem_x509_certificate((made / "server-cert.pem").read_bytes())
    assert found["server"] == cert_report.Row(
        role="server",
        file=str(made / "server-cert.pem"),
        mode="0444",
        subject="CN=session-gateway development daemon",
        hosts=("10.0.0.5", "box"),
        key="EC secp256r1",
        usage="serverAuth",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - NOW).days,
        sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
    )
    assert (found["ca"].usage, found["client"].usage) == ("signs others", "clientAuth")


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (["ca.pem", "client-cert.pem", "client-key.pem"], ["ca", "client"]),
        (["ca.pem", "server-cert.pem", "server-key.pem"], ["ca", "server"]),
        (certs.FILES, ["ca", "server", "client"]),
        ([], []),
    ],
    ids=["gateway", "daemon", "all", "none"],
)
def test_each_machine_tells_what_is_on_it(made: Path, tmp_path: Path, names: list[str], roles: list[str]) -> None:
    assert list(told(brought(made, tmp_path / "certs", *names))) == roles


def test_the_docker_commands_own_names_are_found(made: Path, tmp_path: Path) -> None:
    settings = brought(made, tmp_path / "certs", "ca.pem")
    shutil.copy2(made / "client-cert.pem", tmp_path / "certs" / "cert.pem")
    shutil.copy2(made / "client-key.pem", tmp_path / "certs" / "key.pem")
    assert told(settings)["client"].file == str(tmp_path / "certs" / "cert.pem")


def test_files_that_the_settings_name_are_found(made: Path, tmp_path: Path) -> None:
    settings = DockerSettings(
        docker_cert_path=str(tmp_path / "absent"),
        docker_ca_cert=str(made / "ca.pem"),
        docker_client_cert=str(made / "client-cert.pem"),
        docker_client_key=str(made / "client-key.pem"),
    )
    assert list(told(settings)) == ["ca", "client"]
    assert cert_report.find(settings).folder_mode is None


def test_each_authority_of_a_bundle_has_a_row(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "certs"))
    certs.renew(folder, "ca")
    found = [row for row in cert_report.rows(cert_report.find(DockerSettings(docker_cert_path=str(folder))), NOW)]
    assert [row.role for row in found] == ["ca", "ca", "server", "client"]
    assert len({row.sha256 for row in found}) == 4


def test_days_left_are_whole_days_and_go_below_nothing(made: Path) -> None:
    settings = DockerSettings(docker_cert_path=str(made))
    end = told(settings)["client"].not_after
    assert end is not None
    assert told(settings, end - dt.timedelta(days=2, seconds=1))["client"].days_left == 2
    assert told(settings, end - dt.timedelta(seconds=1))["client"].days_left == 0
    assert told(settings, end + dt.timedelta(seconds=1))["client"].days_left == -1


def test_a_file_that_says_nothing_has_a_row_that_says_why(made: Path, tmp_path: Path) -> None:
    settings = brought(made, tmp_path / "certs", "client-key.pem")
    (tmp_path / "certs" / "ca.pem").write_bytes(b"not a certificate")
    found = told(settings)
    assert found["client"].problem == f"{tmp_path}/certs/client-cert.pem does not exist."
    assert found["client"].mode is None
    assert found["ca"].problem == f"{tmp_path}/certs/ca.pem holds no certificate that can be read."


def test_no_key_is_in_what_is_printed_of_a_file(made: Path) -> None:
    """In a traceback or a log line."""
    found = repr(cert_report.find(DockerSettings(docker_cert_path=str(made))))
    assert "client-key.pem" in found
    assert "BEGIN" not in found
