"""``keys``: a key is shown once, its hash alone is kept, and every gateway follows."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from gateway.cli import keys
from gateway.cli.exits import Exit, Failure
from gateway.storage import open_storage
from tests.gateway.cli.conftest import run
from tests.gateway_fixtures import start_gateway

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("database_variables")]
FRONTEND = ("keys", "create", "--role", "frontend", "--name", "chat")


def head() -> int:
    return int(run("projections", "status", "--json").document["head"])


@pytest.mark.timeout(120)
async def test_a_running_gateway_takes_a_key_and_lets_it_go(tmp_path: Path, database_variables: dict[str, str]) -> None:
    async with start_gateway(tmp_path, database_variables, log_of=open_storage) as gateway:
        made = (await asyncio.to_thread(run, *FRONTEND, "--json")).document
        headers = {"authorization": f"Bearer {made['key']}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False) as frontend:
            assert (await frontend.get("/sessions")).status_code == 200
            assert (await frontend.get("/events")).status_code == 403
            assert (await asyncio.to_thread(run, "keys", "revoke", made["key_id"])).code == Exit.OK
            await gateway.services.views.catch_up((await gateway.services.store.head()).position)
            assert (await frontend.get("/sessions")).status_code == 401
        events = await gateway.log("api_key.*")
        assert made["key"].rpartition("_")[2].encode() not in b"".join(event.payload for event in events)


def test_a_key_is_the_only_thing_on_standard_output() -> None:
    """So that a script can put it where it belongs."""
    ran = run(*FRONTEND)
    assert ran.out.startswith("gwk_")
    assert len(ran.out.splitlines()) == 1
    assert "chat" in ran.err


def test_a_key_ends_when_it_was_told_to() -> None:
    before = datetime.now(UTC)
    made = run(*FRONTEND, "--expires", "30d", "--json").document
    ends = datetime.fromisoformat(made["expires_at"])
    assert timedelta(days=30) <= ends - before < timedelta(days=30, minutes=5)


def test_keys_are_listed_without_what_opens() -> None:
    made = run(*FRONTEND, "--json").document
    run("keys", "revoke", made["key_id"])
    ran = run("keys", "list", "--json")
    (listed,) = ran.document
    assert (listed["key_id"], listed["role"], listed["state"]) == (made["key_id"], "frontend", "revoked")
    assert made["key"] not in ran.out
    assert made["key_id"] in run("keys", "list").out


def test_a_dry_run_changes_nothing() -> None:
    made = run(*FRONTEND, "--json").document
    before = head()
    assert run(*FRONTEND, "--dry-run", "--json").document["key"] is None
    assert "Would revoke" in run("keys", "revoke", made["key_id"], "--dry-run").out
    assert head() == before


def test_revoking_twice_is_no_error_and_one_event() -> None:
    made = run(*FRONTEND, "--json").document
    assert run("keys", "revoke", made["key_id"], "--json").document["already"] is False
    before = head()
    again = run("keys", "revoke", made["key_id"], "--json").document
    assert (again["already"], again["position"]) == (True, None)
    assert head() == before


def test_an_unknown_key_is_a_negative_answer() -> None:
    ran = run("keys", "revoke", "k000000000000")
    assert (ran.code, ran.out) == (Exit.NEGATIVE, "")


@pytest.mark.parametrize("text", ["", "30", "0d", "d", "-1d", "1y", "1.5h", "30d ", "123456d"])
def test_a_length_of_time_that_is_none(text: str) -> None:
    with pytest.raises(Failure) as failure:
        keys.span(text)
    assert failure.value.code is Exit.USAGE


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\x1b[2J"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    assert run("keys", "create", "--role", "frontend", "--name", name).code == Exit.USAGE


def test_a_role_that_there_is_not() -> None:
    ran = run("keys", "create", "--role", "king", "--name", "chat")
    assert ran.code == Exit.USAGE
    assert "auditor" in ran.err
