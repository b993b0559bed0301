"""One event, one line: what tells it apart is there, what says nothing is not."""

from datetime import UTC
from typing import Any

import pytest

from gateway.cli import event_lines
from gateway.cli.columns import wide

EVENT: dict[str, Any] = {
    "position": 42,
    "recorded_at": "2026-01-18T22:29:04.123456Z",
    "stream_id": "session-ses_1",
    "type": "token.issued",
    "payload": {"type": "token.issued", "session_id": "ses_1", "serial": 2, "sha256": "9f86", "secret_id": "s"},
    "actor": {"kind": "key", "id": "chat", "on_behalf_of": None},
}


def test_a_line_has_position_type_stream_actor_and_facts() -> None:
    position, _, _, kind, stream, actor, *facts = event_lines.told(EVENT).split()
    assert (position, kind, stream, actor, facts) == ("42", "token.issued", "session-ses_1", "key:chat", ["serial=2"])


def test_lines_below_each_other_are_aligned() -> None:
    """Also beside somebody with a long name, and whatever its letters take."""
    long = EVENT | {"actor": {"kind": "key", "id": "chat", "on_behalf_of": "\u5c71\u7530" * 9}}
    widths = event_lines.Widths().fit([EVENT, long])
    places = [wide(event_lines.told(one, UTC, widths).partition("serial=")[0]) for one in (EVENT, long, EVENT)]
    assert len(set(places)) == 1


@pytest.mark.parametrize("secret", ["9f86", "secret_id", "sha256"])
def test_hashes_are_left_out(secret: str) -> None:
    assert secret not in event_lines.told(EVENT)


def test_the_person_acted_for_is_told() -> None:
    acting = EVENT | {"actor": {"kind": "key", "id": "chat", "on_behalf_of": "Ada\x1b"}}
    assert "key:chat for Ada\\u001b" in event_lines.told(acting)


def test_a_page_leaves_nothing_out_and_cannot_move_the_cursor() -> None:
    """Who reads one event wants all of it: hashes, ids, and fields without a value."""
    rest = {"event_id": "e-1", "schema_version": 1, "version": 3, "occurred_at": EVENT["recorded_at"]}
    ids = {"causation_id": None, "correlation_id": "c-1", "trace_id": "t-1", "span_id": "s-1"}
    payload = EVENT["payload"] | {"detail": "a\x1b[2J", "reason": None}
    lines = event_lines.page(EVENT | rest | ids | {"payload": payload}, UTC)
    text = "\n".join(lines)
    for told in ("42", "e-1", "token.issued, version 1", "session-ses_1, version 3", "c-1", "t-1", "s-1", "9f86"):
        assert told in text, told
    assert "2026-01-18 22:29:04.123+00:00" in text
    assert "a\\u001b[2J" in text and "\x1b" not in text
    assert [line.split() for line in lines if "reason" in line or "cause" in line] == [["cause", "-"], ["reason", "-"]]


def test_a_session_is_named_where_the_stream_does_not() -> None:
    assert "session_id=ses_1" in event_lines.told(EVENT | {"stream_id": "admission"})
