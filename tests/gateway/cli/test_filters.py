"""Filters of the log: what cannot be meant ends here, in a sentence that names the option."""

import pytest

from gateway.cli.exits import Exit
from gateway.cli.filters import beginning, filters
from tests.gateway.cli.conftest import run


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--trace", "xyz"), "--trace: 'xyz' is not a trace id"),
        (("--correlation", "xyz"), "--correlation: 'xyz' is not a UUID"),
        (("--actor", "nobody:x"), "--actor: 'nobody:x' is neither"),
        (("--stream", "no such"), "--stream: 'no such' is not the name of a stream"),
        (("--session", "a b"), "--session: 'a b' is not the id of a session"),
        (("--type", "Session"), "--type: 'Session' is no type"),
        (("--type", "a.b", *("--type", "a.b") * 40), "--type may be given 40 times"),
        (("--after", "5", "--since", "3"), "Give --after or --since, not both"),
        (("--cursor", "x", "--since", "3"), "A cursor says where to begin and end: leave out --after"),
        (("--since", "yesterday"), "--since: 'yesterday' is neither a position nor"),
        (("--since", "2026-12-01T08:00"), "or its time zone: --tz."),
        (("--since", "2026-10-25T02:30", "--tz", "Europe/Berlin"), "was twice in Europe/Berlin"),
    ],
)
@pytest.mark.parametrize("command", ["list", "tail"])
def test_a_slip_is_told_by_its_option(command: str, arguments: tuple[str, ...], told: str) -> None:
    """No gateway is asked: none would answer here."""
    ran = run("events", command, *arguments, "--url", "http://127.0.0.1:1")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    (sentence,) = ran.err.splitlines()
    assert told in sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ("events", "tail", "--after", "-5"),
        ("events", "show", "a b"),
        ("why", "foo bar"),
        ("why", "1", "--after", "5"),
        ("sessions", "show", "ses_1", "--as-of", "2026-12-01T08:00"),
    ],
)
def test_other_slips_are_told_here_too(arguments: tuple[str, ...]) -> None:
    ran = run(*arguments, "--url", "http://127.0.0.1:1")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "parameter" not in ran.err


def test_what_is_meant_is_handed_on() -> None:
    assert filters(["log.read"], actor="gateway:gw-1") == [("type", "log.read"), ("actor", "gateway:gw-1")]
    assert beginning(after=None, since="2026-12-01T08:00", until="9", cursor=None, tz="Europe/Berlin") == [
        ("since", "2026-12-01T07:00:00Z"),
        ("until", "9"),
    ]
