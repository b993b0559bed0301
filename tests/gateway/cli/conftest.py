"""Commands as their users run them: in this process where their output is all that counts, else as processes."""

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import pytest_asyncio

from gateway import settings
from gateway.__main__ import main
from gateway.cli.exits import Exit
from gateway.storage import open_storage
from tests.event_fixtures import LogDatabase
from tests.gateway_fixtures import Gateway, start_gateway

SECONDS: Final = 60.0
WHY: Final = ("--purpose", "a test")


class Ran(msgspec.Struct, frozen=True):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that it printed."""
        (line,) = self.out.splitlines()
        return msgspec.json.decode(line)


def run(*arguments: str) -> Ran:
    """A command in this process. It has a loop of its own: from an async test, call ``Cli.run``."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return Ran(int(code), out.getvalue(), err.getvalue())


async def run_process(*arguments: str, stdin: str = "", **variables: str) -> Ran:
    """A command as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **variables},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())


class Cli:
    """The client's commands against one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def run(self, *arguments: str) -> Ran:
        return await asyncio.to_thread(run, *arguments, "--url", self.gateway.url)

    async def json(self, *arguments: str) -> Any:
        """The document of a command that ends well."""
        ran = await self.run(*arguments, "--json")
        assert (ran.code, ran.err) == (Exit.OK, "")
        return ran.document


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but those that a test gives, and a data directory of its own."""
    for name in {*settings.names(), "GATEWAY_KEY"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path))


@pytest.fixture
def database_variables(empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An empty log, as DB_* that are set for the test."""
    app, admin = urlsplit(empty_log.app_dsn), empty_log.admin_dsn
    variables = {
        "DB_HOST": parse_qs(app.query)["host"][0],
        "DB_USER": app.username or "",
        "DB_NAME": app.path.lstrip("/"),
        "DB_ADMIN_URL": admin,
        "DB_MIN_CONNECTIONS": "1",
        "DB_MAX_CONNECTIONS": "4",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield variables


@pytest_asyncio.fixture
async def cli(tmp_path: Path, database_variables: dict[str, str]) -> AsyncIterator[Cli]:
    """Commands and a gateway on one log in Postgres; its operator's key lies in the data directory."""
    async with start_gateway(tmp_path, database_variables, log_of=open_storage) as gateway:
        yield Cli(gateway)
