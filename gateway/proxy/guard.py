"""Requests that are not forwarded, one function a rule; pure, so every row of the vector table can be read here.

The server's parser has accepted the request already. These rules refuse what it accepts but two parsers could read
differently (RFC 9112 section 11.2), what would reach another host, and what no container is meant to see.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

Headers = Iterable[tuple[bytes, bytes]]

_METHOD = re.compile(r"\A[A-Z][A-Z-]{0,31}\Z")
_TUNNELS: Final = frozenset({"CONNECT", "TRACE", "PRI"})
_LABELS = rb"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_HOST = re.compile(rb"\A(?:" + _LABELS + rb"(?:\." + _LABELS + rb")*\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?\Z")
_TARGET_BYTES = re.compile(rb'\A[!"$-~]*\Z')  # RFC 9112 allows less; these are what a parser cannot misread: no #
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS = re.compile(rb"\A[0-9]{1,19}\Z")


class Refusal(msgspec.Struct, frozen=True):
    """A request that ends here. ``sentence`` is for the client and never quotes what it sent."""

    status: int
    slug: str  # last part of the problem's ``type``
    sentence: str
    close: bool = False  # close the connection: where this request ends is in doubt


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules look at, read from an ASGI scope in one pass."""

    method: str | None  # None: a websocket handshake
    http_version: str
    secure: bool
    raw_path: bytes
    query: bytes
    fields: dict[bytes, list[bytes]]
    header_count: int
    header_bytes: int
    control_bytes: bool


def read_head(scope: Any) -> Head:
    """Read an ASGI HTTP or websocket scope (header names already in lower case, as ASGI promises)."""
    fields: dict[bytes, list[bytes]] = {}
    size, count, control = 0, 0, False
    for name, value in scope["headers"]:
        count += 1
        size += len(name) + len(value)
        control = control or _CONTROL.search(value) is not None
        fields.setdefault(name, []).append(value)
    return Head(
        method=scope.get("method"),
        http_version=scope["http_version"],
        secure=scope["scheme"] in ("https", "wss"),
        raw_path=scope.get("raw_path") or b"",
        query=scope.get("query_string") or b"",
        fields=fields,
        header_count=count,
        header_bytes=size,
        control_bytes=control,
    )


def bad_version(head: Head) -> Refusal | None:
    """Only 1.0, 1.1 and HTTP/2 over TLS: hypercorn turns h2c on by itself, and passes ``HTTP/1.2`` lines on."""
    if head.http_version in ("1.1", "1.0") or (head.http_version == "2" and head.secure):
        return None
    return Refusal(505, "http-version", "This HTTP version is not spoken here; use HTTP/1.1.", close=True)


def bad_upgrade(head: Head) -> Refusal | None:
    """No ``h2c``: behind a front proxy it would carry requests past that proxy's rules."""
    upgrades = b",".join(head.fields.get(b"upgrade", ())).lower()
    if b"http2-settings" in head.fields or any(token.strip() == b"h2c" for token in upgrades.split(b",")):
        return Refusal(400, "bad-upgrade", "HTTP/2 without TLS is not spoken here.", close=True)
    return None


def bad_method(head: Head) -> Refusal | None:
    """Any method in capital letters but those that make a tunnel or echo credentials (RFC 9110 section 9.3)."""
    if head.method is None or (_METHOD.match(head.method) and head.method not in _TUNNELS):
        return None
    return Refusal(501, "method-refused", "This method is not forwarded.", close=True)


def bad_framing(head: Head) -> Refusal | None:
    """One way to tell where the body ends (RFC 9112 section 6.3), and no chunks from HTTP/1.0 (section 6.1).

    None at all in a websocket handshake: hypercorn answers 400 by itself then, and never tells the application.
    """
    lengths = head.fields.get(b"content-length", ())
    codings = head.fields.get(b"transfer-encoding", ())
    if head.method is None and (codings or lengths):
        return Refusal(400, "bad-framing", "A websocket handshake has no body.", close=True)
    if codings and (lengths or head.http_version != "1.1"):
        return Refusal(400, "bad-framing", "The request says in two ways where its body ends.", close=True)
    if codings and (len(codings) > 1 or codings[0].strip().lower() != b"chunked"):
        return Refusal(501, "bad-framing", "The only transfer coding understood here is one 'chunked'.", close=True)
    if lengths and (len(lengths) > 1 or not _DIGITS.match(lengths[0])):
        return Refusal(400, "bad-framing", "The content-length is not one number.", close=True)
    return None


def bad_host(head: Head) -> Refusal | None:
    """Exactly one Host: a name, IPv4 or [IPv6] with an optional port; no user, path, empty or encoded host."""
    hosts = head.fields.get(b"host", ())
    match = _HOST.match(hosts[0]) if len(hosts) == 1 else None
    if match is None or int(match.group(1) or 0) > 65535:
        return Refusal(400, "bad-host", "The Host header is not one host name with an optional port.", close=True)
    return None


def bad_target(head: Head) -> Refusal | None:
    """Origin form with exactly one leading slash: never another host's name, a fragment or a control byte."""
    if not head.raw_path.startswith(b"/") or head.raw_path.startswith(b"//"):
        return Refusal(400, "bad-target", "The request target does not start with exactly one '/'.", close=True)
    if not _TARGET_BYTES.match(head.raw_path) or not _TARGET_BYTES.match(head.query):
        return Refusal(400, "bad-target", "The request target holds a byte that belongs in no target.", close=True)
    return None


def bad_values(head: Head) -> Refusal | None:
    """No control byte in a header value (RFC 9110 section 5.5): containers' parsers disagree about them."""
    if head.control_bytes:
        return Refusal(400, "bad-header", "A header value holds a control byte.", close=True)
    return None


def bad_expectation(head: Head) -> Refusal | None:
    """``100-continue`` is answered by the server; no other expectation is known (RFC 9110 section 10.1.1)."""
    if all(value.strip().lower() == b"100-continue" for value in head.fields.get(b"expect", ())):
        return None
    return Refusal(417, "expectation-failed", "The only expectation met here is 100-continue.", close=True)


_RULES: Final[tuple[Callable[[Head], Refusal | None], ...]] = (
    bad_version,
    bad_upgrade,
    bad_method,
    bad_framing,
    bad_host,
    bad_target,
    bad_values,
    bad_expectation,
)


def refuse(scope: Any, *, max_headers: int, max_header_bytes: int) -> Refusal | None:
    """The first rule that this request breaks; None when it may be forwarded. No I/O."""
    head = read_head(scope)
    if head.header_count > max_headers or head.header_bytes > max_header_bytes:
        return Refusal(431, "headers-too-large", "The request has too many header lines or bytes.", close=True)
    for rule in _RULES:
        refusal = rule(head)
        if refusal is not None:
            return refusal
    return None


def refuse_origin(headers: Headers, *, secure: bool, allowed: Collection[str] = ()) -> Refusal | None:
    """Websockets: no Origin (not a browser), the gateway's own, or one of ``allowed`` (``https://host[:port]``).

    OpenCode accepts any Origin (measured), so a page of another site could otherwise use a visitor's session.
    """
    headers = list(headers)
    origins = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if not origins:
        return None
    ours = _authority(f"{'https' if secure else 'http'}://{hosts[0]}") if hosts else None
    if len(origins) == 1 and (origins[0] in allowed or (ours is not None and _authority(origins[0]) == ours)):
        return None
    return Refusal(403, "origin-refused", "This origin may not open websockets here.")


def _authority(origin: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an origin, default ports as if written; None when it names no host (``null``)."""
    try:
        parts = urlsplit(origin)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None
