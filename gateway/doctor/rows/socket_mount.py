"""Whether a Docker socket is mounted into, named by, or within reach of where the gateway runs.

Whoever writes to it is root on its machine, without a certificate and without a trace.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.doctor.row import Finding, Row, failed, passed, warned
from gateway.doctor.surroundings import Surroundings

SOCKET: Final = "docker." + "sock"  # in pieces: nothing of ours names it
PLACES: Final = (f"/var/run/{SOCKET}", f"/run/{SOCKET}")
MOUNTS: Final = "/proc/self/mountinfo"
REMEDY: Final = "Take it away, and give DOCKER_HOST with certificates (docker/README.md)."


async def _look(here: Surroundings) -> Finding:
    return look_at(here.environment.items(), _lines(MOUNTS), PLACES)


def look_at(variables: Iterable[tuple[str, str]], mounts: Iterable[str], places: Iterable[str]) -> Finding:
    """``mounts`` as in proc(5), mountinfo: the fourth field is what is mounted, the fifth where."""
    naming = sorted(name for name, value in variables if SOCKET in value)
    if naming:
        return failed(f"{', '.join(naming)} names a Docker socket.", REMEDY)
    mounted = sorted({fields[4] for line in mounts if len(fields := line.split()) > 4 and _is_socket(fields[3:5])})
    if mounted:
        return failed(f"A Docker socket is mounted at {', '.join(mounted)}.", REMEDY)
    open_to_us = [place for place in places if os.path.exists(place) and os.access(place, os.W_OK)]
    if open_to_us:
        return warned(
            f"A daemon's socket lies at {open_to_us[0]}, and this user may write to it.",
            "Run the gateway as another user than root and outside of the group docker.",
        )
    return passed("No Docker socket is mounted here, named by the environment, or open to this user.")


def _is_socket(paths: list[str]) -> bool:
    return any(path.endswith(f"/{SOCKET}") for path in paths)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:  # another system than Linux
        return []


ROW: Final = Row(name="socket-mount", look=_look, seconds=5)
