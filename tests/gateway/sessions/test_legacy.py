"""The former manager's file: what is taken over as it was, and what is refused with a reason, never guessed."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.sessions import legacy
from gateway.sessions.legacy import LegacySession, NotASessionsFile, RefusedRow

NOW = datetime(2026, 2, 1, tzinfo=UTC)
RECORD: dict[str, Any] = {
    "session_id": "abc-1",
    "container_name": "chat-abc-1",
    "container_id": "0f1e2d",
    "host_dir": "/srv/sessions/ada",
    "port": 4096,
    "auth_token": "s3cr3t-t0k3n",
    "created_at": "2026-01-18T22:29:04.123456",
    "last_accessed": "2026-01-19T00:30:00+01:00",
    "status": "running",
    "metadata": {"user_id": "Ada", "topic": "analysis"},
}


def one(**changed: Any) -> LegacySession | RefusedRow:
    """What a file with one record gives; a field that is ... is left out."""
    record = {name: value for name, value in {**RECORD, **changed}.items() if value is not ...}
    [read] = legacy.read(json.dumps([record]), now=NOW)
    return read


def test_a_record_is_taken_over_field_by_field() -> None:
    read = legacy.read(json.dumps([RECORD]), now=NOW, zone=ZoneInfo("Europe/Oslo"), owner_field="user_id")
    assert read == [
        LegacySession(
            session_id="abc-1",
            status="running",
            created_at=datetime(2026, 1, 18, 21, 29, 4, 123456, tzinfo=UTC),
            last_accessed=datetime(2026, 1, 18, 23, 30, tzinfo=UTC),
            container_name="chat-abc-1",
            container_id="0f1e2d",
            port=4096,
            owner="Ada",
            host_dir="/srv/sessions/ada",
            metadata='{"topic":"analysis","user_id":"Ada"}',
            rest=None,
        )
    ]


def test_the_token_is_nowhere_in_what_is_read() -> None:
    """Nor where a fork of that manager kept a copy of it."""
    copied = {"auth_token": "s3cr3t-t0k3n", "deep": [{"auth_token": "s3cr3t-t0k3n", "topic": "x"}]}
    read = one(metadata=copied, extra=copied)
    assert isinstance(read, LegacySession) and read.metadata == '{"deep":[{"topic":"x"}]}'
    assert "s3cr3t-t0k3n" not in repr(read)


@pytest.mark.parametrize(
    "content",
    [
        [RECORD],
        {"abc-1": RECORD},
        {"sessions": [RECORD]},
        {"sessions": {"abc-1": RECORD}},
        {"abc-1": {name: value for name, value in RECORD.items() if name != "session_id"}},
    ],
    ids=["list", "object", "under sessions", "object under sessions", "id as key only"],
)
def test_each_shape_of_the_file_is_read(content: Any) -> None:
    [read] = legacy.read(json.dumps(content), now=NOW)
    assert isinstance(read, LegacySession) and read.session_id == "abc-1"


def test_fields_that_have_no_name_here_are_kept() -> None:
    """Nothing is lost silently: an auditor may ask for what a fork of the old manager wrote."""
    read = one(team="blue", retries=3)
    assert isinstance(read, LegacySession) and read.rest == '{"retries":3,"team":"blue"}'


def test_seconds_since_1970_are_a_time() -> None:
    read = one(created_at=1768775344.5)
    assert isinstance(read, LegacySession) and read.created_at == datetime(2026, 1, 18, 22, 29, 4, 500000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"session_id": ...}, "session_id is not"),
        ({"session_id": "a b"}, "session_id is not"),
        ({"session_id": "../x"}, "session_id is not"),
        ({"session_id": ".."}, "session_id is not"),
        ({"created_at": "2999-01-01T00:00:00Z"}, "created_at is still to come"),
        ({"last_accessed": "2026-01-01T00:00:00Z"}, "last_accessed is not between"),
        ({"last_accessed": "2999-01-01T00:00:00Z"}, "last_accessed is not between"),
        ({"session_id": "x" * 101}, "session_id is not"),
        ({"session_id": 7}, "session_id is not"),
        ({"status": "paused"}, "status is not one of"),
        ({"status": ["running"]}, "status is not one of"),
        ({"created_at": ...}, "created_at is missing"),
        ({"created_at": "yesterday"}, "created_at is neither"),
        ({"created_at": True}, "created_at is neither"),
        ({"created_at": 1e30}, "created_at is neither"),
        ({"last_accessed": {}}, "last_accessed is neither"),
        ({"port": "4096"}, "port is not"),
        ({"port": 0}, "port is not"),
        ({"port": True}, "port is not"),
        ({"metadata": ["a"]}, "metadata is no object"),
        ({"metadata": {"a": "x" * 17_000}}, "metadata has more than"),
        ({"host_dir": 5}, "host_dir is no text"),
        ({"container_name": "x" * 257}, "container_name is longer"),
        ({"host_dir": "\ud800"}, "host_dir holds text that is not Unicode"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_record_that_cannot_be_true_is_refused_with_its_reason(changed: dict[str, Any], reason: str) -> None:
    read = one(**changed)
    assert isinstance(read, RefusedRow) and read.row == 1 and reason in read.reason


def test_a_refused_record_does_not_stop_the_others() -> None:
    records = [RECORD, {**RECORD, "status": "?"}, 5, RECORD, {**RECORD, "session_id": "abc-2"}]
    read = legacy.read(json.dumps(records), now=NOW)
    assert [type(each) for each in read] == [LegacySession, RefusedRow, RefusedRow, RefusedRow, LegacySession]
    assert [each.row for each in read if isinstance(each, RefusedRow)] == [2, 3, 4]


def test_an_id_that_differs_from_its_key_is_refused() -> None:
    [read] = legacy.read(json.dumps({"other": RECORD}), now=NOW)
    assert isinstance(read, RefusedRow) and "differs from the key" in read.reason


@pytest.mark.parametrize(
    "text",
    ["", "{", "5", '"x"', '{"a": {"status": "running"}, "a": {}}', '[{"port": NaN}]', "[" * 100_000],
    ids=["empty", "cut", "number", "text", "a key twice", "no JSON number", "too deep"],
)
def test_what_is_no_sessions_file_is_refused_whole(text: str) -> None:
    with pytest.raises(NotASessionsFile):
        legacy.read(text, now=NOW)
