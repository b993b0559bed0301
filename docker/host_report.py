"""Shows how the address of published ports is found out; ``docker/scripts/test-host-ip-detection.py`` runs it.

Each method is asked, also where another has won already: whoever looks for a fault wants to see them all.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence

import msgspec

from docker.errors import DockerError
from docker.host_edges import REAL, Edges
from docker.host_ip import LOOPBACK, Answer, Found, Method, answers, beside_daemon, daemon_host, detect, in_container
from docker.settings import DockerSettings, from_environment, problems


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All answers in their order, and which one won; ``problem`` says why none did."""

    found: Found | None
    problem: str
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
    found, problem = None, ""
    try:
        found = await detect(settings, edges)
    except DockerError as error:
        problem = str(error)
    return Report(found=found, problem=problem, in_container=in_container(edges), answers=said)


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
    return "\n".join(lines)


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ, edges: Edges = REAL
) -> int:
    """The command; its exit code is 0 when an address was found, 1 when none was, 2 for settings that cannot serve."""
    parser = argparse.ArgumentParser(prog="test-host-ip-detection.py", description=__doc__)
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
    return 0 if told.found is not None else 1


if __name__ == "__main__":
    sys.exit(main())
