"""The command: which rows, what is printed, and the exit code that scripts decide by."""

from pathlib import Path

import pytest

from docker.authority import Authority
from gateway.cli.exits import Exit
from gateway.doctor.rows import ROWS
from tests.docker.stub_daemon import furnish
from tests.gateway.cli.conftest import run


def test_the_rows_are_listed_without_being_looked_at() -> None:
    ran = run("doctor", "--list")
    assert ran.code == Exit.OK
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == list(ROWS)
    assert [row["row"] for row in run("doctor", "--list", "--json", "settings").document] == ["settings"]


def test_a_row_that_is_misspelt_is_told() -> None:
    ran = run("doctor", "setings")
    assert (ran.code, "no row 'setings'" in ran.err) == (Exit.USAGE, True)


def test_every_row_is_looked_at_where_nothing_is_set_up() -> None:
    ran = run("doctor", "--json")
    assert ran.code == Exit.OK, ran.out
    states = {row["row"]: row["state"] for row in ran.document["rows"]}
    assert list(states) == list(ROWS)
    assert states["settings"] == "pass"
    assert {"docker-service", "session-auth", "database-persistence"} <= {
        name for name, of in states.items() if of == "skip"
    }


def test_nothing_to_look_at_has_its_exit_code() -> None:
    ran = run("doctor", "session-auth", "tls-connection")
    assert ran.code == Exit.SKIPPED
    assert "skip" in ran.out
    assert "session-auth: Start a gateway" in ran.out


def test_a_row_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(furnish(tmp_path / "certs", Authority())))
    ran = run("doctor", "tls-connection", "docker-service", "structured-logging")
    assert ran.code == Exit.NEGATIVE
    assert ran.out.count("Nothing listens at tcp://127.0.0.1:1") == 2
    assert "tls-connection, docker-service: Start dockerd" in ran.out


def test_settings_that_cannot_be_used_fail_their_row_and_end_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    ran = run("doctor", "settings", "socket-mount", "--json")
    assert ran.code == Exit.NEGATIVE
    assert [row["state"] for row in ran.document["rows"]] == ["fail", "pass"]


def test_an_address_that_is_none_is_a_fault_of_the_arguments() -> None:
    assert run("doctor", "session-auth", "--url", "nonsense").code == Exit.USAGE
    assert run("doctor", "session-auth", "--key-file", "/no/such/key").code == Exit.USAGE
