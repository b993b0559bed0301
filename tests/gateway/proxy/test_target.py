"""Path mode's targets: raw bytes to a session and what its container is asked for."""

import pytest

from gateway.proxy.guard import Refusal
from gateway.proxy.target import Target, parse

ID = "ses_0123456789abcdefghjkmnpqrs"
S = b"/s/" + ID.encode()


@pytest.mark.parametrize(
    ("raw_path", "query", "raw_target"),
    [
        (S, b"", b"/"),
        (S + b"/", b"", b"/"),
        (S + b"/a", b"x=1", b"/a?x=1"),
        (S + b"/a/../b/./c", b"", b"/a/../b/./c"),
        (S + b"/../../s/ses_other", b"", b"/../../s/ses_other"),
        (S + b"//evil/x", b"", b"//evil/x"),
        (S + b"/%2e%2e%2f%5c%00%ff%zz", b"?&&=", b"/%2e%2e%2f%5c%00%ff%zz??&&="),
        (S + b'/{"k"}|^`;p\\', b'q={"k":"v"}', b'/{"k"}|^`;p\\?q={"k":"v"}'),
        (S + b"/a", b"auth_token=x", b"/a"),
    ],
)
def test_what_follows_the_session_is_kept_byte_for_byte(raw_path: bytes, query: bytes, raw_target: bytes) -> None:
    """Only the container knows what its paths mean."""
    assert parse(raw_path, query) == Target(ID, raw_target)


@pytest.mark.parametrize(
    ("raw_path", "status"),
    [
        (b"/s%2F" + ID.encode() + b"/a", 400),
        (b"/%73/" + ID.encode() + b"/a", 400),
        (b"/S/" + ID.encode() + b"/a", 400),
        (b"/s/" + ID.encode() + b"%2fa", 400),
        (b"/s/" + ID.encode() + b"%00/a", 400),
        (b"/s/" + ID.encode() + b"\\a", 400),
        (b"/s/%73es_0123456789abcdefghjkmnpqrs/a", 400),
        (b"/s/./" + ID.encode() + b"/a", 400),
        (b"/s/../s/" + ID.encode() + b"/a", 400),
        (b"/s//" + ID.encode() + b"/a", 400),
        (b"/s/", 400),
        (b"/s/ses_short/a", 404),
        (b"/s/ses_" + b"A" * 20 + b"/a", 404),
        (b"/s/ses_" + b"a" * 41 + b"/a", 404),
        (b"/s/" + ID.encode() + b";x/a", 404),
        (b"/s/" + ID.encode() + b"\n/a", 404),
    ],
)
def test_the_sessions_own_part_has_one_spelling(raw_path: bytes, status: int) -> None:
    """What was routed is what is authorised and forwarded: no decoding, no dot segments before the session."""
    refusal = parse(raw_path, b"")
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
