"""``sessions access-history``: for people a line a reading, for programs what the gateway answers."""

from typing import Any

import pytest

from gateway.cli.access_history import range_of
from gateway.cli.exits import Exit
from tests.gateway.cli.conftest import WHY, Cli

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
NOTHING: dict[str, Any] = {"after": None, "until": None, "types": [], "stream": None, "filtered": False}


async def test_who_read_a_session(cli: Cli) -> None:
    session = await cli.gateway.open({"owner": "Ada"})
    one = session.session_id
    await cli.gateway.open()
    await cli.json("events", "list", "--session", one, "--purpose", "complaint 4711")
    await cli.json("events", "list", "--type", "session.*")
    assert (await cli.run("sessions", "access-history", one)).code == Exit.REFUSED, "without a purpose"
    found = await cli.json("sessions", "access-history", one, *WHY)
    assert [(read["what"], read["scope"], read["purpose"]) for read in found["reads"]] == [
        ("events", "session", "complaint 4711"),
        ("events", "everything", None),
    ]
    ran = await cli.run("sessions", "access-history", one, "--all", "--limit", "1", *WHY)
    title, first, second, third, *rest = ran.out.splitlines()
    assert title.split() == ["position", "when", "who", "read", "of", "range", "why"]
    assert "key:operator" in first and first.endswith("complaint 4711")
    assert "everything" in second and "session.*" in second
    assert "access_history" in third and not rest
    assert ran.err.startswith("3 readings")


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ({}, ""),
        ({"after": 0, "until": 9}, "1-9"),
        ({"after": 7}, "8-"),
        ({"until": 12}, "at 12"),
        (
            {"after": 0, "until": 9, "types": ["session.*"], "stream": "system", "filtered": True},
            "1-9 session.* system filtered",
        ),
    ],
)
def test_a_range_in_short(read: dict[str, Any], told: str) -> None:
    assert range_of(NOTHING | read) == told
