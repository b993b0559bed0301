"""``sessions``: what scripts get is exactly what the gateway answers; what people get is readable and complete."""

import asyncio
import re
import signal
import sys
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from docker.errors import DaemonFailed
from gateway.cli.exits import Exit
from gateway.cli.sessions import STATUSES
from projections.lifecycle import Status
from tests.event_fixtures import until
from tests.gateway.cli.conftest import SECONDS, WHY, Cli, run
from tests.gateway_fixtures import Gateway

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


async def test_opening_waits_and_gives_a_token_that_opens_it(cli: Cli) -> None:
    opened = await cli.json("sessions", "open", "--owner", "Ada", "--metadata", '{"a":1}')
    assert (opened["status"], opened["reason"]) == ("running", None)
    path = f"{opened['links']['proxy']}session"
    answer = await cli.gateway.client.get(path, headers={"authorization": f"Bearer {opened['token']}"})
    assert (answer.status_code, answer.json()) == (200, [])
    shown = await cli.json("sessions", "show", opened["session_id"], "--as-of", str(opened["position"]), *WHY)
    assert (shown["owner"], shown["metadata"], shown["phase"]) == ("Ada", {"a": 1}, "ready")


async def test_a_person_sees_the_steps_the_token_and_a_request_to_paste(cli: Cli) -> None:
    ran = await cli.run("sessions", "open")
    assert ran.code == Exit.OK
    assert [word for word in ran.err.split() if word in ("session.requested", "container.started", "session.ready")]
    (state,) = (await cli.json("sessions", "list"))["sessions"]
    token = re.search(r"^token +(gwt_\S+)$", ran.out, re.MULTILINE)
    assert token is not None
    target = f"{cli.gateway.url}/s/{state['session_id']}/session"
    assert ran.out.splitlines()[-1] == f"try      curl -H 'Authorization: Bearer {token[1]}' {target}"
    assert (await cli.gateway.client.get(target, headers={"authorization": f"Bearer {token[1]}"})).json() == []


async def test_of_a_session_that_failed_the_reason_and_the_next_step_are_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token and no request to try: they open nothing."""

    async def full(*_: object, **__: object) -> None:
        raise DaemonFailed("no space")

    monkeypatch.setattr(gateway.runtime.docker, "start_container", full)
    ran = await asyncio.to_thread(run, "sessions", "open", "--url", gateway.url)
    told = dict(line.split(maxsplit=1) for line in ran.out.splitlines())
    assert (ran.code, list(told)) == (Exit.NEGATIVE, ["session", "reason", "why", "again"]), ran
    session_id = told["session"].split()[0]
    assert told["reason"].startswith("daemon_failed: ")
    assert (told["why"], told["again"]) == (
        f"python -m gateway why {session_id}",
        f"python -m gateway sessions resume {session_id}",
    )


async def test_the_same_key_again_is_the_same_session(cli: Cli) -> None:
    first = await cli.json("sessions", "open", "--idempotency-key", "once")
    again = await cli.json("sessions", "open", "--idempotency-key", "once")
    assert (first["session_id"], first["token"]) == (again["session_id"], again["token"])
    other = await cli.run("sessions", "open", "--idempotency-key", "once", "--owner", "Ada")
    assert (other.code, other.out) == (Exit.REFUSED, "")


async def test_a_folder_of_the_host_is_asked_for(cli: Cli) -> None:
    """The gateway decides; this one, on local processes and without a root, has none."""
    ran = await cli.run("sessions", "open", "--host-dir", "ada")
    assert (ran.code, ran.out) == (Exit.REFUSED, "") and "HOST_DIR_ROOT is not set" in ran.err


async def test_without_waiting_an_opening_answers_at_once(cli: Cli) -> None:
    opened = await cli.json("sessions", "open", "--wait", "0")
    assert opened["status"] in ("creating", "running")


async def test_what_is_listed_and_shown_is_what_the_gateway_answers(cli: Cli) -> None:
    session = await cli.gateway.open({"owner": "Ada\x1b[2J"})
    get = cli.gateway.client.get
    assert await cli.json("sessions", "list") == (await get("/sessions")).json()
    assert (
        await cli.json("sessions", "show", session.session_id) == (await get(f"/sessions/{session.session_id}")).json()
    )
    assert (await cli.json("sessions", "list", "--status", "stopped"))["sessions"] == []
    for ran in (await cli.run("sessions", "list"), await cli.run("sessions", "show", session.session_id)):
        assert session.session_id in ran.out
        assert "Ada\\u001b[2J" in ran.out
        assert "\x1b" not in ran.out


async def test_the_past_is_shown_as_of_a_position(cli: Cli) -> None:
    before = (await cli.json("sessions", "list"))["position"]
    session = await cli.gateway.open()
    assert await cli.json("sessions", "list", "--as-of", str(before)) == {
        "sessions": [],
        "position": before,
        "next": None,
    }
    ran = await cli.run("sessions", "show", session.session_id, "--as-of", str(before), *WHY)
    assert ran.code == Exit.NEGATIVE


async def test_stop_and_resume_on_the_kept_data(cli: Cli) -> None:
    session = await cli.gateway.open()
    stopped = await cli.json("sessions", "stop", session.session_id, "--wait", "30")
    assert stopped["phase"] == "stopped"
    again = await cli.json("sessions", "resume", session.session_id)
    assert (again["session_id"], again["status"]) == (session.session_id, "running")
    assert again["token"] != session.token
    told = await cli.json("sessions", "token", session.session_id)
    assert told["token"] == again["token"]


async def test_a_refusal_names_the_request_and_has_its_own_exit_code(cli: Cli) -> None:
    ran = await cli.run("sessions", "open", "--image", "not/allowed", "--json")
    assert (ran.code, ran.out) == (Exit.REFUSED, "")
    (sentence,) = ran.err.splitlines()
    assert "This image may not be asked for" in sentence
    assert "request " in sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "show", "ses_nobody"),
        ("sessions", "stop", "ses_nobody"),
        ("sessions", "timeline", "ses_nobody"),
        ("events", "list", "--session", "ses_nobody"),
        ("events", "show", "999999"),
        ("why", "999999"),
        ("why", "session:ses_nobody"),
    ],
)
async def test_what_is_not_there_is_a_no(cli: Cli, arguments: tuple[str, ...]) -> None:
    """One exit code, whichever command hears of it."""
    ran = await cli.run(*arguments, *(() if "stop" in arguments else WHY))
    assert (ran.code, ran.out) == (Exit.NEGATIVE, "")
    assert len(ran.err.splitlines()) == 1


async def test_a_list_is_walked_or_given_in_pages(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it without --limit; what is long says how far it is, out of the way."""
    ids = [(await cli.gateway.open()).session_id for _ in range(3)]
    monkeypatch.setattr("gateway.cli.sessions.PAGE", 1)
    monkeypatch.setattr("gateway.cli.sessions.SAY_SECONDS", 0.0)
    ran = await cli.run("sessions", "list")
    assert [line.split()[0] for line in ran.out.splitlines()[1:-1]] == ids
    assert ran.out.splitlines()[-1].startswith("3 sessions at position ")
    assert ran.err.splitlines() == ["1 session so far", "2 sessions so far"]
    first = await cli.run("sessions", "list", "--limit", "2")
    assert ids[2] not in first.out and ids[1] in first.out
    cursor = re.fullmatch(r"There are more: go on with --cursor (\S+)\.\n", first.err)
    assert cursor is not None
    page = await cli.json("sessions", "list", "--cursor", cursor[1])
    assert ([one["session_id"] for one in page["sessions"]], page["next"]) == (ids[2:], None)
    assert (await cli.run("sessions", "list", "--cursor", cursor[1], "--status", "running")).code == Exit.USAGE


def test_a_status_that_is_none_is_told_here(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run("sessions", "list", "--status", "foo")
    assert (ran.code, ran.err) == (Exit.USAGE, "--status: 'foo' is none of creating, running, stopped, error.\n")
    assert set(STATUSES) == set(Status)


@pytest.mark.parametrize(
    "arguments",
    [
        ("open", "--metadata", "[1]"),
        ("open", "--metadata", "{"),
        ("open", "--wait", "-1"),
        ("open", "--idempotency-key", "a\nb"),
        ("stop", ""),
        ("stop", "ses_1", "--wait", "500"),
        ("show",),
    ],
)
async def test_arguments_that_cannot_be_used(cli: Cli, arguments: tuple[str, ...]) -> None:
    ran = await cli.run("sessions", *arguments)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert len(ran.err.splitlines()) == 1


async def test_a_session_is_watched_from_its_first_step_until_interrupted(cli: Cli) -> None:
    session = await cli.gateway.open()
    steps = await follow(cli, "sessions", "watch", session.session_id, last="session.ready")
    assert steps[0]["type"] == "session.requested"
    assert {step["session_id"] for step in steps} == {session.session_id}


async def test_all_sessions_are_watched_from_now_on(cli: Cli) -> None:
    former = await cli.gateway.open()
    watching = asyncio.create_task(follow(cli, "sessions", "watch", last="session.stopped"))
    await until(lambda: listening(cli))
    await cli.gateway.stop(former)
    steps = await watching
    assert steps[0]["type"] == "session.stop_requested"
    assert "token" not in {name for step in steps for name in step["facts"]}


async def follow(cli: Cli, *arguments: str, last: str) -> list[dict[str, Any]]:
    """The JSON lines of a command without end, up to the one of that type; then it is interrupted, and ends so."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, "--json", "--url", cli.gateway.url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(SECONDS):
            while not found or found[-1]["type"] != last:
                found.append(msgspec.json.decode(await process.stdout.readuntil(b"\n")))
            process.send_signal(signal.SIGINT)
            assert await process.wait() == Exit.INTERRUPTED
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return found


async def listening(cli: Cli) -> bool:
    """Whether somebody follows the views."""
    return bool(cli.gateway.services.views._listeners)


async def test_the_past_is_asked_for_in_a_zone_and_shown_in_it(cli: Cli) -> None:
    """The position that a time was resolved to is told, and every time is one of the zone."""
    session = await cli.gateway.open()
    (ready,) = await cli.gateway.log("session.ready")
    zone = ZoneInfo("Pacific/Auckland")  # half a day ahead: nobody's own by chance
    shown = ready.recorded_at.astimezone(zone)
    local, offset = shown.replace(tzinfo=None).isoformat(), shown.isoformat()[-6:]
    for arguments in (("list",), ("show", session.session_id, *WHY)):
        ran = await cli.run("sessions", *arguments, "--as-of", local, "--tz", "Pacific/Auckland")
        assert ran.code == Exit.OK, ran.err
        first, *rest = ran.out.splitlines()
        assert first.startswith(f"As of {local} (") and first.endswith(f"{offset}): position {ready.position}.")
        times = [word for line in rest for word in line.split() if re.match(r"\d\d:\d\d:\d\d", word)]
        assert times and all(time.endswith(offset) for time in times)
    refused = await cli.run("sessions", "list", "--as-of", local)
    assert (refused.code, refused.out) == (Exit.USAGE, "") and "tz" in refused.err
