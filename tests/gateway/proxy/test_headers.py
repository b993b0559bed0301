"""What changes in headers on their way through, and that nothing else does."""

import ipaddress
from typing import Any

import pytest

from gateway.proxy.headers import (
    Header,
    Hop,
    refuses_credential,
    strip_auth_token,
    strip_token_subprotocol,
    to_client,
    to_container,
    token_subprotocol,
)

PLAIN: list[Header] = [
    (b"x-a", b"1"),
    (b"host", b"gateway"),
    (b"cookie", b"a=1"),
    (b"x-b", b"\xff"),
    (b"cookie", b"b=2"),
    (b"x-a", b"2"),
    (b"accept-encoding", b"gzip, br"),
    (b"content-length", b"3"),
]


def hop(**changes: Any) -> Hop:
    values: dict[str, Any] = {
        "container_host": b"127.0.0.1:4096",
        "credential": b"Basic b3BlbmNvZGU6cHc=",
        "peer": "203.0.113.9",
        "scheme": "http",
        "request_id": "req_1",
        **changes,
    }
    return Hop(**values)


def sent(*headers: Header, **changes: Any) -> list[Header]:
    return to_container([(b"host", b"gateway"), *headers], hop(**changes))


def values(headers: list[Header], name: bytes) -> list[bytes]:
    return [value for found, value in headers if found == name]


def test_ordinary_headers_keep_place_order_and_duplicates() -> None:
    """Cookies joined or regrouped are other cookies; only Host is another value in its old place."""
    out = to_container(PLAIN, hop())
    expected = [(name, b"127.0.0.1:4096" if name == b"host" else value) for name, value in PLAIN]
    assert out[: len(PLAIN)] == expected


def test_the_token_goes_and_the_credential_comes() -> None:
    """The container never sees a gateway token, the client never the container's credential."""
    out = sent((b"authorization", b"Bearer sgs_secret"), (b"proxy-authorization", b"Basic x"))
    assert values(out, b"authorization") == [b"Basic b3BlbmNvZGU6cHc="]
    assert values(out, b"proxy-authorization") == []


@pytest.mark.parametrize(
    "name",
    [b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection", b"expect",
     b"x-one", b"x-two"],
)  # fmt: skip
def test_hop_by_hop_fields_end_here(name: bytes) -> None:
    """RFC 9110 section 7.6.1, those named by Connection included."""
    out = sent((b"connection", b"close, X-One"), (b"connection", b"x-two"), (name, b"v"))
    assert values(out, name) == []


def test_connection_cannot_remove_what_the_request_means() -> None:
    """``Connection: content-length`` would turn a body into the next request."""
    named = b"host, content-length, cookie, x-forwarded-for, authorization"
    out = sent((b"connection", named), (b"content-length", b"3"), (b"cookie", b"a"))
    for name in named.split(b", "):
        assert len(values(out, name)) == 1, name


def test_forwarded_fields_of_a_stranger_are_overwritten() -> None:
    """Whoever connects cannot choose the address that the container logs."""
    forged = [
        (name, b"forged")
        for name in (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"forwarded",
                     b"x-real-ip", b"x_forwarded_for", b"x_real_ip")
    ]  # fmt: skip
    out = sent(*forged, prefix=b"/s/ses_x")
    assert b"forged" not in b" ".join(value for _, value in out)
    assert values(out, b"x-forwarded-for") == [b"203.0.113.9"]
    assert values(out, b"x-forwarded-proto") == [b"http"]
    assert values(out, b"x-forwarded-host") == [b"gateway"]
    assert values(out, b"x-forwarded-prefix") == [b"/s/ses_x"]
    assert values(out, b"forwarded") == [b'for=203.0.113.9;host="gateway";proto=http']


def test_forwarded_fields_of_a_trusted_proxy_are_continued() -> None:
    """Its word plus its own address."""
    trusted = (ipaddress.ip_network("203.0.113.0/24"),)
    out = sent(
        (b"x-forwarded-for", b"198.51.100.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"chat.example"),
        (b"forwarded", b"for=198.51.100.1"),
        trusted=trusted,
    )
    assert values(out, b"x-forwarded-for") == [b"198.51.100.1, 203.0.113.9"]
    assert values(out, b"x-forwarded-proto") == [b"https"]
    assert values(out, b"x-forwarded-host") == [b"chat.example"]
    assert values(out, b"forwarded") == [b'for=198.51.100.1, for=203.0.113.9;host="chat.example";proto=https']
    assert values(sent((b"x-forwarded-for", b"1.1.1.1"), trusted=trusted, peer="192.0.2.1"), b"x-forwarded-for") == [
        b"192.0.2.1"
    ]


def test_an_ipv6_peer_is_quoted() -> None:
    """RFC 7239 section 6."""
    assert values(sent(peer="2001:db8::1"), b"forwarded") == [b'for="[2001:db8::1]";host="gateway";proto=http']


def test_trace_context_and_request_id_are_the_gateways() -> None:
    """One request, one id, through every log."""
    out = sent(
        (b"traceparent", b"00-forged"), (b"tracestate", b"x=1"), (b"x-request-id", b"theirs"), traceparent=b"00-a"
    )
    assert values(out, b"traceparent") == [b"00-a"]
    assert values(out, b"tracestate") == []
    assert values(out, b"x-request-id") == [b"req_1"]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (b"", b""),
        (b"a=1&b=2", b"a=1&b=2"),
        (b"auth_token=abc", b""),
        (b"a=1&auth_token=abc&b=%zz", b"a=1&b=%zz"),
        (b"auth_token&a&&auth_token=&=", b"a&&="),
        (b"auth%5Ftoken=abc&%61uth_token=x&a=1", b"a=1"),
        (b"xauth_token=1&auth_tokens=2&a=auth_token=3", b"xauth_token=1&auth_tokens=2&a=auth_token=3"),
        (b'q={"k":"v"}&%ff', b'q={"k":"v"}&%ff'),
    ],
)
def test_auth_token_leaves_the_query_and_nothing_else_does(query: bytes, kept: bytes) -> None:
    """OpenCode takes it as a credential, also with an escaped name."""
    assert strip_auth_token(query) == kept


def test_the_token_subprotocol_is_read_and_removed() -> None:
    """The one way in which a browser can show a bearer token on a websocket."""
    offered = (b"sec-websocket-protocol", b"chat, session-token.abc.d_e-f , v2")
    assert token_subprotocol([offered]) == b"abc.d_e-f"
    assert token_subprotocol([(b"sec-websocket-protocol", b"chat")]) is None
    assert strip_token_subprotocol(offered[1]) == b"chat, v2"
    assert values(sent(offered), b"sec-websocket-protocol") == [b"chat, v2"]
    assert values(sent((b"sec-websocket-protocol", b"session-token.x")), b"sec-websocket-protocol") == []


def test_a_response_keeps_order_and_duplicates() -> None:
    """Nothing is added for a type that no browser runs."""
    headers = [(b"x-a", b"1"), (b"content-type", b"application/json"), (b"x-accel-buffering", b"no"), (b"x-a", b"\xe9")]
    assert to_client(200, headers) == headers


def test_a_response_loses_what_belongs_to_its_hop_or_to_the_whole_origin() -> None:
    """All sessions share one origin in path mode; a container must not set a cookie or a policy for the others."""
    gone = [
        (b"connection", b"x-named"), (b"x-named", b"1"), (b"transfer-encoding", b"chunked"), (b"keep-alive", b"x"),
        (b"trailer", b"x"), (b"set-cookie", b"a=1"), (b"clear-site-data", b"*"), (b"strict-transport-security", b"x"),
        (b"service-worker-allowed", b"/"), (b"www-authenticate", b'Basic realm="x"'), (b"x-request-id", b"theirs"),
        (b"www-authenticate", b'Bearer x="1", basic realm="y"'),
    ]  # fmt: skip
    kept = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer"), (b"content-length", b"4")]
    assert to_client(200, [*gone, *kept]) == kept
    assert (b"set-cookie", b"a=1") in to_client(200, gone, path_mode=False)


@pytest.mark.parametrize(
    "content_type",
    [b"text/html", b"TEXT/HTML; charset=x", b"image/svg+xml", b"application/xhtml+xml", b"text/xml", b""],
)
def test_what_a_browser_could_run_is_sandboxed_in_path_mode(content_type: bytes) -> None:
    """A page of one session must not act as a page of another; the container's own policy stays beside it."""
    headers = [(b"content-type", content_type), (b"content-security-policy", b"default-src 'self'")]
    assert to_client(200, headers) == [*headers, (b"content-security-policy", b"sandbox")]
    assert to_client(200, headers, path_mode=False) == headers


def test_a_204_carries_no_length() -> None:
    """RFC 9110 section 8.6: a client might wait for the bytes."""
    assert to_client(204, [(b"content-length", b"5"), (b"content-type", b"text/plain")]) == [
        (b"content-type", b"text/plain")
    ]


@pytest.mark.parametrize(
    ("status", "challenge", "refused"),
    [
        (401, b'Basic realm="Secure Area"', True),
        (401, b"Bearer", False),
        (200, b"Basic", False),
        (401, b"basically", False),
    ],
)
def test_a_basic_challenge_is_about_our_credential(status: int, challenge: bytes, refused: bool) -> None:
    """A browser would ask its user for the container's password."""
    assert refuses_credential(status, [(b"www-authenticate", challenge)]) is refused
