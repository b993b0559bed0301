"""URLs of a database: every form that is taken, every one that is refused, and no part of one in a message."""

import msgspec
import pytest

from events.database_url import BadDatabaseUrl, DatabaseUrl, Host, Tls, parse

SECRET = "sekret-word"


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u@h/n", ["h:5432"]),
        ("postgres://u@h:6000/n", ["h:6000"]),
        ("postgresql://u@h1:1,h2:2,h3/n", ["h1:1", "h2:2", "h3:5432"]),
        ("postgresql://u@h1:1,h2/n?port=7", ["h1:1", "h2:7"]),
        ("postgresql://u@h1,h2/n?port=7,8", ["h1:7", "h2:8"]),
        ("postgresql://u@[::1]:6000,10.0.0.1/n", ["[::1]:6000", "10.0.0.1:5432"]),
        ("postgresql://u@[fe80::1%25eth0]/n", ["[fe80::1%eth0]:5432"]),
        ("postgresql://u@%2Frun%2Fpostgresql:6000/n", ["/run/postgresql:6000"]),
        ("postgresql://u@/n?host=/run/my%20postgres&port=6000", ["/run/my postgres:6000"]),
        ("postgresql://u@/n?host=/run/postgresql,h2&port=1,2", ["/run/postgresql:1", "h2:2"]),
        ("postgresql:///n?host=h&user=u", ["h:5432"]),
    ],
)
def test_every_form_of_a_host_is_read(url: str, hosts: list[str]) -> None:
    """Names, addresses of both families, sockets, each with its own port, one or several."""
    found = parse(url)
    assert [str(host) for host in found.hosts] == hosts
    assert (found.user, found.name) == ("u", "n")


def test_names_and_the_password_are_decoded() -> None:
    found = parse("postgresql://a%40b:p%40s%3As%2Fw%25%20:x@h/c%2Fd")
    assert (found.user, found.password, found.name) == ("a@b", "p@s:s/w% :x", "c/d")
    assert parse("postgresql://h/?user=a&password=b%26&dbname=n") == DatabaseUrl(
        hosts=(Host("h"),), user="a", password="b&", name="n", tls=Tls()
    )


def test_tls_is_what_the_url_says_or_else_the_settings() -> None:
    """One CA file for all URLs, and a URL that knows better."""
    settings = {"sslmode": "verify-full", "sslrootcert": "/ca.pem", "sslcert": "/c", "sslkey": "/k"}
    assert parse("postgresql://u@h/n", settings).tls == Tls(
        mode="verify-full", authority="/ca.pem", certificate="/c", key="/k"
    )
    assert parse("postgresql://u@h/n?sslmode=require", settings).tls.mode == "require"
    assert parse("postgresql://u@h/n").tls == Tls(mode="prefer")


@pytest.mark.parametrize(
    ("options", "verifies"),
    [
        ("sslmode=disable", False),
        ("sslmode=prefer", False),
        ("sslmode=require", False),
        ("sslmode=require&sslrootcert=/ca", True),
        ("sslmode=verify-ca&sslrootcert=/ca", True),
        ("sslmode=verify-full&sslrootcert=system", True),
    ],
)
def test_an_authority_is_asked_as_by_libpq(options: str, verifies: bool) -> None:
    assert parse(f"postgresql://u@h/n?{options}").tls.verifies is verifies


@pytest.mark.parametrize(
    ("place", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("localhost", True),
        ("%2Frun%2Fpostgresql", True),
        ("10.0.0.1", False),
        ("[fe80::1]", False),
        ("0.0.0.0", False),
        ("db.example", False),
        ("localhost.example", False),
    ],
)
def test_what_stays_on_this_machine_is_known(place: str, here: bool) -> None:
    """All else may be read on its way when it is not encrypted."""
    assert [host.is_here for host in parse(f"postgresql://u@{place}/n").hosts] == [here]


@pytest.mark.parametrize(("attributes", "writable"), [("read-write", True), ("primary", True), ("any", False)])
def test_writes_are_wanted_unless_any_server_will_do(attributes: str, writable: bool) -> None:
    assert parse(f"postgresql://u@h/n?target_session_attrs={attributes}").writable is writable
    assert parse("postgresql://u@h/n").writable


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "is not of the form"),
        (f"{SECRET}", "is not of the form"),
        (f"mysql://u:{SECRET}@h/n", "is not of the form"),
        (f"postgresql://u:{SECRET}@x@h/n", "is not of the form"),
        (f"postgresql://u:{SECRET}/x@h/n", "is not of the form"),
        (f"postgresql://u:{SECRET}?x@h/n", "is not of the form"),
        (f"postgresql://u:{SECRET}#x@h/n", "is not of the form"),
        (f"postgresql://u:{SECRET} x@h/n", "is not of the form"),
        (f"postgresql://u:{SECRET}\n@h/n", "is not of the form"),
        (f"postgresql://u:{SECRET}%@h/n", "is not of the form"),
        (f"postgresql://{SECRET}/n", "names no user"),
        (f"postgresql://u:{SECRET}@h", "names no database"),
        (f"postgresql://u:{SECRET}@/n", "names no host"),
        (f"postgresql://u:{SECRET}@h,/n", "names no host"),
        (f"postgresql://u:{SECRET}@/n?host=a,,b", "names a host without a name"),
        (f"postgresql://u:{SECRET}@h:x/n", "has a host that is not"),
        (f"postgresql://u:{SECRET}@::1/n", "has a host that is not"),
        (f"postgresql://u:{SECRET}@[::1/n", "has a host that is not"),
        (f"postgresql://u:{SECRET}@h:0/n", "has a port that is no number"),
        (f"postgresql://u:{SECRET}@h:65536/n", "has a port that is no number"),
        (f"postgresql://u:{SECRET}@h/n?port={SECRET}", "has a port that is no number"),
        (f"postgresql://u:{SECRET}@a,b,c/n?port=1,2", "has 2 ports for 3 hosts"),
        (f"postgresql://u:{SECRET}@h/n?host=g", "gives host twice"),
        (f"postgresql://u:{SECRET}@h/n?password={SECRET}", "gives password twice"),
        (f"postgresql://u:{SECRET}@h/n?sslmode=require&sslmode=disable", "gives sslmode twice"),
        (f"postgresql://u:{SECRET}@h/n?{SECRET}=1", "has an option that is none of host,"),
        (f"postgresql://u:{SECRET}@h/n?sslmode={SECRET}", "has an sslmode that is none of disable,"),
        (f"postgresql://u:{SECRET}@h/n?sslmode=verify-full", "needs sslrootcert"),
        *(
            (f"postgresql://u:{SECRET}@h/n?{mode}sslrootcert=/ca", "never looks at it: give sslmode=verify-full")
            for mode in ("", "sslmode=disable&", "sslmode=prefer&")
        ),
        *(
            (f"postgresql://u:{SECRET}@h/n?sslrootcert=/ca&{empty}", f"gives {empty.strip('=')} without a value")
            for empty in ("sslmode=", "sslmode", "sslcert=", "sslkey=", "target_session_attrs=", "port=", "password=")
        ),
        (f"postgresql://u:{SECRET}@h/n?sslmode=require&sslrootcert=", "gives sslrootcert without a value"),
        *(
            (f"postgresql://u:{SECRET}@{hosts}/n", "has a host that is neither a name, nor an address")
            for hosts in (
                "a..b",
                ".a",
                f"{'a' * 64}.x",
                "g,a..b",
                "%C3%BC..x",
                f"{'%C3%BC' * 60}",
                "h%0Ax",
                "%2Ftmp%0A",
            )
        ),
        (f"postgresql://u:{SECRET}@/n?host=g,a..b", "has a host that is neither a name, nor an address"),
        (f"postgresql://u:{SECRET}@h%00x/n", "holds a NUL character"),
        (f"postgresql://u:{SECRET}@/n?host=/tmp%00", "holds a NUL character"),
        (f"postgresql://u%00x:{SECRET}@h/n", "holds a NUL character"),
        (f"postgresql://u:{SECRET}%00@h/n", "holds a NUL character"),
        (f"postgresql://u:{SECRET}@h/n%00", "holds a NUL character"),
        (f"postgresql://u:{SECRET}%ff@h/n", "holds what is not UTF-8"),
        (f"postgresql://u:{SECRET}\udcff@h/n", "holds what is not UTF-8"),
        (f"postgresql://u:{SECRET}@h/n?sslcert=/c", "needs both sslcert and sslkey"),
        (f"postgresql://u:{SECRET}@h/n?target_session_attrs=standby", "has target_session_attrs that is none of"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_without_the_password(url: str, told: str) -> None:
    """Where a URL is cut wrongly any part of it may be the password's, so none is quoted."""
    with pytest.raises(BadDatabaseUrl) as caught:
        parse(url)
    assert told in str(caught.value)
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_url_does_not_show_its_password() -> None:
    """It is an argument in tracebacks and debug logs."""
    found = parse(f"postgresql://u:{SECRET}@h1,h2/n")
    assert repr(found) == str(found) == "<n at h1:5432, h2:5432>"
    assert SECRET not in repr(msgspec.structs.replace(found, name="m"))
    assert SECRET not in str(found.__rich_repr__())
