"""The page of a timeline: which row says what."""

from datetime import UTC
from typing import Any

import pytest

from gateway.cli import timeline_page

AT = "2026-01-18T22:29:04.123456Z"
STEP: dict[str, Any] = {
    "kind": "step",
    "position": 7,
    "at": AT,
    "since_us": 1_500_000,
    "type": "session.failed",
    "phase": "failed",
    "who": {"kind": "gateway", "id": "g1", "on_behalf_of": None},
    "reason": "container_died",
    "facts": {"generation": 1, "oom_killed": False},
    "late_us": None,
}
USE: dict[str, Any] = {
    "kind": "use",
    "first_position": 8,
    "last_position": 20,
    "at": AT,
    "exchanges": 12,
    "failed": 2,
    "open": 1,
    "bytes_in": 999,
    "bytes_out": 1_250_000,
    "checks": 1,
    "checks_failed": 0,
    "revealed": 0,
    "denials": {},
}
NOTHING: dict[str, Any] = {
    name: 0 for name in ("exchanges", "failed", "open", "bytes_in", "bytes_out", "checks", "checks_failed")
}


def rows(capsys: pytest.CaptureFixture[str], *entries: dict[str, Any]) -> list[str]:
    document = {"session_id": "s1", "position": 30, "phase": "failed", "entries": entries, "complete": True}
    timeline_page.show(document, UTC)
    titles, day, *rest = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert (titles, day) == ("position at since what phase by told", "2026-01-18 +00:00")
    return rest


def test_a_step_says_when_what_who_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    person = {"kind": "key", "id": "chat", "on_behalf_of": "ada"}
    failed, first, end = rows(capsys, STEP, STEP | {"since_us": None, "who": person, "late_us": 61_000_000})
    assert failed == "7 22:29:04.123 +1.50 s session.failed failed gateway:g1 reason=container_died generation=1"
    assert "session.failed failed key:chat for ada" in first and first.endswith("late=1 min 1 s")
    assert end == "s1 is failed at position 30."


@pytest.mark.parametrize(
    ("kind", "name"), [("key", "another key"), ("gateway", "the gateway"), ("anonymous", "somebody else")]
)
def test_who_is_not_told_is_named_by_kind(capsys: pytest.CaptureFixture[str], kind: str, name: str) -> None:
    (step, _) = rows(capsys, STEP | {"who": {"kind": kind, "id": None, "on_behalf_of": None}})
    assert f"failed {name} reason" in step


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "8-20 {} - 12 exchanges - - 2 failed, 1 open, 999 B in, 1.2 MB out, 1 check"),
        (
            {"last_position": 8, "exchanges": 1, "failed": 0, "open": 0, "checks": 0},
            "8 {} - 1 exchange - - 999 B in, 1.2 MB out",
        ),
        (
            {"exchanges": 0, "failed": 0, "open": 0, "bytes_in": 0, "bytes_out": 0, "checks": 20, "checks_failed": 1},
            "8-20 {} - 20 checks - - 1 check failed",
        ),
        (
            {"exchanges": 0, "failed": 0, "open": 0, "bytes_in": 0, "bytes_out": 0, "checks": 0},
            "8-20 {} - ends of exchanges - - -",
        ),
        (
            {"denials": {"bad_credential": 9, "not_owner": 1}, "revealed": 2},
            "8-20 {} - 12 exchanges - - 2 failed, 1 open, 999 B in, 1.2 MB out, 1 check, 10 denials, bad_credential 9, "
            "not_owner 1, token shown again 2 times",
        ),
        (
            NOTHING | {"denials": {"bad_credential": 1}},
            "8-20 {} - 1 denial - - bad_credential 1",
        ),
        (NOTHING | {"revealed": 1}, "8-20 {} - token shown again once - - -"),
    ],
)
def test_what_went_through_is_added_up(
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], expected: str
) -> None:
    (use, _) = rows(capsys, USE | changes)
    assert use == expected.format("22:29:04.123")


def test_what_stays_the_same_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The container and the generation where they change; what only programs want, not at all."""
    booted = {"container": "c1", "generation": 1, "image": "echo", "volumes": ["v"], "boot_us": 2_500_000}
    again = {"container": "c2", "generation": 2, "image": "echo"}
    steps = [STEP | {"reason": None, "facts": facts} for facts in (booted, {**booted, "boot_us": 1}, again)]
    first, second, third, _ = (line.partition("gateway:g1 ")[2] for line in rows(capsys, *steps))
    assert (first, second) == ("container=c1 generation=1 image=echo boot=2.50 s", "boot=1 us")
    assert third == "container=c2 generation=2"


def test_a_new_day_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    _, day, _, _ = rows(capsys, STEP, STEP | {"at": "2026-01-19T00:00:00Z"})
    assert day == "2026-01-19 +00:00"


def test_a_gap_says_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    gap = {"kind": "gap", "at": AT, "until": AT, "lasted_us": 754_000_000, "open": 2}
    (first, second, _) = rows(capsys, gap, gap | {"open": 0})
    assert first.endswith("nothing for 12 min 34 s - - 2 streams or requests were open")
    assert second.endswith("nothing for 12 min 34 s - - -")


def test_a_part_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    part = {"complete": False, "until": 30, "cursor": "xyz"}
    timeline_page.show({"session_id": "s1", "position": 7, "phase": "ready", "entries": [STEP], **part}, UTC)
    printed = capsys.readouterr()
    assert printed.out.endswith("s1 is ready at position 7.\n")
    assert "not all of it up to position 30: go on with --cursor xyz" in printed.err
