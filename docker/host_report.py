"""Shows how the address of published ports is found out; ``docker/scripts/test-host-ip-detection.py`` runs it.

Each method is asked, also where another has won already: whoever looks for a fault wants to see them all.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from docker.errors import DockerError
from docker.host_edges import REAL, Edges
from docker.host_ip import (
    LOOPBACK,
    Answer,
    Found,
    Method,
    answers,
    beside_daemon,
    daemon_host,
    detect,
    doubt,
    in_container,
)
from docker.settings import DockerSettings, from_environment, problems

_EXITS: Final = (
    "Exit codes: 0 an address was found, 1 none was, 2 the settings cannot serve (an empty DOCKER_HOST among them), "
    "3 one was found where sessions may be out of reach."
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All answers in their order, and which one won. ``problem``: why none did; ``doubt``: what speaks against it."""

    found: Found | None
    problem: str
    doubt: str
    in_container: bool
    answers: list[Answer]


async def report(settings: DockerSettings, edges: Edges = REAL) -> Report:
    """Ask every method. Raises BadDockerSettings."""
    daemon = await edges.identity(settings, daemon_host(settings))
    told = Answer(Method.OVERRIDE, (settings.host_ip,)) if settings.host_ip else Answer(Method.OVERRIDE, why="not set")
    said = [
        told,
        Answer(Method.PUBLISHED, (settings.publish_address,)),
        await _beside(settings, edges),
        *await answers(settings, edges, daemon),
        Answer(Method.DAEMON, (daemon_host(settings),), confirmed=daemon_host(settings) if daemon else None),
    ]
    found, problem, against = None, "", ""
    try:
        found = await detect(settings, edges)
        against = await doubt(settings, found, edges)
    except DockerError as error:
        problem = str(error)
    return Report(found=found, problem=problem, doubt=against, in_container=in_container(edges), answers=said)


async def _beside(settings: DockerSettings, edges: Edges) -> Answer:
    try:
        if await beside_daemon(settings, edges):
            return Answer(Method.THIS_MACHINE, (LOOPBACK,))
    except OSError:
        return Answer(Method.THIS_MACHINE, why="the name in DOCKER_HOST has no address")
    return Answer(Method.THIS_MACHINE, why="the daemon has another address than we")


def text(told: Report) -> str:
    """For a person: a line for each method, ``*`` before the one that won, then the address."""
    lines = [f"This process runs {'in a container' if told.in_container else 'in no container'}."]
    for answer in told.answers:
        mark = "*" if told.found is not None and told.found.method is answer.method else " "
        said = ", ".join(answer.addresses) or answer.why
        seen = f"  <- the daemon: {answer.confirmed}" if answer.confirmed else ""
        lines.append(f"{mark} {answer.method:<22}{said}{seen}")
    lines.append(f"Published ports are reached at {told.found}." if told.found else told.problem)
    lines += [told.doubt] if told.doubt else []
    return "\n".join(lines)


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ, edges: Edges = REAL
) -> int:
    """The command; answers its exit code."""
    parser = argparse.ArgumentParser(prog="test-host-ip-detection.py", description=__doc__, epilog=_EXITS)
    parser.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_args(arguments)
    try:
        settings = from_environment(environment)
        if wrong := problems(settings):
            raise DockerError(" ".join(wrong))
        told = asyncio.run(report(settings, edges))
    except DockerError as error:
        print(error, file=sys.stderr)
        return 2
    print(msgspec.json.encode(told).decode() if chosen.json else text(told))
    if told.found is None:
        return 1
    return 3 if told.doubt else 0


if __name__ == "__main__":
    sys.exit(main())
