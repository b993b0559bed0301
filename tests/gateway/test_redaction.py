"""Secrets are cut out of lines; what would forge or disturb lines is escaped."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import redaction
from gateway.redaction import escape, redact

KEY = "gwk_a1b2c3_9fX-Kq3vTz7_wEo5Lm0RnUsYhBdGpJcVxAiQkFtWlZe"
TOKEN = "gwt_Q0mR-t5Zx_9LkPz3aB7cD1eF2gH4iJ6k"
BASIC = "b3BlbmNvZGU6c2VjcmV0LXBhc3N3b3Jk"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"key {KEY} was used", "key gwk_[redacted] was used"),
        (f"session-token.{TOKEN}, other", "session-token.gwt_[redacted], other"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: [redacted]"),
        (f"authorization: Basic {BASIC}\r\n", "authorization: [redacted]\r\n"),
        (f"AUTHORIZATION:{BASIC}", "AUTHORIZATION:[redacted]"),
        (f"[(b'authorization', b'Basic {BASIC}'), (b'a', b'b')]", "[(b'authorization', b'[redacted]'), (b'a', b'b')]"),
        (f'{{"authorization": "Basic {BASIC}", "a": 1}}', '{"authorization": "[redacted]", "a": 1}'),
        (f'{{\\"Proxy-Authorization\\": \\"Bearer {BASIC}\\"}}', '{\\"Proxy-Authorization\\": \\"[redacted]\\"}'),
        (f"scheme basic {BASIC}.", "scheme basic [redacted]"),
        (f"GET /s/x?auth_token={BASIC}&a=1 HTTP/1.1", "GET /s/x?auth_token=[redacted]&a=1 HTTP/1.1"),
        (f"?a=1&api_key={BASIC}#x", "?a=1&api_key=[redacted]#x"),
        ("DB_PASSWORD=hunter2hunter2 DB_PORT=1", "DB_PASSWORD=[redacted] DB_PORT=1"),
        ("postgresql://gateway:hunter2%21@db:5432/log", "postgresql://gateway:[redacted]@db:5432/log"),
        ("Cookie: __Host-session=abc; theme=dark\nnext", "Cookie: [redacted]\nnext"),
        ("Send an API key: Authorization", "Send an API key: Authorization"),
        ("the token of ses_1 was rotated, key_id=a1b2", "the token of ses_1 was rotated, key_id=a1b2"),
        ("http://127.0.0.1:8000/sessions?as_of=12", "http://127.0.0.1:8000/sessions?as_of=12"),
    ],
)
def test_secrets_are_cut_out_and_nothing_else(text: str, left: str) -> None:
    assert redact(text) == left


@given(st.text(max_size=40), st.sampled_from([KEY, TOKEN]), st.text(max_size=40))
def test_a_token_never_passes_whatever_is_around_it(before: str, secret: str, after: str) -> None:
    """The part behind the prefix is what must not be known."""
    text = redact(f"{before} {secret}{after}")
    assert secret[8:] not in text


PIECES = [
    "gwk_",
    "GWT_",
    "Authorization",
    "set-Cookie",
    "Basic",
    "BEARER",
    "://",
    "u:",
    "@",
    "x_token",
    "Secret",
    "passwd",
]
MORE = ["api-key", "access_key", "=", ":", " ", ",", "'", '"', "abcdefgh", "\u212a", "\u017f", "b'"]


@given(st.lists(st.sampled_from(PIECES + MORE), max_size=12).map("".join))
def test_the_quick_look_passes_nothing_that_the_pattern_would_cut(text: str) -> None:
    """A line without any of the hints is not searched."""
    assert redact(text) != text or redaction._SECRETS.search(text) is None


def test_redaction_takes_time_in_proportion_to_the_text() -> None:
    """Who chooses the text must not choose how long the loop stands still."""
    for hostile in ("a_" * 50_000, "://" * 30_000, "authorization:" * 8_000, "token=" * 15_000, "gwt_" * 25_000):
        redact(hostile)


def test_control_characters_are_shown_and_not_obeyed() -> None:
    told = escape("a\r\nb\tc\x00d\x1b[31me\x7ff\x9bg\u2028h\u202ei\u2066j")
    assert told == "a\\r\\nb\\tc\\u0000d\\u001b[31me\\u007ff\\u009bg\\u2028h\\u202ei\\u2066j"
    assert not re.search(r"[^\x20-\x7e]", told)


def test_what_is_harmless_stays() -> None:
    assert escape("Grüße, 世界, \\n") == "Grüße, 世界, \\n"
