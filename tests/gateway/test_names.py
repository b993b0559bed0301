"""Names: what a question to the log may say, and nothing else that looks like it."""

import pytest

from gateway import names

TRACE = "2e218bb82d48de6f14e87753e28a72b5"
UUID = "2e218bb8-2d48-de6f-14e8-7753e28a72b5"


@pytest.mark.parametrize(
    ("fits", "good", "bad"),
    [
        (names.is_position, ["0", "52", "9" * 18], ["", "-1", "+1", "1 ", "\u0665", "9" * 19]),
        (names.is_trace, [TRACE, TRACE.upper()], [UUID, TRACE[1:], TRACE + "0", ""]),
        (names.is_uuid, [UUID, UUID.upper(), TRACE], ["{" + UUID + "}", "urn:uuid:" + UUID, UUID[1:], UUID + "\n"]),
        (names.is_event, ["7", UUID], ["ses_1", "7.0"]),
        (names.is_stream, ["admission", "session-ses_1", "gateway-gw-1"], ["session-", "session- ", "other-1", "Keys"]),
        (names.is_session, ["ses_1"], ["", "a b", "x" * 101, "ses_1\n"]),
        (names.is_actor, ["k123", "gateway:gw-1", "key:chat"], ["", "nobody:x", "gateway:", "a b", "key:" + "x" * 201]),
        (names.KINDED.fullmatch, ["ses_1", "trace:" + TRACE, "7"], ["foo bar", "kind:7", "", "session:"]),
    ],
)
def test_what_fits(fits: object, good: list[str], bad: list[str]) -> None:
    assert callable(fits)
    assert [text for text in good if not fits(text)] == []
    assert [text for text in bad if fits(text)] == []


def test_types_and_families_and_not_too_many() -> None:
    assert names.are_types(["session.ready", "log.*"]) and names.are_types([])
    for bad in (["session"], ["*"], ["session.*.*"], ["Session.ready"], ["a.b"] * (names.MAX_TYPES + 1)):
        assert not names.are_types(bad)
