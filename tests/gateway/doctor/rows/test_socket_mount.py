"""A Docker socket within reach is root on its machine: named, mounted, or just lying there."""

import socket
import tempfile
from pathlib import Path

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.socket_mount import ROW, SOCKET, look_at
from tests.gateway.doctor.world import here

MOUNT = "36 35 98:0 {} {} rw,noatime shared:1 - ext4 /dev/root rw"


def test_nothing_within_reach_passes() -> None:
    assert look_at([("DOCKER_HOST", "tcp://box")], [MOUNT.format("/", "/data"), "short"], []).state is State.PASS


def test_a_variable_that_names_it_fails() -> None:
    found = look_at([("A", "x"), ("DOCKER_HOST", f"unix:///run/{SOCKET}")], [], [])
    assert (found.state, "DOCKER_HOST names" in found.sentence) == (State.FAIL, True)


@pytest.mark.parametrize("paths", [(f"/run/{SOCKET}", "/elsewhere"), ("/", f"/var/run/{SOCKET}")])
def test_a_mount_of_it_fails_under_any_name(paths: tuple[str, str]) -> None:
    found = look_at([], [MOUNT.format(*paths)], [])
    assert (found.state, paths[1] in found.sentence) == (State.FAIL, True)


def test_one_that_we_may_write_to_is_a_warning() -> None:
    with tempfile.TemporaryDirectory() as room, socket.socket(socket.AF_UNIX) as listener:
        place = str(Path(room) / SOCKET)
        listener.bind(place)
        assert look_at([], [], ["/no/such/place", place]).state is State.WARN


async def test_the_row_looks_at_this_process() -> None:
    found = await look(ROW, here({"SOMETHING": f"/run/{SOCKET}"}))
    assert (found.state, "SOMETHING" in found.sentence) == (State.FAIL, True)
