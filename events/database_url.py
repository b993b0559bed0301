"""Where the log lives and as whom: a ``postgresql://`` URL, read strictly and without a look at the environment.

No message here quotes any part of the URL: where one is malformed, any part of it may be the password's.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, TypeAlias, get_args
from urllib.parse import unquote

import msgspec

from events.errors import EventError
from events.redacted import Redacted

TlsMode: TypeAlias = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
TLS_MODES: Final[tuple[TlsMode, ...]] = get_args(TlsMode)
SYSTEM: Final = "system"  # as an authority: whatever this machine trusts

_URL: Final = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?#\s]+)(?::(?P<password>[^@/?#\s]*))?@)?(?P<hosts>[^@/?#\s]*)"
    r"(?:/(?P<name>[^@/?#\s]*))?(?:\?(?P<query>[^@#\s]*))?"
)
_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d{1,5}))?")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TLS: Final = {"sslmode": "mode", "sslrootcert": "authority", "sslcert": "certificate", "sslkey": "key"}
_OPTIONS: Final = ("host", "port", "user", "password", "dbname", "target_session_attrs", *_TLS)
_ATTRIBUTES: Final = ("read-write", "primary", "any")


class BadDatabaseUrl(EventError):
    """A URL that cannot be used. The text is the rest of a sentence that begins with the setting's name."""


class Host(msgspec.Struct, frozen=True):
    """One server: a name, an address, or the directory of its socket."""

    name: str
    port: int = 5432

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{name}:{self.port}"

    @property
    def is_socket(self) -> bool:
        return self.name.startswith("/")

    @property
    def is_here(self) -> bool:
        """Whether what goes there stays on this machine; False for a name of which that is not known."""
        try:
            return ipaddress.ip_address(self.name).is_loopback
        except ValueError:
            return self.is_socket or self.name == "localhost"


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection is protected; libpq's modes and files. Sockets have no TLS."""

    mode: TlsMode = "prefer"
    authority: str = ""  # a file, SYSTEM, or empty
    certificate: str = ""
    key: str = ""

    @property
    def verifies(self) -> bool:
        """Whether the server must show a certificate of the authority. As in libpq, "require" with one does."""
        return self.mode.startswith("verify") or (self.mode == "require" and bool(self.authority))


class DatabaseUrl(Redacted, frozen=True, kw_only=True):
    """A database on one host or, in this order, on several of which one takes writes."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"password"})

    hosts: tuple[Host, ...]
    user: str
    password: str | None
    name: str
    tls: Tls
    writable: bool = True  # pass over a server that takes no writes

    def __repr__(self) -> str:
        return f"<{self.name} at {', '.join(map(str, self.hosts))}>"


def parse(url: str, defaults: Mapping[str, str] | None = None) -> DatabaseUrl:
    """Read ``postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME?OPTION=VALUE``. Raises BadDatabaseUrl.

    ``defaults`` are the TLS options to use where the URL does not say. A host may be ``[::1]`` or, percent-encoded or
    as the option ``host``, the directory of a socket.
    """
    match = _URL.fullmatch(url)
    if match is None or _BROKEN_ESCAPE.search(url):
        raise BadDatabaseUrl(
            "is not of the form postgresql://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE: "
            "in its password write %, /, ?, #, @ and blanks as %25, %2F, %3F, %23, %40 and %20"
        )
    options = _options(match["query"] or "")
    user = _once("user", match["user"], options) or ""
    name = _once("dbname", match["name"], options) or ""
    for what, found in (("user", user), ("database", name)):
        if not found:
            raise BadDatabaseUrl(f"names no {what}")
    return DatabaseUrl(
        hosts=_hosts(match["hosts"], options),
        user=user,
        password=_once("password", match["password"], options),
        name=name,
        tls=_tls({**(defaults or {}), **options}),
        writable=_writable(options.get("target_session_attrs", "read-write")),
    )


def _options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key not in _OPTIONS:
            raise BadDatabaseUrl(f"has an option that is none of {', '.join(_OPTIONS)}")
        if key in found:
            raise BadDatabaseUrl(f"gives {key} twice")
        if not value:
            raise BadDatabaseUrl(f"gives {key} without a value")
        found[key] = _decoded(value)
    return found


def _decoded(text: str) -> str:
    """``text`` without its percent escapes, as Postgres can take it: a NUL would end a value early."""
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise BadDatabaseUrl("holds what is not UTF-8") from None
    if "\0" in decoded:
        raise BadDatabaseUrl("holds a NUL character")
    return decoded


def _once(option: str, placed: str | None, options: Mapping[str, str]) -> str | None:
    """What stands in its own place of the URL, or else among the options."""
    if placed and option in options:
        raise BadDatabaseUrl(f"gives {option} twice")
    return _decoded(placed) if placed else options.get(option)


def _hosts(placed: str, options: Mapping[str, str]) -> tuple[Host, ...]:
    if placed and "host" in options:
        raise BadDatabaseUrl("gives host twice")
    if placed:
        names, ports = zip(*map(_host, placed.split(",")), strict=True)
    else:
        names = tuple(options.get("host", "").split(","))
        ports = (None,) * len(names)
    if not all(names):
        raise BadDatabaseUrl("names no host" if len(names) == 1 else "names a host without a name")
    if not all(map(_can_be_dialled, names)):
        raise BadDatabaseUrl("has a host that is neither a name, nor an address, nor the directory of a socket")
    default = options.get("port", "5432").split(",")
    if len(default) not in (1, len(names)):
        raise BadDatabaseUrl(f"has {len(default)} ports for {len(names)} hosts")
    defaults = default * len(names) if len(default) == 1 else default
    return tuple(Host(name, _port(own or other)) for name, own, other in zip(names, ports, defaults, strict=True))


def _host(text: str) -> tuple[str, str | None]:
    match = _HOST.fullmatch(text)
    if match is None:
        raise BadDatabaseUrl("has a host that is not NAME, NAME:PORT or [ADDRESS]:PORT" if text else "names no host")
    return _decoded(match["v6"] or match["name"]), match["port"]


def _can_be_dialled(name: str) -> bool:
    """Whether a host can be looked up at all, or else be a path: labels of 1 to 63 bytes (RFC 1035, 2.3.4)."""
    try:
        return name.isprintable() and (name.startswith("/") or bool(name.encode("idna")))
    except UnicodeError:
        return False


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise BadDatabaseUrl("has a port that is no number from 1 to 65535")
    return int(text)


def _tls(options: Mapping[str, str]) -> Tls:
    given = {field: options[option] for option, field in _TLS.items() if options.get(option)}
    mode = given.pop("mode", "prefer")
    known = next((one for one in TLS_MODES if one == mode), None)
    if known is None:
        raise BadDatabaseUrl(f"has an sslmode that is none of {', '.join(TLS_MODES)}")
    tls = Tls(mode=known, **given)
    if tls.authority and not tls.verifies:
        raise BadDatabaseUrl(
            f"has sslrootcert and sslmode={mode}, which never looks at it: give sslmode=verify-full, or no sslrootcert"
        )
    if tls.verifies and not tls.authority:
        raise BadDatabaseUrl(f"has sslmode={mode}, which needs sslrootcert: a file, or the word {SYSTEM}")
    if bool(tls.certificate) != bool(tls.key):
        raise BadDatabaseUrl("needs both sslcert and sslkey, or neither")
    return tls


def _writable(attributes: str) -> bool:
    if attributes not in _ATTRIBUTES:
        raise BadDatabaseUrl(f"has target_session_attrs that is none of {', '.join(_ATTRIBUTES)}")
    return attributes != "any"
