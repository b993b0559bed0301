"""The page of ``why``: what stands on which line, whatever the log holds."""

import io
from typing import Any

import pytest

from gateway.cli import why_page
from gateway.cli.why_page import Branch

AT = "2026-01-18T22:29:04.123456Z"


def node(position: int, type_: str, *children: dict[str, Any], **more: Any) -> dict[str, Any]:
    event = {
        "position": position,
        "type": type_,
        "recorded_at": AT,
        "occurred_at": AT,
        "payload": more.pop("payload", {}),
        "actor": more.pop("actor", {"kind": "gateway", "id": "g1", "on_behalf_of": None}),
        "trace_id": more.pop("trace_id", None),
        "span_id": "01" * 8,
    }
    plain: dict[str, Any] = {
        "asked": False,
        "note": None,
        "since_cause_us": None,
        "lasted_us": None,
        "ended_by": None,
        "late_us": None,
        "more": [],
    }
    return {"event": event, "children": list(children), **plain, **more}


def page(*roots: dict[str, Any], **changes: Any) -> dict[str, Any]:
    asked = {"kind": "session", "id": "s1"}
    told = {"asked": asked, "position": 9, "events": 2, "sessions": ["s1"], "roots": roots, "more": [], "cut": None}
    return told | changes


def lines(*roots: dict[str, Any]) -> list[str]:
    return list(why_page.plain(why_page.tree(page(*roots))))


def test_a_line_says_what_when_by_whom_and_how_long() -> None:
    """A child says how long after its cause, and who acted only where another did."""
    person = {"kind": "key", "id": "chat", "on_behalf_of": "ada"}
    opened = node(
        3,
        "session.requested",
        node(4, "token.issued", actor=person, since_cause_us=0),
        node(8, "session.ready", since_cause_us=1_234_000, lasted_us=900_000, asked=True),
        actor=person,
        lasted_us=1_234_000,
        ended_by=8,
        payload={"session_id": "s1", "image": "echo", "sha256": "a0", "owner": "ada"},
    )
    first, token, ready = lines(opened)
    assert first.startswith("#3 session.requested  2026-01-18") or first.startswith("#3 session.requested  2026-01-19")
    assert first.endswith("  by key:chat for ada  lasted 1.23 s until #8  session_id=s1 image=echo")
    assert token == "|-- #4 token.issued  +0 ms"
    assert ready == "`-- => #8 session.ready  +1.23 s  by gateway:g1  lasted 900 ms"


def test_remarks_hang_below_their_line() -> None:
    late = node(2, "container.died", note="Its cause x is not in the log.", late_us=61_000_000, trace_id="ab" * 16)
    first, *remarks = lines(node(1, "gateway.started", late, node(5, "gateway.stopped")))
    assert first.startswith("#1 ")
    assert remarks[0].startswith("|-- #2 container.died")
    assert remarks[1:4] == [
        f"|       trace {'ab' * 16} span {'01' * 8}",
        "|       Its cause x is not in the log.",
        remarks[3],
    ]
    assert remarks[3].startswith("|       It happened at ") and remarks[3].endswith("; the log had it 1 min 1 s later.")
    assert remarks[4].startswith("`-- #5 gateway.stopped")


def test_a_group_is_a_line_with_its_number() -> None:
    group = {
        "type": "exchange.opened",
        "count": 5000,
        "events": 9000,
        "first_position": 9,
        "first_at": AT,
        "last_position": 9200,
        "last_at": AT,
    }
    (_, told) = lines(node(4, "token.issued", more=[group]))
    assert told.startswith("`-- 5000 x exchange.opened, and 4000 that they led to  #9 to #9200  ")
    (top,) = why_page.plain(why_page.tree(page(more=[group | {"events": 5000}])))
    assert top.startswith("5000 x exchange.opened  #9 to #9200  ") and top.endswith("(--all shows each)")


def test_what_a_hostile_log_holds_cannot_move_the_cursor() -> None:
    (told,) = lines(node(1, "x.\x1b[2J", payload={"reason": "a\nb\x1b]0;"}, actor={"kind": "k", "id": "\r"}))
    assert told.isprintable()


def test_a_cut_is_said_with_what_is_missing() -> None:
    assert why_page.cut_short({"reason": "time", "reached": 70, "unsearched": 3}) == (
        "This is not all of it: it took too long to read on. Read up to position 70."
        " What 3 of the events led to was not looked for."
    )
    assert why_page.cut_short({"reason": "lookups", "reached": None, "unsearched": 0}).endswith("one by one.")


def test_a_terminal_gets_the_same_tree_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken at its width, every line of a remark under its event."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    why_page.show(page(node(1, "gateway.started", node(2, "api_key.created"), node(3, "alert.raised")), events=3))
    told = terminal.getvalue()
    assert "why      session s1\nlog      3 events up to position 9\n\n#1 gateway.started" in told
    assert "├── #2 api_key.created" in told and "└── #3 alert.raised" in told


def test_branches_are_indented_under_what_they_hang_on() -> None:
    deep = Branch(("a",), (Branch(("b",), (Branch(("c",)),)), Branch(("d",), (Branch(("e", "f")),))))
    assert list(why_page.plain([deep])) == ["a", "|-- b", "|   `-- c", "`-- d", "    `-- e", "            f"]


def test_a_part_says_how_to_go_on() -> None:
    told = why_page.cut_short({"reason": "shown", "reached": 2043, "unsearched": 0})
    assert told == "This is not all of it: it goes on with --all --after 2043."
