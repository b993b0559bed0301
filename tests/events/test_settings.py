"""DB_* as a URL that asyncpg reads back the same."""

from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest

from events.settings import DatabaseSettings


@pytest.mark.parametrize("password", ["plain", "p@ss:w/rd?#[] %", "пароль", "'\"\\"])
def test_any_password_survives_the_url(password: str) -> None:
    parts = urlsplit(DatabaseSettings(db_host="db.example", db_user="u", db_name="n", db_password=password).dsn())
    assert unquote(parts.password or "") == password
    assert (parts.hostname, parts.port, parts.path) == ("db.example", 5432, "/n")


def test_names_are_quoted() -> None:
    parts = urlsplit(DatabaseSettings(db_host="h", db_user="a@b", db_name="c/d").dsn())
    assert (unquote(parts.username or ""), unquote(parts.path)) == ("a@b", "/c/d")
    assert parts.hostname == "h"


def test_ipv6_address_stands_in_brackets() -> None:
    parts = urlsplit(DatabaseSettings(db_host="::1", db_port=6000).dsn())
    assert (parts.hostname, parts.port) == ("::1", 6000)


def test_path_is_a_socket_directory() -> None:
    parts = urlsplit(DatabaseSettings(db_host="/run/my postgres", db_port=6000).dsn())
    assert parse_qs(parts.query) == {"host": ["/run/my postgres"], "port": ["6000"]}
    assert parts.hostname is None


@pytest.mark.parametrize("wrong", [{"db_port": 0}, {"db_port": 65_536}, {"db_max_connections": 0}])
def test_impossible_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, DatabaseSettings)
