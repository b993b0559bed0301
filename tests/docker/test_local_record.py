"""The records of local containers: marks, names, damage."""

import os
import subprocess
from pathlib import Path

import pytest

from docker.errors import DaemonFailed
from docker.local import identity, marked
from docker.local_record import Registry
from tests.docker.local_world import record


def test_a_mark_needs_both_name_and_home() -> None:
    """A machine may well be named like a container."""
    mine = identity(os.getpid())
    with subprocess.Popen(["sleep", "300"], env={**os.environ, "HOSTNAME": "here", "HOME": "/marked"}) as process:
        try:
            assert [one.pid for one in marked([record("here", mine, home="/marked")])] == [process.pid]
            assert marked([record("here", mine, home="/other"), record("other", mine, home="/marked")]) == []
        finally:
            process.kill()


def test_a_broken_record_is_said_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{")
    with pytest.raises(DaemonFailed, match=r"one\.json is not a record"):
        Registry(tmp_path).all()


def test_a_name_is_given_once(tmp_path: Path) -> None:
    """Also between processes: the file system decides."""
    registry, mine = Registry(tmp_path), identity(os.getpid())
    assert registry.add(record("one", mine))
    assert not registry.add(record("one", mine, labels={"other": "1"}))
    assert [one.labels for one in registry.all()] == [{"session": "s-1"}]
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]
