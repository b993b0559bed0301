"""The command line as a whole: its table, its exit codes, and a newcomer's walk through it on the embedded log."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import RELEASE
from gateway.__main__ import COMMANDS
from gateway.cli.exits import Exit
from tests.gateway.cli.conftest import plain_environment as plain_environment
from tests.gateway.cli.conftest import run, run_process
from tests.house import pages
from tests.walks.process import serving

# Rooms and libraries that a client's command has no use for; each would cost it a part of the second it may take.
HEAVY = (
    "asyncpg",
    "aiodocker",
    "aiohttp",
    "click",
    "cryptography",
    "opentelemetry",
    "hypercorn",
    "psutil",
    "rich",
    "starlette",
)

SERVING = ("aiodocker", "aiohttp", "hypercorn", "starlette", "rich")
CLIENTS = (
    ("sessions", "list"),
    ("sessions", "timeline", "ses_1"),
    ("sessions", "access-history", "ses_1"),
    ("events", "list"),
    ("events", "show", "1"),
    ("why", "1"),
)


def test_help_lists_every_command() -> None:
    for ran in (run(), run("--help")):
        assert ran.code == Exit.OK
        assert [line.split()[0] for line in ran.out.partition("Commands:\n")[2].splitlines()] == list(COMMANDS)
        assert "..." not in ran.out.partition("Commands:\n")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    ran = run(name, "--help")
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert f"gateway {name}" in ran.out


def test_the_release_is_told() -> None:
    assert run("--version").out == f"session-gateway {RELEASE}\n"


def test_a_misspelt_command_is_answered_with_the_near_one() -> None:
    ran = run("sesions")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "'sessions'" in ran.err


@pytest.mark.parametrize("lost", ["typer", "httpx", "msgspec"])
def test_a_package_that_is_not_installed_is_one_sentence(lost: str) -> None:
    """As with the machine's own Python, which a newcomer's fingers type."""
    script = f"import runpy, sys; sys.modules[{lost!r}] = None; sys.argv[1:] = ['sessions', 'list'];"
    command = [sys.executable, "-c", script + "runpy.run_module('gateway', run_name='__main__', alter_sys=True)"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    (sentence,) = ran.stderr.splitlines()
    assert lost in sentence and ".venv/bin/python -m gateway" in sentence


@pytest.mark.parametrize("page", ["auditor", "frontend", "operator", "settings"])
def test_a_guide_says_where_its_python_is(page: str) -> None:
    """Its examples are typed word for word, and a clone has none but ``.venv``'s."""
    head, _, _ = pages.text(f"docs/{page}.md").partition("\n## ")
    assert "`.venv/bin/python -m gateway`" in head


def test_a_family_without_a_command_shows_its_help() -> None:
    ran = run("sessions")
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "resume" in ran.err


@pytest.mark.parametrize(
    "arguments", [("sessions", "list"), ("events", "tail"), ("chat",), ("sessions", "open", "--json")]
)
def test_no_gateway_is_one_sentence(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", "gwk_key")
    monkeypatch.setenv("GATEWAY_BIND", "127.0.0.1:1")
    ran = run(*arguments)
    assert (ran.code, ran.out) == (Exit.UNREACHABLE, "")
    assert len(ran.err.splitlines()) == 1


def test_a_client_command_loads_no_more_than_it_needs() -> None:
    """Help loads no command at all; a client's command nothing of the server."""
    script = (
        "import sys; from gateway.__main__ import main; code = main(sys.argv[1:]);"
        "print(code, *sorted(sys.modules), file=sys.stderr)"
    )

    def loaded(*arguments: str) -> set[str]:
        command = [sys.executable, "-c", script, *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return set(ran.stderr.splitlines()[-1].split())

    assert not loaded("--help") & {f"gateway.cli.{name}" for name in COMMANDS}
    for client in CLIENTS:
        assert not loaded(*client, "--url", "http://127.0.0.1:1").intersection(HEAVY), client
    # The log's own commands need Postgres and the keys, and nothing that serves.
    assert not loaded("projections", "status").intersection(SERVING)


async def test_a_reader_that_has_left_is_no_fault() -> None:
    """As in ``config | head -1``."""
    script = f"{sys.executable} -m gateway config | true; exit ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec("bash", "-c", script, stderr=asyncio.subprocess.PIPE)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err) == (Exit.PIPE_CLOSED, b"")


@pytest.mark.postgres
@pytest.mark.timeout(180)
async def test_a_newcomer_serves_opens_replays_and_cleans(tmp_path: Path) -> None:
    """On the embedded log, with nothing but the data directory in common."""
    home = {"GATEWAY_DATA_DIR": str(tmp_path)}
    async with serving(tmp_path) as gateway:
        opened = await run_process("sessions", "open", "--owner", "Ada", "--json", "--url", gateway.url, **home)
        assert (opened.code, opened.document["status"]) == (Exit.OK, "running")
        listed = await run_process("sessions", "list", "--json", "--url", gateway.url, **home)
        position = str(listed.document["position"])
        beside = await run_process("replay", "--json", "--as-of", position, **home)
        assert (beside.out, beside.err) == (listed.out, "")
        refused = await run_process("clean", "--yes", **home)
        assert (refused.code, refused.out) == (Exit.NEGATIVE, "")
        assert await gateway.stop() == Exit.OK
    afterwards = await run_process("replay", "--json", "--as-of", position, **home)
    assert afterwards.out == listed.out
    assert (await run_process("erase", "Ada", "--yes", **home)).code == Exit.OK
    (state,) = (await run_process("replay", "--json", **home)).document["sessions"]
    assert (state["status"], state["owner"]) == ("stopped", "[erased]")
    assert (await run_process("clean", "--yes", **home)).code == Exit.OK
    assert (await run_process("replay", **home)).code == Exit.LOG_UNAVAILABLE


def test_the_readme_tells_every_command_and_exit_code() -> None:
    """People script against both."""
    told = {int(code) for code in pages.table("gateway/README.md", "exit code")}
    assert told >= set(Exit)
    assert {name.split()[0] for name in pages.table("gateway/README.md", "command")} == set(COMMANDS)
