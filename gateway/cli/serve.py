"""``serve``: starts the gateway, and tells a newcomer in five lines what is there and what to do next."""

import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from docker.errors import DockerError
from docker.verdicts import verdict_of
from events.errors import EventError
from gateway import RELEASE, logs, server
from gateway.app import application
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import family
from gateway.lifespan import OPERATOR_KEY_FILE, DataDirUnusable, Running, running
from gateway.runtime import RuntimeRefused
from gateway.server import Address, Process
from gateway.server_config import BadServerConfig
from gateway.settings import BadSettings, Settings, load
from gateway.telemetry import Telemetry

app = family("Start the gateway.")
log = logging.getLogger("session_gateway.serve")


@app.command()
def serve() -> None:
    """Start the gateway, on the settings in the environment. Ends with a signal, after a drain."""
    raise typer.Exit(run(os.environ))


def run(environment: Mapping[str, str]) -> int:
    """Serve until a signal; the exit code. Raises Failure with a sentence for each thing that is wrong."""
    try:
        settings = load(environment)
        with logs.logging_to(settings.logs):
            return server.run(lambda process: _serve(settings, process))
    except BadSettings as error:
        raise Failure(Exit.USAGE, *error.problems) from error
    except server.ServerError as error:
        raise Failure(Exit(error.exit_code), str(error)) from error
    except BadServerConfig as error:
        raise Failure(Exit.USAGE, *error.problems) from error
    except (logs.LogFileUnusable, DataDirUnusable) as error:
        raise Failure(Exit.USAGE, str(error)) from error
    except EventError as error:
        raise Failure(Exit.LOG_UNAVAILABLE, f"{error}.") from error
    except RuntimeRefused as error:
        raise Failure(Exit.RUNTIME_UNAVAILABLE, str(error)) from error
    except DockerError as error:
        raise Failure(Exit.RUNTIME_UNAVAILABLE, *filter(None, (str(error), verdict_of(error).todo))) from error


async def _serve(settings: Settings, process: Process) -> int:
    # Before anything is started: a second gateway on the same address must not touch the first one's log.
    server.check(settings.server)
    telemetry = Telemetry(settings.telemetry)
    try:
        with telemetry.in_use():
            return await _run(settings, process)
    finally:
        await telemetry.aclose()


async def _run(settings: Settings, process: Process) -> int:
    async with running(settings, _report, on_death=process.signalled) as started:
        made = application(started.services)
        code = await server.serve(
            made.asgi,
            settings.server,
            drain=made.drain,
            process=process,
            on_listening=lambda address: _welcome(settings, started, address),
        )
        if started.jobs.dead:
            raise Failure(Exit.FORCED, *started.jobs.dead)
        return code


def _report(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _welcome(settings: Settings, started: Running, address: Address) -> None:
    key = _shown(settings.data_dir / OPERATOR_KEY_FILE)
    lines = [
        f"Session gateway {RELEASE} listens on {address.url}",
        f"Sessions run as {started.runtime.summary}.",
        f"The operator's key lies in {key}",
        f'Open a session:  curl -s -X POST {address.url}/sessions -H "Authorization: Bearer $(cat {key})" '
        '-H "Prefer: wait=60"',
        "Stop with Ctrl-C.",
    ]
    print("\n".join([*lines, *(f"! {note}" for note in started.notes)]), flush=True)
    if settings.logs.writes_file or not (sys.stdout.isatty() and sys.stderr.isatty()):
        _log(address, started.notes)


def _log(address: Address, notes: Sequence[str]) -> None:
    """The same for whoever reads log lines alone: a warning that a file or collector never had was never given."""
    log.info("the gateway of release %s listens", RELEASE, extra={"url": address.url})
    for note in notes:
        log.warning(note)


def _shown(path: Path) -> str:
    """Relative when that is shorter to type; quoted when a shell would read it otherwise."""
    here = Path.cwd()
    text = str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
    return shlex.quote(text)
