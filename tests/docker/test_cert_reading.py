"""A file is read whatever lies in its place: nothing waits, and nothing fills the memory."""

import os
from pathlib import Path

import pytest

from docker.cert_reading import MOST_BYTES, read_file


def test_all_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"x" * MOST_BYTES)
    (tmp_path / "link.pem").symlink_to(path)
    assert read_file(tmp_path / "link.pem") == b"x" * MOST_BYTES


@pytest.mark.timeout(10)
def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")
    with pytest.raises(OSError, match="not a plain file"):
        read_file(tmp_path / "ca.pem")


@pytest.mark.parametrize(("name", "words"), [("/dev/zero", "not a plain file"), (".", "directory|plain file")])
def test_what_is_no_file_is_not_read(name: str, words: str) -> None:
    with pytest.raises(OSError, match=words):
        read_file(Path(name))


def test_a_file_without_measure_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "ca.pem").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than"):
        read_file(tmp_path / "ca.pem")
