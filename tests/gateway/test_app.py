"""The application from outside: what is not a route, what is not a request, and that both are told the same way."""

import pytest

from tests.gateway.clients import HANDSHAKE, nobody, raw
from tests.gateway_fixtures import Gateway


def lines(first: str, *headers: bytes) -> bytes:
    return b"\r\n".join([first.encode(), *headers, b"", b""])


async def test_every_answer_names_its_request(gateway: Gateway) -> None:
    """Also one of no route and one of no request: whoever asks about it has an id to name it by."""
    for method, path in [("GET", "/livez"), ("GET", "/nothing"), ("PUT", "/sessions"), ("GET", "/s/none/")]:
        answer = await gateway.client.request(method, path, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1", path
        assert answer.headers["traceparent"].startswith("00-")
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == "mine-1"


async def test_what_is_no_route_is_not_found(gateway: Gateway) -> None:
    for path in (
        "/",
        "/nothing",
        "/s",
        "/session",
        "/sessions/",
        "/sessions//x",
        "/events/",
        "/s\\x",
        "/sessions/a/b/c",
    ):
        answer = await gateway.client.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found"), path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_wrong_method_is_told_the_right_ones(gateway: Gateway) -> None:
    """RFC 9110, 15.5.6: all methods of the path, not those of one of its routes alone; OPTIONS has no route."""
    cases = [
        ("PUT", "/sessions", "GET, HEAD, POST"),
        ("OPTIONS", "/sessions", "GET, HEAD, POST"),
        ("PATCH", "/sessions/ses_x", "DELETE, GET, HEAD"),
        ("GET", "/sessions/ses_x/token", "POST"),
        ("POST", "/events", "GET, HEAD"),
        ("DELETE", "/livez", "GET, HEAD"),
    ]
    for method, path, allowed in cases:
        answer = await gateway.client.request(method, path)
        assert (answer.status_code, answer.headers.get("allow")) == (405, allowed), (method, path)
        assert answer.json()["type"] == "/problems/method-not-allowed"


async def test_head_is_get_without_a_body(gateway: Gateway) -> None:
    for path, status in [("/livez", 200), ("/sessions", 200), ("/nothing", 404), ("/sessions/ses_x", 404)]:
        answer = await gateway.client.head(path)
        assert (answer.status_code, answer.content) == (status, b""), path
        whole = await gateway.client.get(path)
        assert answer.headers["content-type"] == whole.headers["content-type"]


async def test_head_of_a_stream_ends(gateway: Gateway) -> None:
    """A stream that goes on behind a HEAD holds the connection: its next request would wait for ever."""
    for path in ("/events/stream", "/sessions/stream"):
        answer = await raw(gateway, lines(f"HEAD {path} HTTP/1.1", b"host: g", _key(gateway), b"connection: close"))
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        assert answer.closed


GUARDED: tuple[tuple[str, tuple[bytes, ...], int, str], ...] = (
    ("GET //sessions HTTP/1.1", (b"host: g",), 400, "bad-target"),
    ("GET http://other/sessions HTTP/1.1", (b"host: g",), 400, "bad-target"),
    ("OPTIONS * HTTP/1.1", (b"host: g",), 400, "bad-target"),
    ("GET /livez#x HTTP/1.1", (b"host: g",), 400, "bad-target"),
    ("GET /livez HTTP/1.1", (b"host: a b",), 400, "bad-host"),
    ("GET /livez HTTP/1.1", (b"host: user@g",), 400, "bad-host"),
    ("GET /livez HTTP/1.0", (), 400, "bad-host"),
    ("TRACE /livez HTTP/1.1", (b"host: g",), 501, "method-refused"),
    ("GET /livez HTTP/1.1", (b"host: g", b"expect: 200-maybe"), 417, "expectation-failed"),
    ("GET /livez HTTP/1.1", (b"host: g", *[b"x: y"] * 101), 431, "headers-too-large"),
)


async def test_control_routes_are_guarded(gateway: Gateway) -> None:
    """The same rules as under ``/s``: a front proxy's rules hold only for what it reads as we do."""
    for request_line, headers, status, slug in GUARDED:
        answer = await raw(gateway, lines(request_line, *headers))
        assert (answer.status, answer.slug) == (status, slug), request_line
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.closed, "where the request ends is in doubt"


async def test_what_is_smuggled_behind_a_misframed_request_is_not_read(gateway: Gateway) -> None:
    """Two framings: the rest belongs to nobody, and the connection ends with the refusal (RFC 9112, 6.1)."""
    smuggled = lines("POST /sessions HTTP/1.1", b"host: g", _key(gateway), b"content-length: 0")
    answer = await raw(
        gateway,
        lines("POST /livez HTTP/1.1", b"host: g", b"content-length: 5", b"transfer-encoding: chunked")
        + b"0\r\n\r\n"
        + smuggled,
    )
    assert (answer.status, answer.slug, answer.closed) == (400, "bad-framing", True)
    assert await gateway.log("session.requested") == []


async def test_http_1_0_is_answered_and_closed(gateway: Gateway) -> None:
    answer = await raw(gateway, lines("GET /livez HTTP/1.0", b"host: g"))
    assert (answer.status, answer.body, answer.closed) == (200, b'{"status":"alive"}', True)


async def test_an_escaped_path_is_no_control_route(gateway: Gateway) -> None:
    """A rule of a proxy in front ("no /events from outside") must not be passed by another spelling."""
    for path in ("/%6civez", "/sessions%2fstream", "/sessions/ses_x%2ftoken", "/%2flivez", "/livez%00"):
        answer = await gateway.client.get(gateway.url + path)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found"), path


async def test_an_escaped_way_into_a_session_is_refused(gateway: Gateway) -> None:
    for path in ["/%73/ses_0123456789abcdefghjkmnpqrs/", "/s/ses%5f0123456789abcdefghjkmnpqrs/", "/s/%2e%2e/events"]:
        answer = await raw(gateway, lines(f"GET {path} HTTP/1.1", b"host: g"))
        assert (answer.status, answer.slug) == (400, "bad-target"), path


async def test_websockets_have_no_control_route(gateway: Gateway) -> None:
    """A handshake is refused in HTTP, with a problem like any other."""
    async with nobody(gateway) as client:
        for path, status in [("/sessions", 404), ("/events/stream", 404), ("/nothing", 404)]:
            answer = await client.get(path, headers=HANDSHAKE)
            assert (answer.status_code, answer.json()["type"]) == (status, "/problems/not-found")


async def test_a_fault_of_ours_is_told_without_its_reason(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log has the traceback; the caller gets an id to name it by."""

    async def broken() -> None:
        raise ZeroDivisionError("secret inner state")

    monkeypatch.setattr(gateway.services.docker, "ping", broken)
    answer = await gateway.client.get("/health")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "secret inner state" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def _key(gateway: Gateway) -> bytes:
    return b"authorization: " + gateway.client.headers["authorization"].encode()
