"""``why``: whatever somebody has in hand, one page says what made it happen; a file gets plain ASCII."""

import pytest

from gateway.cli.exits import Exit
from tests.gateway.cli.conftest import Cli
from tests.gateway.clients import nobody

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
PURPOSE = ("--purpose", "complaint 4711")


async def test_an_event_a_session_a_request_and_a_trace_are_all_explained(cli: Cli) -> None:
    """By what a person has: an id or a position from the log, the header of an answer, a trace from its backend."""
    session = await cli.gateway.open({"owner": "ada"})
    async with nobody(cli.gateway) as client:
        answer = await client.get(session.path("echo"), headers=session.headers)
    request_id = answer.headers["x-request-id"]
    (exchange,) = await cli.gateway.log("exchange.completed")
    assert exchange.trace_id is not None
    for given in (str(exchange.event_id), str(exchange.position), request_id, f"trace:{exchange.trace_id.hex()}"):
        ran = await cli.run("why", given, *PURPOSE)
        assert (ran.code, ran.err) == (Exit.OK, ""), given
        assert ran.out.isascii()
        tree = [line for line in ran.out.splitlines() if "#" in line]
        words = ("session.requested", "token.issued", "exchange.completed")
        assert all(word in line for word, line in zip(words, tree, strict=True)), ran.out
        assert [len(line) - len(line.lstrip("`- |")) for line in tree] == [0, 4, 8], "each under its cause"
        assert "by key:operator for ada" in tree[0]
        assert f"trace {exchange.trace_id.hex()}" in ran.out
    ran = await cli.run("why", session.session_id, *PURPOSE)
    assert f"why      session {session.session_id}" in ran.out
    assert "session.ready" in ran.out and "lasted" in ran.out


async def test_json_is_what_the_gateway_answers(cli: Cli) -> None:
    document = await cli.json("why", "1")
    answer = (await cli.gateway.client.get("/events/1/why")).json()
    assert {**document, "position": 0} == {**answer, "position": 0}


async def test_nothing_to_explain_is_a_sentence_and_a_no(cli: Cli) -> None:
    ran = await cli.run("why", "nobody-asked-this")
    assert (ran.code, ran.out) == (Exit.NEGATIVE, "")
    assert "No event of the log" in ran.err and "nobody-asked-this" in ran.err


async def test_times_are_those_of_the_zone_that_was_asked_for(cli: Cli) -> None:
    ran = await cli.run("why", "1", "--tz", "Asia/Kathmandu")
    assert ran.code == Exit.OK and "+05:45" in ran.out
    assert (await cli.run("why", "1", "--tz", "Nowhere")).code == Exit.USAGE


async def test_one_session_is_explained_for_a_purpose(cli: Cli) -> None:
    session = await cli.gateway.open()
    ran = await cli.run("why", session.session_id)
    assert ran.code == Exit.REFUSED and "why" in ran.err
    assert await cli.gateway.log("log.read") == []
    await cli.run("why", session.session_id, *PURPOSE)
    (read,) = await cli.gateway.payloads("log.read")
    assert (read.what, read.session_id) == ("why", session.session_id)


async def test_all_shows_each_of_many(cli: Cli) -> None:
    session = await cli.gateway.open()
    async with nobody(cli.gateway) as client:
        for _ in range(12):
            await client.get(session.path("echo"), headers=session.headers)
    assert await cli.gateway.services.exchanges.flush(5)
    told = (await cli.run("why", session.session_id, *PURPOSE)).out
    assert "12 x exchange.completed" in told
    told = (await cli.run("why", session.session_id, "--all", *PURPOSE)).out
    assert told.count("exchange.completed") == 12 and " x " not in told


async def test_what_names_nothing_is_refused(cli: Cli) -> None:
    assert (await cli.run("why", "a b")).code == Exit.USAGE
    assert (await cli.run("why")).code == Exit.USAGE
