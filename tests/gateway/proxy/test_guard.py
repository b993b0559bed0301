"""Requests that are not forwarded, rule by rule. The same rules on real bytes: tests/wire/test_vectors.py."""

from typing import Any

import pytest

from gateway.proxy.guard import refuse, refuse_origin


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "http_version": "1.1",
        "scheme": "http",
        "raw_path": b"/s/x/",
        "query_string": b"",
        "headers": [(b"host", b"gateway:8000")],
        **changes,
    }


def slug(scope: dict[str, Any], *, max_headers: int = 100, max_header_bytes: int = 16384) -> str | None:
    refusal = refuse(scope, max_headers=max_headers, max_header_bytes=max_header_bytes)
    return None if refusal is None else refusal.slug


def with_headers(*headers: tuple[bytes, bytes], **changes: Any) -> dict[str, Any]:
    return scope(headers=[(b"host", b"gateway"), *headers], **changes)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH"])
def test_every_ordinary_method_is_forwarded(method: str) -> None:
    """The container decides what it knows."""
    assert slug(scope(method=method)) is None


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "PRI", "get", "G~T", "", "A" * 40])
def test_tunnels_and_odd_methods_are_refused(method: str) -> None:
    """CONNECT would have h11 switch protocols; TRACE shows the credential that we add."""
    assert slug(scope(method=method)) == "method-refused"


@pytest.mark.parametrize("version", ["2", "1.2", "2.0", "0.9", "3"])
def test_http_versions_that_are_not_spoken_are_refused(version: str) -> None:
    """hypercorn passes any version on, and turns h2c on by itself."""
    assert slug(scope(http_version=version)) == "http-version"


def test_http_2_over_tls_is_spoken() -> None:
    """Negotiated by ALPN, so no front proxy was misled."""
    assert slug(scope(http_version="2", scheme="https")) is None


@pytest.mark.parametrize("header", [(b"upgrade", b"h2c"), (b"upgrade", b"foo, H2C"), (b"http2-settings", b"AAA")])
def test_h2c_is_refused(header: tuple[bytes, bytes]) -> None:
    """It would carry requests past the rules of a proxy in front."""
    assert slug(with_headers(header)) == "bad-upgrade"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"6"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"content-length", b"3"), (b"content-length", b"3")],
        [(b"content-length", b"3, 3")],
        [(b"content-length", b"+3")],
        [(b"content-length", b"")],
        [(b"content-length", "٣".encode())],
    ],
)
def test_two_ways_to_read_the_bodys_end_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """RFC 9112 section 6.3: request smuggling needs two readers who differ."""
    assert slug(with_headers(*headers)) == "bad-framing"


def test_chunks_from_http_1_0_are_refused() -> None:
    """RFC 9112 section 6.1: faulty framing."""
    assert slug(with_headers((b"transfer-encoding", b"chunked"), http_version="1.0")) == "bad-framing"


@pytest.mark.parametrize(
    "host", [b"localhost", b"a.example:8000", b"127.0.0.1:1", b"[::1]:65535", b"[::1]", b"my_host", b"a.example."]
)
def test_a_host_is_a_name_or_an_address(host: bytes) -> None:
    """With an optional port."""
    assert slug(scope(headers=[(b"host", host)])) is None


@pytest.mark.parametrize(
    "hosts",
    [[], [b""], [b"a", b"a"], [b"a/b"], [b"u@a:80"], [b"a b"], [b"a,b"], [b"a:"], [b"a:65536"], [b"[::1"], [b"%61"],
     [b"a..b"], [b"-a"], [b"a?b"], [b"a#b"], [b"\xff"], [b"a\n"]],
)  # fmt: skip
def test_anything_else_is_no_host(hosts: list[bytes]) -> None:
    """hypercorn passes all of these but none and two on (measured)."""
    assert slug(scope(headers=[(b"host", host) for host in hosts])) == "bad-host"


@pytest.mark.parametrize(
    "raw_path",
    [b"", b"*", b"foo", b"//evil.example/x", b"http://evil/p", b"\\evil", b"@evil/x", b":80@evil/", b"/a#f", b"/a b",
     b"/a\x01", b"/\xff", b"/a\x7f", b"/a\n"],
)  # fmt: skip
def test_a_target_that_is_not_in_origin_form_is_refused(raw_path: bytes) -> None:
    """Glued behind an address, each of these could name another host (request forgery)."""
    assert slug(scope(raw_path=raw_path)) == "bad-target"


@pytest.mark.parametrize("query", [b"a#f", b"a b", b"\xff", b"a\0"])
def test_the_query_is_held_to_the_same_bytes(query: bytes) -> None:
    """A fragment is never sent by a client that means well."""
    assert slug(scope(query_string=query)) == "bad-target"


@pytest.mark.parametrize(
    "raw_path", [b"/a/../b", b"/%2e%2e/%2f%5c%00%ff%zz", b'/a//b/;p={"k"}|^`\\', b"/" + b"a" * 9000]
)
def test_odd_paths_are_the_containers_business(raw_path: bytes) -> None:
    """They are forwarded byte for byte."""
    assert slug(scope(raw_path=raw_path)) is None


@pytest.mark.parametrize("value", [b"a\x01b", b"a\x00", b"a\rb", b"a\nb", b"\x7f"])
def test_control_bytes_in_a_header_value_are_refused(value: bytes) -> None:
    """Containers' parsers disagree about them, and logs believe them."""
    assert slug(with_headers((b"x", value))) == "bad-header"


def test_tabs_and_other_bytes_in_a_header_value_are_forwarded() -> None:
    """RFC 9110 section 5.5: obs-text is old, not wrong."""
    assert slug(with_headers((b"x", b"a\tb\xff\xe9"))) is None


def test_an_expectation_nobody_can_meet_is_refused() -> None:
    """100-continue is met by the server."""
    assert slug(with_headers((b"expect", b"100-Continue"))) is None
    assert slug(with_headers((b"expect", b"banana"))) == "expectation-failed"


def test_headers_are_bounded_in_number_and_bytes() -> None:
    """hypercorn lets a thousand lines through."""
    assert slug(with_headers(*[(b"x", b"1")] * 9), max_headers=10) is None
    assert slug(with_headers(*[(b"x", b"1")] * 10), max_headers=10) == "headers-too-large"
    assert slug(with_headers((b"x", b"a" * 101)), max_header_bytes=100) == "headers-too-large"


def test_a_websocket_handshake_has_no_method() -> None:
    """ASGI gives none; the other rules hold."""
    handshake = scope(type="websocket", scheme="ws")
    del handshake["method"]
    assert slug(handshake) is None
    assert slug({**handshake, "raw_path": b"//x"}) == "bad-target"
    assert slug({**handshake, "headers": [(b"host", b"x"), (b"content-length", b"3")]}) == "bad-framing"


@pytest.mark.parametrize(
    ("origin", "host", "secure", "allowed"),
    [
        (None, b"gateway", False, ()),
        (b"http://gateway", b"gateway", False, ()),
        (b"http://Gateway:80", b"gateway", False, ()),
        (b"https://gateway", b"gateway:443", True, ()),
        (b"http://[::1]:8000", b"[::1]:8000", False, ()),
        (b"https://chat.example", b"gateway", False, ("https://chat.example",)),
    ],
)
def test_websockets_open_from_nowhere_from_here_and_from_the_list(
    origin: bytes | None, host: bytes, secure: bool, allowed: tuple[str, ...]
) -> None:
    """Programs send no Origin; pages of the gateway and of listed sites may."""
    headers = [(b"host", host)] + ([(b"origin", origin)] if origin is not None else [])
    assert refuse_origin(headers, secure=secure, allowed=allowed) is None


@pytest.mark.parametrize(
    "origins",
    [[b"https://evil.example"], [b"null"], [b""], [b"http://gateway:8001"], [b"https://gateway"], [b"http://gateway.evil"],
     [b"http://gateway", b"http://evil"], [b"http://gateway:x"], [b"http://[::1"]],
)  # fmt: skip
def test_other_origins_open_no_websocket(origins: list[bytes]) -> None:
    """OpenCode accepts any of them (measured), with the visitor's credentials."""
    refusal = refuse_origin([(b"host", b"gateway"), *((b"origin", origin) for origin in origins)], secure=False)
    assert refusal is not None
    assert refusal.status == 403
