"""``config``: all settings are there, each with its source; no secret is shown."""

import pytest

from gateway.cli.exits import Exit
from gateway.settings import SECRET, names
from tests.gateway.cli.conftest import run


def test_every_setting_is_told_with_its_meaning() -> None:
    found = run("config", "--json").document
    assert {one["name"] for one in found} == set(names())
    assert all(one["meaning"] for one in found)
    table = run("config").out
    assert all(name in table for name in names())


def test_a_value_has_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_SESSIONS", "7")
    found = {one["name"]: one for one in run("config", "--json").document}
    assert found["MAX_CONCURRENT_SESSIONS"]["value"] == 7
    assert found["MAX_CONCURRENT_SESSIONS"]["source"] == "environment"
    assert found["DB_PORT"]["source"] == "default"
    assert found["DB_PORT"]["value"] == found["DB_PORT"]["default"]


@pytest.mark.parametrize("left_out", ["database_url", "db_password"])  # each says what the other does
def test_no_secret_is_shown(left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "correct-horse-battery-staple-0123456789"
    if left_out == "database_url":
        monkeypatch.setenv("DB_HOST", "h")
    for name in SECRET - {left_out}:
        monkeypatch.setenv(name.upper(), f"postgresql://u:{secret}@h/d" if name.endswith("url") else secret)
    for more in ((), ("--json",)):
        ran = run("config", *more)
        assert ran.code == Exit.OK
        assert secret not in ran.out + ran.err
        assert ran.out.count("[hidden]") == len(SECRET) - 1


def test_the_commands_own_variable_is_no_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has exported it for the client must still be able to use the other commands."""
    monkeypatch.setenv("GATEWAY_KEY", "gwk_key")
    ran = run("config", "--json")
    assert ran.code == Exit.OK
    assert "gwk_key" not in ran.out
