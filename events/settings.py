"""DB_* and DATABASE_URL: where the log lives. Field names are environment variables in lower case (spec row C2)."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import quote

from msgspec import Meta

from events.database_tls import client_context
from events.database_url import BadDatabaseUrl, parse
from events.redacted import Redacted

_IN_URL: Final = ("db_host", "db_port", "db_user", "db_password", "db_name")


class DatabaseSettings(Redacted, frozen=True, kw_only=True):
    """Without ``db_host`` and ``database_url`` the log is in the embedded Postgres."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"database_url", "db_password", "db_admin_url", "db_direct_url"})

    use_database_storage: Annotated[
        bool, Meta(description="false: the log is a file under GATEWAY_DATA_DIR, of one process, for development")
    ] = True
    database_url: Annotated[
        str, Meta(description="the database as a postgresql:// URL, of several hosts too (secret); instead of DB_HOST")
    ] = ""
    db_host: Annotated[str, Meta(description="Postgres host or socket directory; empty: the embedded Postgres")] = ""
    db_port: Annotated[int, Meta(ge=1, le=65535, description="Postgres port")] = 5432
    db_user: Annotated[str, Meta(description="role that the gateway works as")] = "session_gateway"
    db_password: Annotated[str, Meta(description="its password (secret)")] = ""
    db_name: Annotated[str, Meta(description="database")] = "session_gateway"
    db_admin_url: Annotated[
        str, Meta(description="postgresql:// URL of the role that owns and migrates the log (secret); empty: DB_USER")
    ] = ""
    db_direct_url: Annotated[
        str, Meta(description="the way past a pooler such as PgBouncer, for LISTEN alone (secret)")
    ] = ""
    db_sslmode: Annotated[
        Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"],
        Meta(description="TLS to Postgres where a URL does not say; empty: prefer"),
    ] = ""
    db_sslrootcert: Annotated[
        str, Meta(description="file of the authorities that may sign the server's certificate, or the word system")
    ] = ""
    db_sslcert: Annotated[str, Meta(description="file of our own certificate, if the server wants one")] = ""
    db_sslkey: Annotated[str, Meta(description="file of its key")] = ""
    db_min_connections: Annotated[int, Meta(ge=0, description="reading connections kept open")] = 5
    db_max_connections: Annotated[
        int, Meta(ge=2, description="reading connections at most; a proof holds one while another reads the log")
    ] = 20
    db_max_queries: Annotated[int, Meta(ge=1, description="queries before a connection is replaced")] = 50_000
    db_max_inactive_lifetime: Annotated[
        float, Meta(ge=0, description="seconds that a connection above DB_MIN_CONNECTIONS stays idle; 0: for ever")
    ] = 300.0
    db_statement_cache: Annotated[
        int, Meta(ge=-1, description="prepared statements kept a connection; -1: 100, behind a pooler none")
    ] = -1

    @property
    def given(self) -> bool:
        """Whether there is a database, so that none has to be started."""
        return bool(self.db_host or self.database_url)

    @property
    def app_user(self) -> str:
        """The role that the gateway works as."""
        return parse(self.dsn()).user if self.given else self.db_user

    def dsn(self) -> str:
        """The gateway's own connection as a URL. Holds the password: never log it."""
        return self._with_tls(self.database_url or self._from_parts())

    def admin_dsn(self) -> str:
        """The connection of whoever owns and migrates the log. Holds a password too."""
        return self._with_tls(self.db_admin_url) if self.db_admin_url else self.dsn()

    def direct_dsn(self) -> str:
        """The connection that listens, past a pooler; empty: the gateway's own does."""
        return self._with_tls(self.db_direct_url) if self.db_direct_url else ""

    def _from_parts(self) -> str:
        secret = f":{_quoted(self.db_password)}" if self.db_password else ""
        user, name = _quoted(self.db_user), _quoted(self.db_name)
        if self.db_host.startswith("/"):
            return f"postgresql://{user}{secret}@/{name}?host={_quoted(self.db_host, '/')}&port={self.db_port}"
        host = _quoted(self.db_host, ":")
        host = f"[{host}]" if ":" in host else host
        return f"postgresql://{user}{secret}@{host}:{self.db_port}/{name}"

    def _with_tls(self, url: str) -> str:
        """The URL with the TLS options that it leaves open; no authority for one that wants nothing proved."""
        present = dict(pair.partition("=")[::2] for pair in url.partition("?")[2].split("&"))
        left = {"sslrootcert"} if present.get("sslmode") in ("disable", "prefer") else set()
        for option in ("sslmode", "sslrootcert", "sslcert", "sslkey"):
            value = getattr(self, f"db_{option}")
            if value and option not in {*present, *left}:
                url += f"{'&' if '?' in url else '?'}{option}={_quoted(value, '/')}"
        return url


def _quoted(text: str, safe: str = "") -> str:
    """``text`` in a URL. Bytes of the environment that are not UTF-8 stay what they are, for ``parse`` to refuse."""
    return quote(text, safe=safe, errors="surrogateescape")


def problems(settings: DatabaseSettings) -> list[str]:
    """What does not fit together or cannot be used, a sentence each; no password is quoted."""
    found = []
    if settings.database_url:
        found += [
            f"{field.upper()} is given beside DATABASE_URL, which says it too: unset one of them"
            for field in _IN_URL
            if getattr(settings, field) != getattr(DatabaseSettings(), field)
        ]
    if "," in settings.db_host:
        found.append("DB_HOST is one host: give several in DATABASE_URL")
    if not settings.given:
        found += [
            f"{field.upper()} is for a database of yours: give DB_HOST or DATABASE_URL too"
            for field in ("db_direct_url", "db_sslmode", "db_sslrootcert", "db_sslcert", "db_sslkey")
            if getattr(settings, field)
        ]
    return found or list(_unusable_urls(settings))


def _unusable_urls(settings: DatabaseSettings) -> Iterator[str]:
    own = "DATABASE_URL" if settings.database_url else "The database of DB_HOST"
    urls = {
        own: settings.dsn() if settings.given else "",
        "DB_ADMIN_URL": settings.db_admin_url and settings.admin_dsn(),
        "DB_DIRECT_URL": settings.direct_dsn(),
    }
    for name, url in urls.items():
        try:
            if url:
                client_context(parse(url).tls)
        except BadDatabaseUrl as error:
            yield f"{name} {error}"
