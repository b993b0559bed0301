"""``chat``: a line in, an answer out, through a pipe and on a terminal; the session it opened is stopped at the end."""

import asyncio
import fcntl
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil
import pytest

from docker.agent import opencode
from docker.agent.opencode import Missing
from gateway.cli.exits import Exit
from tests.docker_fixtures import CACHE, without_docker
from tests.gateway.cli.conftest import Cli, run_process
from tests.gateway_fixtures import Gateway, start_gateway
from tests.walks.process import reached

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]
TURN_SECONDS: Final = 90.0  # OpenCode starts in 3 to 10 s, its first turn takes as long


async def phases(gateway: Gateway) -> list[str]:
    return [one["phase"] for one in (await gateway.client.get("/sessions")).json()["sessions"]]


async def test_lines_through_a_pipe_give_a_json_line_each(cli: Cli) -> None:
    ran = await run_process("chat", "--json", "--url", cli.gateway.url, stdin="hello\n\nsecond line\n/quit\nnot said\n")
    assert (ran.code, ran.err) == (Exit.OK, "")
    turns = [msgspec.json.decode(line) for line in ran.out.splitlines()]
    assert [(turn["asked"], turn["answer"]) for turn in turns] == [
        ("hello", "You said: hello"),
        ("second line", "You said: second line"),
    ]
    assert len({turn["conversation"] for turn in turns}) == 1
    assert await phases(cli.gateway) in (["stopping"], ["stopped"])


async def test_a_person_reads_the_answer_and_what_became_of_the_session(cli: Cli) -> None:
    ran = await run_process("chat", "--keep", "--url", cli.gateway.url, stdin="hello\n")
    assert (ran.code, ran.out.strip()) == (Exit.OK, "You said: hello")
    assert "chat --session" in ran.err.splitlines()[-1]
    assert await phases(cli.gateway) == ["ready"]


async def test_a_session_that_was_given_is_left_running(cli: Cli) -> None:
    session = await cli.gateway.open()
    ran = await run_process("chat", "--session", session.session_id, "--url", cli.gateway.url, stdin="hello\n")
    assert (ran.code, ran.out.strip()) == (Exit.OK, "You said: hello")
    assert await phases(cli.gateway) == ["ready"]


async def test_a_session_that_has_ended_is_not_talked_to(cli: Cli) -> None:
    session = await cli.gateway.open()
    await cli.gateway.stop(session)
    ran = await run_process("chat", "--session", session.session_id, "--url", cli.gateway.url, stdin="hello\n")
    assert ran.code in (Exit.NEGATIVE, Exit.REFUSED)
    assert ran.out == ""
    assert "Traceback" not in ran.err


async def test_on_a_terminal_ctrl_d_ends_the_chat(cli: Cli) -> None:
    async with on_terminal("chat", "--url", cli.gateway.url) as terminal:
        await terminal.until("> ")
        terminal.type("hello\n")
        await terminal.until("You said: hello")
        await terminal.until("> ")
        terminal.type("\x04")
        assert await terminal.end() == Exit.OK
    assert await phases(cli.gateway) in (["stopping"], ["stopped"])


@pytest.mark.opencode
async def test_opencode_asks_before_it_runs_a_command(tmp_path: Path) -> None:
    """Yes runs it, no does not, and Ctrl-C ends the turn but not the chat."""
    found = await opencode.locate(CACHE, search_path=os.environ.get("PATH", os.defpath))
    if isinstance(found, Missing):
        without_docker(f"no OpenCode: {found.reason}")
    (tmp_path / "cache").symlink_to(CACHE)
    async with (
        start_gateway(tmp_path, {"SESSION_IMAGE": "opencode"}) as gateway,
        on_terminal("chat", "--url", gateway.url) as terminal,
    ):
        await terminal.until("> ")
        terminal.type("RUN: echo forty-two\n")
        await terminal.until("Allow once bash: echo forty-two? [y/N] ")
        terminal.type("y\n")
        await terminal.until("The command said: forty-two")
        await terminal.until("> ")
        terminal.type("RUN: echo never\n")
        await terminal.until("[y/N] ")
        terminal.type("n\n")
        await terminal.until("does not allow that")
        await terminal.until("> ")
        terminal.type("RUN: sleep 600.5\n")
        await terminal.until("[y/N] ")
        terminal.type("y\n")
        await reached(lambda: runs("sleep", "600.5"), TURN_SECONDS)
        terminal.type("\x03")
        await terminal.until("Stopped.")
        await terminal.until("> ")
        terminal.type("/quit\n")
        assert await terminal.end() == Exit.OK


class Terminal:
    """A command with a terminal of its own, and the person in front of it."""

    def __init__(self, process: asyncio.subprocess.Process, screen: int) -> None:
        self._process, self._screen = process, screen
        self._shown, self._seen = b"", 0
        os.set_blocking(screen, False)

    async def until(self, text: str) -> None:
        """Wait until ``text`` is shown, beyond what was waited for before."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                while (at := self._shown.find(text.encode(), self._seen)) < 0:
                    await self._read()
        except (TimeoutError, EOFError) as error:
            raise AssertionError(f"{text!r} was not shown: {self._shown.decode()!r}") from error
        self._seen = at + len(text.encode())

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    async def end(self) -> int:
        """The exit code, once everything that is shown was read."""
        async with asyncio.timeout(TURN_SECONDS):
            try:
                while True:
                    await self._read()
            except EOFError:
                return await self._process.wait()

    async def _read(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._screen, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._screen)
        try:
            piece = os.read(self._screen, 4096)
        except OSError:  # EIO: the last one on the other side has closed it
            piece = b""
        if not piece:
            raise EOFError
        self._shown += piece


@asynccontextmanager
async def on_terminal(*arguments: str) -> AsyncIterator[Terminal]:
    screen, own = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stdin=own, stdout=own, stderr=own, preexec_fn=take_terminal
    )
    os.close(own)
    try:
        yield Terminal(process, screen)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(screen)


def runs(*command: str) -> bool:
    """Whether a process with that command line is there."""
    for process in psutil.process_iter():
        try:
            if process.cmdline() == list(command):
                return True
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    return False
