"""``certs``: what it prints, and that its exit code is the verdict. No gateway and no log is there."""

import shutil
from pathlib import Path

import pytest

from docker import certs
from gateway.cli.exits import Exit
from tests.docker.stub_daemon import daemon_context, over_tls, peer
from tests.gateway.cli.conftest import run

GATEWAY = ("ca.pem", "client-cert.pem", "client-key.pem")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    certs.generate(tmp_path / "certs", days=100)
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "certs"))
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "var"))
    for name in ("DOCKER_HOST", "DOCKER_HOST_IP"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "certs"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_show_has_a_row_for_each_certificate(folder: Path) -> None:
    ran = run("certs", "show")
    assert (ran.code, ran.err) == (Exit.OK, "")
    titles, *rows = ran.out.splitlines()
    assert titles.split()[:2] == ["for", "days"]
    assert not any(row["sha256"] in ran.out for row in run("certs", "show", "--json").document)  # 64 columns
    assert [row.split()[0] for row in rows] == ["ca", "server", "client"]
    assert all(str(folder) in row and "EC secp256r1" in row for row in rows)
    told = run("certs", "show", "--json").document
    assert [(row["role"], row["days_left"], row["mode"]) for row in told] == [
        ("ca", 99, "0444"),
        ("server", 99, "0444"),
        ("client", 99, "0444"),
    ]
    assert told[1]["hosts"] == ["127.0.0.1", "localhost"]


def test_show_without_certificates_says_so(folder: Path) -> None:
    shutil.rmtree(folder)
    ran = run("certs", "show")
    assert (ran.code, ran.out) == (Exit.NEGATIVE, f"There are no certificates in {folder}.\n")
    assert run("certs", "show", "--json").document == []


def test_the_exit_code_of_check_is_its_verdict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(contents(folder)) - set(GATEWAY):
        (folder / name).unlink()
    well = run("certs", "check", "--json")
    assert (well.code, well.document["state"]) == (Exit.OK, "pass")
    monkeypatch.setenv("CERTIFICATE_WARNING_DAYS", "100")
    warned = run("certs", "check")
    assert warned.code == Exit.OK
    assert "expiry, client: Renew it where the CA's key is kept" in warned.out
    (folder / "client-key.pem").chmod(0o444)
    failed = run("certs", "check")
    assert failed.code == Exit.NEGATIVE
    line = next(line for line in failed.out.splitlines() if line.startswith("permissions"))
    assert line.split()[:3] == ["permissions", "client", "fail"]
    told = run("certs", "check", "--json").document
    assert told["state"] == "fail"
    assert {check["state"] for check in told["checks"]} == {"pass", "warn", "fail"}


def test_neither_log_nor_database_is_touched(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates are looked at when something is wrong: then nothing else may be needed."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    for arguments in (("show",), ("check",), ("rotate", "client")):
        ran = run("certs", *arguments)
        assert (ran.code, ran.err) == (Exit.OK, "")
    assert not (tmp_path / "var").exists()


def test_rotate_replaces_one_and_says_where_it_goes(folder: Path) -> None:
    before = contents(folder)
    assert run("certs", "rotate", "client", "--dry-run").code == Exit.OK
    assert contents(folder) == before
    ran = run("certs", "rotate", "client", "--days", "30")
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert f"written: {folder}/client-cert.pem" in ran.out
    assert "1. to the gateway's machine: client-cert.pem (0444), client-key.pem (0400)." in ran.out
    after = contents(folder)
    assert {name for name in before if before[name] != after[name]} == {"client-cert.pem", "client-key.pem"}
    told = run("certs", "rotate", "server", "--host", "box", "--host", "10.0.0.5", "--json").document
    assert (told["files"], told["hosts"]) == (["server-cert.pem", "server-key.pem"], ["box", "10.0.0.5"])


def test_the_authority_is_replaced_in_two_stages(folder: Path) -> None:
    assert run("certs", "rotate", "ca").code == Exit.OK
    assert "rotation" in run("certs", "check").out
    again = run("certs", "rotate", "ca")
    assert (again.code, again.out) == (Exit.NEGATIVE, "")
    assert "finish their replacement first" in again.err
    assert run("certs", "rotate", "ca", "--finish", "--unasked").code == Exit.OK
    assert "rotation" not in run("certs", "check").out


@pytest.mark.parametrize("host", ["", "tcp://127.0.0.1:1"])
def test_the_former_authority_is_not_taken_away_while_the_daemon_cannot_be_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """It may not have been restarted: every gateway would be locked out."""
    assert run("certs", "rotate", "ca").code == Exit.OK
    before = contents(folder)
    monkeypatch.setenv("DOCKER_HOST", host)
    for arguments in ((), ("--dry-run",)):
        ran = run("certs", "rotate", "ca", "--finish", *arguments)
        assert (ran.code, ran.out, ran.err.count("\n")) == (Exit.NEGATIVE, "", 1)
        assert ran.err.startswith("Nothing was replaced") and "--unasked" in ran.err
    assert contents(folder) == before
    assert run("certs", "rotate", "ca", "--finish", "--unasked").code == Exit.OK


@pytest.mark.parametrize("name", ["DOCKER_CLIENT_CERT", "DOCKER_CLIENT_KEY", "DOCKER_CA_CERT"])
def test_files_that_this_gateway_does_not_use_are_not_replaced_for_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = contents(folder)
    monkeypatch.setenv(name, str(tmp_path / "elsewhere.pem"))
    for arguments in (("client",), ("ca",), ("ca", "--finish")):
        ran = run("certs", "rotate", *arguments)
        assert (ran.code, ran.out) == (Exit.USAGE, "")
        assert f"{name} names {tmp_path}/elsewhere.pem" in ran.err
    assert contents(folder) == before
    assert run("certs", "rotate", "server").code == Exit.OK
    own = {"DOCKER_CLIENT_CERT": "client-cert", "DOCKER_CLIENT_KEY": "client-key", "DOCKER_CA_CERT": "ca"}[name]
    monkeypatch.setenv(name, str(folder / f"{own}.pem"))
    assert run("certs", "rotate", "client").code == Exit.OK


def test_without_the_authoritys_key_it_says_where_to_go(folder: Path) -> None:
    (folder / "ca-key.pem").unlink()
    ran = run("certs", "rotate", "client")
    assert (ran.code, ran.out, ran.err.count("\n")) == (Exit.NEGATIVE, "", 1)
    assert "do this where the CA's key is kept" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("client", "--finish"),
        ("client", "--host", "box"),
        ("ca", "--finish", "--host", "box"),
        ("ca", "--unasked"),
        ("client", "--days", "0"),
        ("client", "--days", "x"),
        ("nobody",),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(folder: Path, arguments: tuple[str, ...]) -> None:
    before = contents(folder)
    ran = run("certs", "rotate", *arguments)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert contents(folder) == before


def test_what_the_daemon_refuses_is_not_put_in_place(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon still runs with the former CA alone: it would refuse the gateway that takes the new files up."""
    started = Path(shutil.copytree(folder, tmp_path / "started"))
    with peer(over_tls(daemon_context(started))) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        assert run("certs", "rotate", "client").code == Exit.OK
        assert run("certs", "rotate", "ca").code == Exit.OK
        before = contents(folder)
        for arguments in (("ca", "--finish"), ("client",)):
            ran = run("certs", "rotate", *arguments)
            assert (ran.code, ran.out) == (Exit.NEGATIVE, "")
            assert ran.err.startswith("Nothing was replaced, since the daemon does not go with the new files")
            assert "restart dockerd" in ran.err
        assert contents(folder) == before
    with peer(over_tls(daemon_context(folder))) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        ran = run("certs", "rotate", "ca", "--finish")
        assert (ran.code, ran.err) == (Exit.OK, "")


def test_a_daemon_that_cannot_be_asked_is_told_and_does_not_stop_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA's key lies on a machine that need not reach the daemon."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    ran = run("certs", "rotate", "client")
    assert ran.code == Exit.OK
    assert ran.err.startswith("The daemon could not be asked")
