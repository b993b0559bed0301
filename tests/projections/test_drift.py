"""Drift: what differs is named; what opens something, or is somebody's, is not shown."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from projections.drift import ABSENT, LONGEST, UNREADABLE, WITHHELD, Difference, drift, words
from projections.table_report import Proved

SEALED = {"k": "sk_1", "n": "AAAA", "c": "BBBB"}


def row(state: Any, **columns: Any) -> dict[str, Any]:
    return {"key": "s1", **columns, "state": state if isinstance(state, bytes) else msgspec.json.encode(state)}


def fields(table: dict[str, Any], log: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(each.field, each.table, each.log) for each in drift("s1", table, log).differences]


def test_a_row_on_one_side_alone() -> None:
    assert drift("s1", None, row({})).kind == "missing"
    assert drift("s1", row({}), None).kind == "extra"


def test_fields_are_named_by_their_path() -> None:
    table = row({"a": {"b": 1, "c": [1, 2]}, "gone": 1, "same": 5})
    log = row({"a": {"b": 2, "c": [1]}, "new": None, "same": 5})
    assert fields(table, log) == [
        ("state.a.b", "1", "2"),
        ("state.a.c", "[1,2]", "[1]"),
        ("state.gone", "1", ABSENT),
        ("state.new", ABSENT, "null"),
    ]


def test_a_state_that_is_kept_as_a_list_has_names_too() -> None:
    (only,) = drift("s1", row(["s1", 2]), row(["s1", 3]), ("session_id", "port")).differences
    assert (only.field, only.table, only.log) == ("state.port", "2", "3")


def test_true_is_not_one() -> None:
    assert fields(row({"a": True}), row({"a": 1})) == [("state.a", "true", "1")]


@pytest.mark.parametrize("name", ["sha256", "auth_token", "token"])
def test_hashes_are_said_to_differ_and_not_shown(name: str) -> None:
    assert fields(row({name: "aa"}, **{name: "aa"}), row({name: "bb"}, **{name: "bb"})) == [
        (name, WITHHELD, WITHHELD),
        (f"state.{name}", WITHHELD, WITHHELD),
    ]


@pytest.mark.parametrize("other", [None, "a name in clear", SEALED | {"c": "CCCC"}, {"name": "in clear"}])
def test_sealed_fields_are_not_shown_whatever_stands_in_their_place(other: Any) -> None:
    """Whoever wrote a name in clear where a sealed one belongs must not have it printed for him."""
    for table, log in ((other, SEALED), (SEALED, other)):
        told = drift("s1", row({"owner": table}), row({"owner": log}))
        shown = {text for each in told.differences for text in (each.table, each.log)} - {WITHHELD, ABSENT}
        assert told.differences and not any("clear" in text or "CCCC" in text for text in shown)


def test_a_sealed_column_is_not_shown() -> None:
    text = msgspec.json.encode(SEALED).decode()
    assert fields(row({}, metadata=text), row({}, metadata=None)) == [("metadata", WITHHELD, "null")]
    assert fields(row({}, metadata="{"), row({}, metadata=None)) == [("metadata", WITHHELD, "null")]


def test_a_column_of_plain_json_is_shown() -> None:
    assert fields(row({}, taken='{"s1": 1}'), row({}, taken="{}")) == [("taken", '{"s1":1}', "{}")]


@pytest.mark.parametrize("broken", [b"", b"{", b"\xff\xfe", b"[" * 5000])
def test_a_state_that_cannot_be_read_is_not_shown(broken: bytes) -> None:
    assert fields(row(broken), row({"a": 1})) == [("state", UNREADABLE, WITHHELD)]


def test_equal_json_in_other_bytes_is_told() -> None:
    """The bytes are compared: equal states are equal bytes, so another writer was there."""
    (only,) = drift("s1", row(b'{"a": 1}'), row(b'{"a":1}')).differences
    assert only.field == "state" and "other bytes" in only.table


def test_long_values_are_cut() -> None:
    ((_, told, _),) = fields(row({"a": "x" * 5000}), row({"a": ""}))
    assert len(told) == LONGEST + 3


def test_a_difference_is_plain_data() -> None:
    assert msgspec.to_builtins(Difference("a", "1", "2")) == {"field": "a", "table": "1", "log": "2"}


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ((1, 0, 0), "1 row differs (1 missing)"),
        ((2, 1, 3), "6 rows differ (2 missing, 1 extra, 3 changed)"),
    ],
)
def test_how_rows_differ_is_said_in_one_word_each(counts: tuple[int, int, int], wanted: str) -> None:
    missing, extra, changed = counts
    proof = Proved(
        version=1,
        position=1,
        rows=1,
        differing=sum(counts),
        missing=missing,
        extra=extra,
        changed=changed,
        verified_at=datetime(2026, 3, 2, tzinfo=UTC),
    )
    assert words(proof) == wanted
