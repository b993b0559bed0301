"""Headers on their way through: pure functions over ``(name, value)`` pairs, order and duplicates kept.

What is not named here passes unchanged, byte for byte. Towards the container: hop-by-hop fields, the gateway's token
and forged ``Forwarded`` fields go, the container's credential comes. Towards the client: hop-by-hop fields go, and in
path mode whatever would act on the whole origin, since all sessions share it.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

Header = tuple[bytes, bytes]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TOKEN_SUBPROTOCOL: Final = b"session-token."
"""Prefix of the websocket subprotocol by which a browser shows its session token; never passed on."""

_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade http2-settings".split()
)  # RFC 9110 section 7.6.1; trailers are dropped by both servers, so nothing may announce them
_NOT_NOMINATED: Final = frozenset(b"host content-length content-type cookie authorization".split())
"""End-to-end fields that a ``Connection`` header may not remove: the request would come to mean something else."""

_REPLACED: Final = frozenset(
    b"authorization forwarded x-real-ip traceparent tracestate x-request-id expect".split()
)  # the gateway's own are added at the end; ``Expect`` was met by the server

_ORIGIN_WIDE: Final = frozenset(
    b"set-cookie set-cookie2 clear-site-data strict-transport-security public-key-pins service-worker-allowed alt-svc"
    b" nel report-to reporting-endpoints".split()
)  # each of them acts on every session of the origin that path mode shares

_BASIC: Final = re.compile(rb"(?:\A|,)\s*basic(?:\s|,|\Z)", re.IGNORECASE)

_INERT_TYPES: Final = (b"image/", b"audio/", b"video/", b"font/")
_INERT: Final = frozenset(
    b"application/json application/problem+json application/x-ndjson application/octet-stream text/event-stream"
    b" text/plain text/css text/javascript application/javascript application/wasm".split()
)


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway knows of one request and its container, for the headers that it writes itself."""

    container_host: bytes  # host:port, the container's Host
    credential: bytes  # the container's Authorization value
    peer: str | None  # address of the connection's other end
    scheme: str  # how the client reached us: http or https
    request_id: str
    traceparent: bytes | None = None
    tracestate: bytes | None = None
    prefix: bytes = b""  # path mode: the part of the path that the container does not see
    trusted: tuple[Network, ...] = ()  # proxies in front of us whose Forwarded fields are true


def to_container(headers: Sequence[Header], hop: Hop) -> list[Header]:
    """Headers for the container. ``Host`` keeps its place; the gateway's own fields come last.

    A name with underscores that a CGI-like server would read as a field written here is dropped as well.
    """
    named = _nominated(headers)
    trusted = is_trusted(hop.peer, hop.trusted)
    kept: list[Header] = []
    for name, value in headers:
        plain = name.replace(b"_", b"-") if b"_" in name else name
        if plain in _HOP_BY_HOP or plain in named or plain in _REPLACED or plain.startswith(b"x-forwarded-"):
            continue
        if name == b"host":
            value = hop.container_host
        elif name == b"sec-websocket-protocol":
            value = strip_token_subprotocol(value)
            if not value:
                continue
        kept.append((name, value))
    kept.append((b"authorization", hop.credential))
    kept.extend(_forwarded(headers, hop, trusted))
    kept.append((b"x-request-id", hop.request_id.encode("latin-1")))
    if hop.traceparent is not None:
        kept.append((b"traceparent", hop.traceparent))
        if hop.tracestate is not None:
            kept.append((b"tracestate", hop.tracestate))
    return kept


def to_client(status: int, headers: Sequence[Header], *, path_mode: bool = True) -> list[Header]:
    """Headers for the client. The container's ``traceparent`` and ``X-Request-ID`` go: every answer carries ours.

    A ``www-authenticate: Basic`` would have a browser ask for the container's password, which no client has. In path
    mode a body that a browser may run gets ``Content-Security-Policy: sandbox`` beside the container's own policy.
    """
    named = _nominated(headers)
    kept: list[Header] = []
    content_type = b""
    for name, value in headers:
        if name in _HOP_BY_HOP or name in named or name in (b"traceparent", b"tracestate", b"x-request-id"):
            continue
        if name == b"www-authenticate" and _is_basic(value):
            continue
        if path_mode and name in _ORIGIN_WIDE:
            continue
        if name == b"content-type":
            content_type = value
        elif name == b"content-length" and status == 204:  # RFC 9110 section 8.6: never in a 204
            continue
        kept.append((name, value))
    if path_mode and not _is_inert(content_type):
        kept.append((b"content-security-policy", b"sandbox"))
    return kept


def refuses_credential(status: int, headers: Iterable[Header]) -> bool:
    """True for a 401 that asks for Basic: the container did not take the credential that the gateway added."""
    return status == 401 and any(name == b"www-authenticate" and _is_basic(value) for name, value in headers)


def is_event_stream(headers: Iterable[Header]) -> bool:
    """True for ``text/event-stream``: no read time-out, counted as a stream."""
    return any(name == b"content-type" and _media_type(value) == b"text/event-stream" for name, value in headers)


def strip_auth_token(query: bytes) -> bytes:
    """The query without its ``auth_token`` parameters (also percent-encoded names); no other byte changes.

    OpenCode takes ``auth_token`` as a credential, so one that a client sends must neither work nor be logged there.
    """
    if b"auth" not in query and b"%" not in query:
        return query
    return b"&".join(pair for pair in query.split(b"&") if unquote_to_bytes(pair.partition(b"=")[0]) != b"auth_token")


def strip_token_subprotocol(value: bytes) -> bytes:
    """A ``Sec-WebSocket-Protocol`` value without the gateway's token; unchanged when there is none."""
    if TOKEN_SUBPROTOCOL not in value:
        return value
    offered = [token.strip() for token in value.split(b",")]
    return b", ".join(token for token in offered if not token.startswith(TOKEN_SUBPROTOCOL))


def token_subprotocol(headers: Iterable[Header]) -> bytes | None:
    """The session token that a websocket handshake shows as ``session-token.<token>``; None without one."""
    for name, value in headers:
        if name == b"sec-websocket-protocol":
            for token in value.split(b","):
                if token.strip().startswith(TOKEN_SUBPROTOCOL):
                    return token.strip()[len(TOKEN_SUBPROTOCOL) :]
    return None


def _nominated(headers: Iterable[Header]) -> frozenset[bytes]:
    """Names that ``Connection`` marks as hop-by-hop."""
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return frozenset()
    return frozenset(name.strip().lower() for value in values for name in value.split(b",")) - _NOT_NOMINATED


def _forwarded(headers: Sequence[Header], hop: Hop, trusted: bool) -> list[Header]:
    """``X-Forwarded-*`` and ``Forwarded`` (RFC 7239): what a trusted proxy said plus its own address, else ours."""
    said = {name: value for name, value in headers if trusted and name.startswith((b"x-forwarded-", b"forwarded"))}
    host = next((value for name, value in headers if name == b"host"), b"")
    proto = said.get(b"x-forwarded-proto", hop.scheme.encode())
    host = said.get(b"x-forwarded-host", host)
    peer = (hop.peer or "unknown").encode()
    node = b'"[%b]"' % peer if b":" in peer else peer
    element = b'for=%b;host="%b";proto=%b' % (node, host.replace(b'"', b""), proto)
    chain = [value for name, value in headers if trusted and name == b"x-forwarded-for"]
    elements = [value for name, value in headers if trusted and name == b"forwarded"]
    prefix = [(b"x-forwarded-prefix", said.get(b"x-forwarded-prefix", b"") + hop.prefix)] if hop.prefix else []
    return [
        (b"x-forwarded-for", b", ".join([*chain, peer])),
        (b"x-forwarded-proto", proto),
        (b"x-forwarded-host", host),
        *prefix,
        (b"forwarded", b", ".join([*elements, element])),
    ]


def networks(setting: str) -> tuple[Network, ...]:
    """Comma-separated addresses and networks. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in setting.split(",") if part.strip())


def is_trusted(peer: str | None, trusted: Sequence[Network]) -> bool:
    if not trusted or peer is None:
        return False
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:  # a unix socket's peer
        return False
    return any(address in network for network in trusted)


def _is_basic(challenge: bytes) -> bool:
    return _BASIC.search(challenge) is not None


def _media_type(value: bytes) -> bytes:
    return value.partition(b";")[0].strip().lower()


def _is_inert(content_type: bytes) -> bool:
    """True for types that no browser runs as a page of this origin; a missing type is sniffed, so it is not inert."""
    media = _media_type(content_type)
    return media in _INERT or (media.startswith(_INERT_TYPES) and not media.endswith(b"+xml"))
