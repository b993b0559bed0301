"""``replay``: the log alone gives exactly what the gateway gave."""

import asyncio
from pathlib import Path

import pytest

from gateway.api import shapes
from gateway.cli.exits import Exit
from gateway.recorder import session_subject
from gateway.storage import open_storage
from tests.gateway.cli.conftest import WHY, Cli, run
from tests.gateway_fixtures import start_gateway

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


async def test_the_log_alone_gives_what_the_gateway_gave(cli: Cli) -> None:
    """Byte for byte, for all sessions and for one, at the head and at every position before."""
    first = await cli.gateway.open({"owner": "Ada", "metadata": {"a": [1]}})
    await cli.gateway.open()
    await cli.gateway.stop(first)
    get, path = cli.gateway.client.get, f"/sessions/{first.session_id}"
    answer = await get("/sessions")
    head = answer.json()["position"]
    ran = await asyncio.to_thread(run, "replay", "--json", "--as-of", str(head))
    assert ran.out == answer.text + "\n"
    for position in range(3, head, 4):
        then = await get("/sessions", params={"as_of": position})
        ran = await asyncio.to_thread(run, "replay", "--json", "--as-of", str(position))
        assert ran.out == then.text + "\n"
    one = await asyncio.to_thread(run, "replay", "--json", "--session", first.session_id, *WHY)
    assert one.out == (await get(path)).text + "\n"


async def test_a_time_is_resolved_to_a_position_which_is_told(cli: Cli) -> None:
    session = await cli.gateway.open()
    (ready,) = await cli.gateway.log("session.ready")
    ran = await asyncio.to_thread(run, "replay", "--as-of", ready.recorded_at.isoformat())
    assert ran.out.startswith(f"As of {ready.recorded_at.isoformat()}: position {ready.position}.\n")
    assert session.session_id in ran.out
    before = await asyncio.to_thread(run, "replay", "--as-of", "2001-01-01T00:00:00Z")
    assert before.out.splitlines()[-1] == "0 sessions at position 0."


async def test_replaying_is_recorded(cli: Cli) -> None:
    session = await cli.gateway.open()
    await asyncio.to_thread(run, "replay", "--session", session.session_id, "--as-of", "5", *WHY)
    (event,) = await cli.gateway.log("log.read")
    (read,) = await cli.gateway.payloads("log.read")
    assert (read.what, read.until, read.session_id) == ("replay", 5, session.session_id)
    assert b'"kind":"operator"' in event.actor
    (shown,) = await shapes.events([event], cli.gateway.services.keyring)
    assert shown.payload["purpose"] == "a test" and b"a test" not in event.payload
    assert await cli.gateway.services.keyring.erase(session_subject(session.session_id))
    (shown,) = await shapes.events([event], cli.gateway.services.keyring)
    assert shown.payload["purpose"] == "[erased]"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--session", "ses_nobody", *WHY), Exit.NEGATIVE),
        (("--session", "ses_nobody"), Exit.USAGE),
        (("--session", "ses_nobody", "--purpose", " "), Exit.USAGE),
        (("--purpose", "two\nlines"), Exit.USAGE),
        (("--as-of", "yesterday"), Exit.USAGE),
        (("--as-of", "2026-01-18T22:29:04"), Exit.USAGE),
    ],
)
async def test_what_cannot_be_answered(cli: Cli, arguments: tuple[str, ...], code: Exit) -> None:
    ran = await asyncio.to_thread(run, "replay", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert len(ran.err.splitlines()) == 1
    assert await cli.gateway.log("log.read") == [], "nothing was shown, and no purpose is kept in clear"


async def test_a_session_before_it_was_there_is_not_told_as_read(cli: Cli) -> None:
    session = await cli.gateway.open()
    ran = await asyncio.to_thread(run, "replay", "--session", session.session_id, "--as-of", "1", *WHY)
    assert (ran.code, ran.out) == (Exit.NEGATIVE, "")
    assert await cli.gateway.log("log.read") == []


async def test_a_gateway_is_not_needed(database_variables: dict[str, str], tmp_path: Path) -> None:
    """The gateway of this test has ended before its log is folded."""
    async with start_gateway(tmp_path, database_variables, log_of=open_storage) as gateway:
        session = await gateway.open({"owner": "Ada"})
    (state,) = (await asyncio.to_thread(run, "replay", "--json")).document["sessions"]
    assert (state["session_id"], state["status"], state["owner"]) == (session.session_id, "stopped", "Ada")
