"""``events``: pages and the growing log, for people and for programs; reading leaves its own trace."""

import re
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from events.envelope import RecordedEvent
from gateway.cli.exits import Exit
from tests.gateway.cli.conftest import WHY, Cli
from tests.gateway.cli.test_sessions import follow

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


async def test_a_page_is_what_the_gateway_answers(cli: Cli) -> None:
    await cli.gateway.open()
    page: dict[str, Any] = await cli.json("events", "list", "--type", "session.*", "--limit", "1")
    assert [event["type"] for event in page["events"]] == ["session.requested"]
    rest = await cli.json("events", "list", "--type", "session.*", "--after", str(page["next"]))
    assert [event["type"] for event in rest["events"]] == ["session.ready"]
    stream = page["events"][0]["stream_id"]
    of_stream = await cli.json("events", "list", "--stream", stream, *WHY)
    assert {event["stream_id"] for event in of_stream["events"]} == {stream}


async def test_a_person_gets_a_line_an_event_and_how_to_go_on(cli: Cli) -> None:
    ran = await cli.run("events", "list")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == [str(number) for number in range(1, len(lines) + 1)]
    assert {"gateway.started", "api_key.created"} <= {word for line in lines for word in line.split()}
    assert ran.err == f"{len(lines)} events, up to the end of the log at position {len(lines)}.\n"
    first = await cli.run("events", "list", "--limit", "2")
    cursor = re.search(r"^2 events; there may be more: go on with --cursor (\S+), or take --all\.$", first.err)
    assert cursor is not None and len(first.out.splitlines()) == 2
    rest = await cli.run("events", "list", "--cursor", cursor[1])
    assert rest.out.splitlines()[: len(lines) - 2] == lines[2:]


async def test_every_page_is_walked_to_the_end_that_the_log_had(cli: Cli) -> None:
    """Each page is a reading, and so an event: the walk does not run after itself."""
    await cli.gateway.open()
    head = (await cli.gateway.services.store.head()).position
    ran = await cli.run("events", "list", "--all", "--limit", "1")
    assert [int(line.split()[0]) for line in ran.out.splitlines()] == list(range(1, head + 1))
    pages = [
        msgspec.json.decode(line) for line in (await cli.run("events", "list", "--all", "--json")).out.splitlines()
    ]
    assert [event["position"] for page in pages for event in page["events"]][:head] == list(range(1, head + 1))


async def test_filters_times_and_purposes_are_handed_on(cli: Cli) -> None:
    session = await cli.gateway.open()
    (ready,) = await cli.gateway.log("session.ready")
    berlin = ready.recorded_at.astimezone(ZoneInfo("Europe/Berlin")).replace(tzinfo=None).isoformat()
    of_session = ("--session", session.session_id, "--type", "session.*", "--until", berlin, "--tz", "Europe/Berlin")
    assert (await cli.run("events", "list", *of_session)).code == Exit.REFUSED
    found = await cli.json("events", "list", *of_session, "--purpose", "Beschwerde über 4711")
    assert [event["type"] for event in found["events"]] == ["session.requested", "session.ready"]
    assert found["until"] == ready.position
    trace, correlation = (ready.trace_id or b"").hex(), str(ready.correlation_id)
    found = await cli.json("events", "list", "--trace", trace, "--correlation", correlation, "--actor", "nobody", *WHY)
    assert found["events"] == []
    read = (await cli.json("events", "list", "--type", "log.read"))["events"][0]["payload"]
    assert (read["session_id"], read["purpose"]) == (session.session_id, "Beschwerde über 4711")
    shown = await cli.run("events", "list", "--since", str(ready.position - 1), "--limit", "1", "--tz", "Asia/Tokyo")
    assert "+09:00" in shown.out


async def test_one_event_is_shown_with_all_its_fields_and_its_cause(cli: Cli) -> None:
    session = await cli.gateway.open({"owner": "Ada\x1b"})
    (requested,), (issued, *_) = await cli.gateway.log("session.requested"), await cli.gateway.log("token.issued")
    shown = await cli.json("events", "show", str(issued.event_id), *WHY)
    assert (shown["position"], shown["payload"]["sha256"]) == (
        issued.position,
        sha256(session.token.encode()).hexdigest(),
    )
    ran = await cli.run("events", "show", str(requested.position), *WHY)
    told = dict(line.split(maxsplit=1) for line in ran.out.splitlines() if len(line.split()) > 1)
    assert (told["position"], told["event"]) == (str(requested.position), str(requested.event_id))
    assert told["owner"] == "Ada\\u001b"
    caused = next(event for event in await cli.gateway.log() if event.causation_id is not None)
    ran = await cli.run("events", "show", str(caused.position), *WHY)
    above = await cli.run("events", "list", "--after", str((await _cause_of(cli, caused)) - 1), "--limit", "1")
    assert ran.out.splitlines()[-2:] == ["caused by", f"  {above.out.strip()}"]
    assert (await cli.run("events", "show", "999999")).code == Exit.NEGATIVE


async def _cause_of(cli: Cli, event: RecordedEvent) -> int:
    assert event.causation_id is not None
    cause = await cli.gateway.services.store.find(event.causation_id)
    assert cause is not None
    return cause.position


async def test_the_tail_takes_filters_and_begins_where_a_page_ended(cli: Cli) -> None:
    session = await cli.gateway.open()
    page = await cli.json("events", "list", "--session", session.session_id, "--limit", "1", *WHY)
    events = await follow(cli, "events", "tail", "--cursor", page["cursor"], *WHY, last="session.ready")
    assert {event["type"] for event in events} >= {"token.issued", "container.started", "session.ready"}
    assert events[0]["position"] > page["next"]


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


async def test_a_type_that_no_release_knows_is_asked_for_and_told(cli: Cli) -> None:
    """A later release may write it; but nothing found must not look like nothing happened."""
    ran = await cli.run("events", "list", "--type", "sesion.*")
    assert (ran.code, ran.out) == (Exit.OK, "")
    assert ran.err.splitlines()[0] == (
        "This release knows no event of the type sesion.*, which a later one may write: was session.* meant?"
    )
    page = msgspec.json.decode((await cli.run("events", "list", "--type", "sesion.*", "--json")).out)
    assert (page["events"], page["unknown_types"]) == ([], ["sesion.*"])
    page = await cli.json("events", "list", "--type", "log.*")
    assert page["unknown_types"] == []
