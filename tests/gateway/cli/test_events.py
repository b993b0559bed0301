"""``events``: pages and the growing log, for people and for programs; reading leaves its own trace."""

from typing import Any

import pytest

from gateway.cli.exits import Exit
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.test_sessions import follow

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


async def test_a_page_is_what_the_gateway_answers(cli: Cli) -> None:
    await cli.gateway.open()
    page: dict[str, Any] = await cli.json("events", "list", "--type", "session.*", "--limit", "1")
    assert [event["type"] for event in page["events"]] == ["session.requested"]
    rest = await cli.json("events", "list", "--type", "session.*", "--after", str(page["next"]))
    assert [event["type"] for event in rest["events"]] == ["session.ready"]
    stream = page["events"][0]["stream_id"]
    of_stream = await cli.json("events", "list", "--stream", stream)
    assert {event["stream_id"] for event in of_stream["events"]} == {stream}


async def test_a_person_gets_a_line_an_event_and_how_to_go_on(cli: Cli) -> None:
    ran = await cli.run("events", "list")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == [str(number) for number in range(1, len(lines) + 1)]
    assert {"gateway.started", "api_key.created"} <= {word for line in lines for word in line.split()}
    assert ran.err == f"{len(lines)} events; go on with --after {len(lines)}.\n"


async def test_reading_is_an_event(cli: Cli) -> None:
    await cli.json("events", "list", "--limit", "7")
    (read,) = await cli.gateway.payloads("log.read")
    assert (read.what, read.after) == ("events", 0)


async def test_the_tail_gives_each_event_once_and_in_order(cli: Cli) -> None:
    await cli.gateway.open()
    events = await follow(cli, "events", "tail", "--after", "0", last="session.ready")
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))


@pytest.mark.parametrize("arguments", [("--limit", "0"), ("--limit", "1001"), ("--after", "-1"), ("--after", "x")])
async def test_arguments_that_cannot_be_used(cli: Cli, arguments: tuple[str, str]) -> None:
    assert (await cli.run("events", "list", *arguments)).code == Exit.USAGE


async def test_a_stream_that_is_none_is_refused_by_the_gateway(cli: Cli) -> None:
    assert (await cli.run("events", "list", "--stream", "no such")).code == Exit.REFUSED
