"""What becomes of systemd's unit, by the units that distributions ship."""

import pytest

from docker.daemon_unit import Command, drop_in, exec_start, without

DEBIAN = "dockerd -H fd:// --containerd=/run/containerd/its-own $DOCKER_OPTS"
KEYS = ("hosts", "tlsverify", "live-restore", "log-opts", "tlscacert")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        # Debian's docker.io, and Docker's own packages
        (DEBIAN, Command("dockerd --containerd=/run/containerd/its-own $DOCKER_OPTS", ("fd://",), ())),
        ("/usr/bin/dockerd -H fd://", Command("/usr/bin/dockerd", ("fd://",), ())),
        # written by hand
        ("dockerd -Hfd:// --host=tcp://0.0.0.0:2375 -x", Command("dockerd -x", ("fd://", "tcp://0.0.0.0:2375"), ())),
        ("dockerd --host unix:// -H=fd://", Command("dockerd", ("unix://", "fd://"), ())),
        (
            "dockerd --tlsverify --tlscacert /c --log-opt a=b --live-restore --icc=false",
            Command("dockerd --icc=false", (), ("--tlsverify", "--tlscacert=/c", "--log-opt=a=b", "--live-restore")),
        ),
        ("dockerd", Command("dockerd", (), ())),
    ],
)
def test_what_the_file_says_leaves_the_command_line(line: str, command: Command) -> None:
    assert without(line, KEYS) == command


def test_the_last_command_line_counts() -> None:
    """An empty one takes those before away; lines go on after a backslash; other sections have none."""
    unit = "[Unit]\nExecStart=no\n[Service]\n# ExecStart=no\nExecStart=dockerd \\\n  -H fd://\n"
    assert exec_start([unit]).split() == ["dockerd", "-H", "fd://"]
    assert exec_start([unit, "[Service]\nExecStart=\nExecStart=dockerd --debug\n"]) == "dockerd --debug"
    assert exec_start([unit, "[Service]\nEnvironment=A=b\n"]).startswith("dockerd")
    assert exec_start(["[Service]\n"]) == ""


def test_a_drop_in_is_read_back_as_the_command() -> None:
    assert exec_start([f"[Service]\nExecStart={DEBIAN}\n", drop_in("dockerd --x")]) == "dockerd --x"
