"""``sessions timeline``: a table, or what the gateway answers; in parts where one answer does not hold it."""

import msgspec
import pytest

from gateway.api import timeline
from gateway.cli.exits import Exit
from tests.gateway.cli.conftest import Cli

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
PURPOSE = ("--purpose", "complaint 4711")


async def test_the_timeline_of_one_session_is_a_table_or_what_the_gateway_answers(cli: Cli) -> None:
    session = await cli.gateway.open()
    ran = await cli.run("sessions", "timeline", session.session_id, *PURPOSE)
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert f"{session.session_id} is ready at position" in ran.out
    (ready,) = await cli.gateway.log("session.ready")
    then = await cli.run("sessions", "timeline", session.session_id, "--as-of", str(ready.position - 1), *PURPOSE)
    assert then.out.startswith(f"As of {ready.position - 1}: position {ready.position - 1}.\n")
    assert "session.ready" not in then.out and "session.ready" in ran.out
    asked = ("sessions", "timeline", session.session_id, "--as-of", str(ready.position), *PURPOSE)
    document = await cli.json(*asked)
    assert document["entries"][-1]["type"] == "session.ready"
    assert (await cli.run("sessions", "timeline", "ses_none", *PURPOSE)).code == Exit.NEGATIVE


async def test_what_one_answer_does_not_hold_is_gone_on_with(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the cursor that is told, or with --all at once: nothing of it is out of reach."""
    session = await cli.gateway.open()
    await cli.gateway.stop(session)
    asked = ("sessions", "timeline", session.session_id, *PURPOSE)
    whole = await cli.run(*asked)
    assert "session.stopped" in whole.out and f"{session.session_id} is stopped at position" in whole.out
    monkeypatch.setattr(timeline, "PAGE", 4)
    monkeypatch.setattr(timeline, "SECONDS", -1.0)
    part = await cli.run(*asked)
    assert "session.stopped" not in part.out and f"{session.session_id} is creating at position" in part.out
    assert "This is not all of it" in part.err
    cursor = part.err.partition("--cursor ")[2].partition(",")[0]
    further = await cli.run(*asked, "--cursor", cursor)
    assert "session.requested" not in further.out and "session.ready" in further.out
    everything = await cli.run(*asked, "--all")
    assert everything.err == "" and everything.out.count("session.") == whole.out.count("session.")
    documents = [msgspec.json.decode(line) for line in (await cli.run(*asked, "--all", "--json")).out.splitlines()]
    assert [document["complete"] for document in documents] == [False] * (len(documents) - 1) + [True]
