"""Names that last, and one word for a disk that takes no more."""

import os
from errno import EACCES, EROFS
from pathlib import Path

import pytest

from events.disk import make_directory, taking
from events.errors import JournalFull


def test_directory_is_as_durable_as_what_will_lie_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut takes the directory with every acknowledged file in it."""
    synced: list[Path] = []
    fsync = os.fsync

    def seen(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", seen)
    make_directory(tmp_path / "data" / "spool")
    assert synced == [tmp_path, tmp_path / "data"]
    assert (tmp_path / "data" / "spool").stat().st_mode & 0o777 == 0o700
    make_directory(tmp_path / "data" / "spool")
    assert len(synced) == 2


def test_what_stands_there_and_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / "file")


def test_only_a_disk_that_takes_no_more_is_full(tmp_path: Path) -> None:
    with pytest.raises(JournalFull, match=f"{tmp_path} cannot grow"), taking(tmp_path):
        raise OSError(EROFS, os.strerror(EROFS))
    with pytest.raises(PermissionError), taking(tmp_path):
        raise OSError(EACCES, os.strerror(EACCES))
