"""The tests' own daemon leaves nothing behind, even when the run that started it is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker import daemon
from tests.docker_fixtures import without_docker

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from tests.docker.daemon import PrivateDaemon
private = PrivateDaemon()
private.start()
print(private.folder, private.namespace, private.address, flush=True)
sys.stdin.read()
"""


def traces(folder: Path, namespace: str) -> list[str]:
    running = [str(pid) for pid in daemon._pids() if str(folder) in daemon._command_line(pid)]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{folder}/" in line]
    interfaces = [path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(namespace)]
    paths = [str(path) for path in (folder, Path("/run/netns") / namespace) if path.exists()]
    return running + mounts + interfaces + paths


@pytest.mark.docker
@pytest.mark.parametrize("daemon_too", [False, True])
def test_what_a_killed_run_left_is_removed_by_the_next(daemon_too: bool) -> None:
    if reason := daemon.missing():
        without_docker(reason)
    run = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdin is not None
    words = run.stdout.readline().decode().split()
    assert len(words) == 3
    folder, namespace = Path(words[0]), words[1]
    pid = int((folder / "pid").read_text())
    assert str(folder) in daemon._command_line(pid)
    if daemon_too:
        os.kill(pid, signal.SIGKILL)
    run.kill()
    run.wait(timeout=10)
    run.stdout.close()
    run.stdin.close()
    assert traces(folder, namespace)
    daemon.sweep()
    assert daemon._eventually(lambda: not traces(folder, namespace), 10), traces(folder, namespace)
