"""DB_* as a URL that reads back the same, and what of it does not fit together."""

from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.database_url import Tls, parse
from events.settings import DatabaseSettings, problems

SECRET = "sekret-word"
# Postgres can take no NUL.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXT = st.text(CHARACTERS, min_size=1)
URL = f"postgresql://u:{SECRET}@h1,h2/n"


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


@pytest.mark.parametrize("wrong", [{"db_port": 0}, {"db_port": 65_536}, {"db_max_connections": 1}])
def test_impossible_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, DatabaseSettings)


@given(user=TEXT, password=st.text(CHARACTERS), name=TEXT)
def test_what_is_set_is_what_is_read_from_the_url(user: str, password: str, name: str) -> None:
    """No character of a password, a role or a database means anything to the URL."""
    found = parse(DatabaseSettings(db_host="h", db_user=user, db_password=password, db_name=name).dsn())
    assert (found.user, found.password or "", found.name) == (user, password, name)


def test_tls_settings_are_in_every_url_that_leaves_them_open() -> None:
    """One CA file for the gateway's, the owner's and the direct connection."""
    settings = DatabaseSettings(
        database_url=URL,
        db_admin_url="postgresql://a@h/n?sslmode=require",
        db_direct_url="postgresql://d@h/n",
        db_sslmode="verify-full",
        db_sslrootcert="/etc/my ca&co.pem",
        db_sslcert="/c",
        db_sslkey="/k",
    )
    every = Tls(mode="verify-full", authority="/etc/my ca&co.pem", certificate="/c", key="/k")
    assert parse(settings.dsn()).tls == parse(settings.direct_dsn()).tls == every
    assert parse(settings.admin_dsn()).tls == msgspec.structs.replace(every, mode="require")


def test_an_authority_for_all_is_not_forced_on_a_url_that_wants_nothing_proved() -> None:
    """Such as the way to a pooler on this machine, beside a server that is verified."""
    settings = DatabaseSettings(
        database_url="postgresql://u@localhost/n?sslmode=disable",
        db_direct_url=URL,
        db_sslmode="verify-full",
        db_sslrootcert="system",
    )
    assert problems(settings) == []
    assert parse(settings.dsn()).tls == Tls(mode="disable")
    assert parse(settings.direct_dsn()).tls == Tls(mode="verify-full", authority="system")


def test_the_owner_is_the_gateway_where_no_other_is_given() -> None:
    """And nobody listens past a pooler that is not there."""
    for settings in (DatabaseSettings(database_url=URL), DatabaseSettings(db_host="h", db_user="u")):
        assert settings.given and settings.admin_dsn() == settings.dsn()
        assert (settings.direct_dsn(), settings.app_user) == ("", "u")
    assert not DatabaseSettings().given and DatabaseSettings(db_user="me").app_user == "me"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (DatabaseSettings(), []),
        (DatabaseSettings(database_url=URL), []),
        (
            DatabaseSettings(database_url=URL, db_host="h", db_port=6, db_password=SECRET),
            [f"{name} is given beside DATABASE_URL" for name in ("DB_HOST", "DB_PORT", "DB_PASSWORD")],
        ),
        (DatabaseSettings(database_url=f"postgresql://u:{SECRET}@@h/n"), ["DATABASE_URL is not of the form"]),
        (DatabaseSettings(db_host="h", db_admin_url=SECRET), ["DB_ADMIN_URL is not of the form"]),
        (DatabaseSettings(db_host="h", db_direct_url="postgresql://h/n"), ["DB_DIRECT_URL names no user"]),
        (DatabaseSettings(db_host="h1,h2"), ["DB_HOST is one host: give several in DATABASE_URL"]),
        (DatabaseSettings(db_host="h", db_sslmode="verify-full"), ["The database of DB_HOST has sslmode=verify-full"]),
        (
            DatabaseSettings(db_host="h", db_sslmode="verify-ca", db_sslrootcert="/nowhere"),
            ["The database of DB_HOST has sslrootcert /nowhere, which cannot be used: no such file"],
        ),
        (
            DatabaseSettings(database_url=f"{URL}?sslmode=", db_sslmode="verify-full", db_sslrootcert="system"),
            ["DATABASE_URL gives sslmode without a value"],
        ),
        (
            DatabaseSettings(db_host="h", db_sslrootcert="system"),
            ["The database of DB_HOST has sslrootcert and sslmode=prefer, which never looks at it"],
        ),
        (DatabaseSettings(database_url=f"postgresql://u:{SECRET}@a..b/n"), ["DATABASE_URL has a host that is neither"]),
        (DatabaseSettings(db_host="a..b"), ["The database of DB_HOST has a host that is neither"]),
        (
            DatabaseSettings(db_host="h", db_password=f"{SECRET}\udcff"),
            ["The database of DB_HOST holds what is not UTF-8"],
        ),
        (
            DatabaseSettings(db_direct_url=URL, db_sslmode="require"),
            [f"{name} is for a database of yours" for name in ("DB_DIRECT_URL", "DB_SSLMODE")],
        ),
    ],
)
def test_what_does_not_fit_together_is_told_without_a_secret(settings: DatabaseSettings, told: list[str]) -> None:
    found = problems(settings)
    assert len(found) == len(told)
    for sentence, start in zip(found, told, strict=True):
        assert sentence.startswith(start) and SECRET not in sentence
